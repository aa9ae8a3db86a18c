"""The token loop: prompts once, then all candidates of all tasks in one batch that shrinks as they end.

`generate` itself prepares everything (positions, masks, encoded pictures, logits processors) and then calls
a `Decoder` in place of its own loop, so that what an architecture does specially stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from illume_plugin.base_model.packed_products import packed_products
from illume_plugin.generation.continuation import Continuation, Prompts
from illume_plugin.generation.stopping import SamplingStopped, never

#: Chooses the next token of each row: scores (rows, vocabulary), step, index of each row -> (rows,).
Choose = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]

#: Rows leave when this share of the batch has ended; moving the others costs about one step's attention.
LEAVING = 1 / 8


def greedy(scores: torch.Tensor, step: int, rows: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
    """The likeliest token of each row."""
    return scores.argmax(dim=-1)


def generated(
    model: Any, batch: Mapping[str, torch.Tensor], decoder: Callable[..., torch.Tensor], **settings: Any
) -> torch.Tensor:
    """What `decoder` makes of the prompts of `batch`, prepared by `generate` with `settings`."""
    with packed_products(model):  # around all of it: pictures are encoded before the decoder is called
        found: torch.Tensor = model.generate(**batch, **settings, custom_generate=decoder)
        return found


@dataclass(frozen=True)
class Decoder:
    """Called by `generate` in place of its own loop; gives the new tokens, shape (rows, tokens).

    Attributes:
        copies: rows of each task; they lie together.
        choose: chooses the next tokens.
        end_ids: tokens that end a row; behind one, a row is filled with `pad_id`.
        shared: whether the rows of a task read one copy of its prompt, or each its own.
        rows: rows decoded at a time, at least one per task; None for all.
        stop: asked after every token; true ends the loop.
    """

    copies: int
    choose: Choose
    end_ids: Sequence[int]
    pad_id: int
    shared: bool = True
    rows: int | None = None
    stop: Callable[[], bool] = never

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,  # noqa: ARG002 - `generate` gives it; ends are found here
        generation_config: Any = None,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Compute the prompts, shape (tasks, columns), then their rows.

        Raises:
            PrefixUnsupported: `shared`, and this model cannot be decoded so.
            SamplingStopped: `stop` asked for it.
        """
        prompts = Prompts.compute(model, input_ids, model_kwargs)
        del model_kwargs  # pictures may be large
        tasks = len(input_ids)
        found = input_ids.new_full((tasks, self.copies, generation_config.max_new_tokens), self.pad_id)
        index = torch.arange(tasks * self.copies, device=input_ids.device).view(tasks, self.copies)
        at_once = self.copies if self.rows is None else max(1, self.rows // tasks)
        for start in range(0, self.copies, at_once):
            part = slice(start, start + at_once)
            continuation = Continuation(model, prompts, index[:, part].shape[1], shared=self.shared)
            with continuation.attention():
                self._decode(continuation, index[:, part].flatten(), found.flatten(0, 1), logits_processor)
        return found.flatten(0, 1)

    def _decode(
        self, continuation: Continuation, index: torch.Tensor, found: torch.Tensor, processors: Any
    ) -> None:
        """Fill the rows `index` of `found`."""
        ends = torch.tensor(self.end_ids, device=found.device)
        ended = torch.zeros_like(index, dtype=torch.bool)
        steps = found.shape[1]
        for step in range(steps):
            scores = continuation.logits
            if processors:
                scores = processors(torch.cat([continuation.prompt_ids, found[index, :step]], dim=1), scores)
            tokens = self.choose(scores, step, index).masked_fill(ended, self.pad_id)
            found[index, step] = tokens
            ended |= torch.isin(tokens, ends)
            left = len(ended) - int(ended.sum())
            if not left or step + 1 == steps:
                return
            if self.stop():
                raise SamplingStopped("Sampling was stopped.", why="Nobody waits for its result any more.")
            if len(ended) - left >= LEAVING * len(ended):
                staying = (~ended).nonzero()[:, 0]
                continuation.keep(staying)
                index, tokens, ended = index[staying], tokens[staying], ended[staying]
            continuation.advance(tokens)
