"""Draws next sentences behind paths, many rows at a time, in whichever way a model is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.sentence_search import Sentence, Step
from illume_plugin.generation.sentence_search_reading import GrowingSentence, SentenceReader
from illume_plugin.generation.stopping import SamplingStopped


class SentenceDraw:
    """Chooses the tokens of next sentences and notes what becomes of each.

    A draw's token at position t behind the prompt comes from its own t-th uniform number. A path that goes on
    does so with words: whether it ends was drawn with the sentence before, behind it.

    Args:
        steps: what is drawn; a draw's index counts through all of them.
        top_k: number of tokens kept.
        longest: tokens of a rationale at most.

    Attributes:
        firsts: index of the first draw of each step.
        done: whether there is nothing more to draw, of each draw.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        reader: SentenceReader,
        *,
        end_ids: Sequence[int],
        top_k: int,
        longest: int,
        device: torch.device | str,
    ) -> None:
        flat = [(step, *draw) for step in steps for draw in step.draws]
        self.firsts = [sum(len(step.draws) for step in steps[:i]) for i in range(len(steps))]
        self.done = [False] * len(flat)
        self._growing = [GrowingSentence(reader, step.limit) for step, _, _ in flat]
        self._behind = [len(step.said) for step, _, _ in flat]
        self._ends = torch.tensor(list(end_ids), dtype=torch.long, device=device)
        self._draw = SeededDraw(
            [seed for _, _, seed in flat],
            [temperature for _, temperature, _ in flat],
            top_k=top_k,
            steps=longest,
            device=device,
        )

    def __call__(self, scores: torch.Tensor, position: int, draws: Sequence[int]) -> torch.Tensor:
        """The next token of some draws that are not done.

        Args:
            scores: unnormalised log-probabilities, shape (draws, vocabulary).
            position: tokens behind the prompt so far, the same for all.
            draws: their indices.

        Returns:
            Token ids, shape (draws,).
        """
        scores = scores.float()
        going_on = [row for row, draw in enumerate(draws) if position and self._behind[draw] == position]
        possible = scores
        if going_on:
            possible = scores.clone()
            possible[torch.tensor(going_on, device=scores.device)[:, None], self._ends] = -torch.inf
        tokens = self._draw(possible, position, torch.tensor(draws, device=scores.device))
        logprobs = scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(dim=-1)
        for draw, token, logprob in zip(draws, tokens.tolist(), logprobs.tolist(), strict=True):
            self.done[draw] = self._growing[draw].add(token, logprob)
        return tokens

    @property
    def sentences(self) -> list[Sentence | None]:
        """The sentence of every draw; None: it did not end in time."""
        return [growing.sentence for growing in self._growing]


@dataclass(frozen=True)
class PlainSteps:
    """Draws with plain `generate`, for models whose computed prompts cannot be continued.

    Every step reads picture and prompt again, one path at a time, and all its rows are told the path token by
    token: right for every model, and slow. (Read at once with its prompt, a path would be something else to
    models that read prompts in both directions.)

    Attributes:
        model: the transformers model.
        prompts: what the processor gives for the prompt of each tree, one row each.
        settings: of `generate`.
        drawing: what chooses the tokens of some steps.
        stop: asked after every token.
    """

    model: Any
    prompts: Sequence[dict[str, torch.Tensor]]
    settings: dict[str, Any]
    drawing: Callable[[Sequence[Step]], SentenceDraw]
    stop: Callable[[], bool]

    def __call__(self, steps: Sequence[Step]) -> list[list[Sentence | None]]:
        """The sentences of each step.

        Raises:
            SamplingStopped: `stop` said so.
        """
        return [self._step(step) for step in steps]

    def _step(self, step: Step) -> list[Sentence | None]:
        draw = self.drawing([step])
        self.model.generate(
            **self.prompts[step.tree],
            **{**self.settings, "max_new_tokens": len(step.said) + step.limit},
            num_return_sequences=len(step.draws),
            logits_processor=LogitsProcessorList([_Telling(draw, step.said)]),
            stopping_criteria=StoppingCriteriaList([_Done(draw, self.stop)]),
        )
        return draw.sentences


class _Telling(LogitsProcessor):  # type: ignore[misc]
    """Leaves one token as the only possible one: that of the path, then the one that is drawn."""

    def __init__(self, draw: SentenceDraw, said: Sequence[int]) -> None:
        self._draw, self._said = draw, said
        self._position = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Scores of shape (rows, vocabulary): 0 for one token of each row, -inf for the others."""
        tokens = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
        if self._position < len(self._said):
            tokens += self._said[self._position]
        else:
            going = [row for row, done in enumerate(self._draw.done) if not done]
            tokens[going] = self._draw(scores[going], self._position, going)
        self._position += 1
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


class _Done(StoppingCriteria):  # type: ignore[misc]
    """Ends the rows whose sentence has ended."""

    def __init__(self, draw: SentenceDraw, stop: Callable[[], bool]) -> None:
        self._draw, self._stop = draw, stop

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: ARG002
        """Whether each row is done.

        Raises:
            SamplingStopped: `stop` said so.
        """
        if not all(self._draw.done) and self._stop():
            raise SamplingStopped("Sampling was stopped.", why="Nobody waits for its result any more.")
        return torch.tensor(self._draw.done, device=input_ids.device)
