"""A sentence search in `generate`'s place: prompts and pictures are computed once, then continued each time.

A step begins with its paths, a row each: their tokens are told again behind the computed prompt. Where a path
ends, its row becomes as many rows as sentences are drawn behind it. Paths differ in length, so some rows are
still being told what others go on from. To keep the keys and values of a path between two steps would spare
that; it would also leave gaps between the columns of rows, which a sliding window counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from illume_plugin.generation.continuation import Continuation, Prompts
from illume_plugin.generation.decoder import LEAVING
from illume_plugin.generation.sentence_search import Extend, Sentence, Step
from illume_plugin.generation.sentence_search_drawing import SentenceDraw
from illume_plugin.generation.stopping import SamplingStopped, never

#: A row: the step it belongs to, and which draw it is; None while it is told its path.
_Row = tuple[int, int | None]


@dataclass(frozen=True)
class SentenceDecoder:
    """Called by `generate` in place of its own loop.

    Attributes:
        search: is given the way to draw next sentences, and draws with it as long as it likes.
        drawing: what chooses the tokens of some steps.
        pad_id: what rows are told when they are done.
        shared: whether the rows of a task read one copy of its prompt, or each its own.
        rows: rows decoded at a time.
        stop: asked after every token; true ends the search.
    """

    search: Callable[[Extend], None]
    drawing: Callable[[Sequence[Step]], SentenceDraw]
    pad_id: int
    shared: bool
    rows: int
    stop: Callable[[], bool] = never

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any = None,
        stopping_criteria: Any = None,  # noqa: ARG002 - `generate` gives it; ends are found here
        generation_config: Any = None,  # noqa: ARG002
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Compute the prompts, shape (trees, columns), then search; gives the prompts back.

        Raises:
            PrefixUnsupported: `shared`, and this model cannot be decoded so.
            SamplingStopped: `stop` asked for it.
        """
        prompts = Prompts.compute(model, input_ids, model_kwargs)
        del model_kwargs  # pictures may be large
        self.search(partial(self._extend, model, prompts, logits_processor))
        return input_ids

    def _extend(
        self, model: Any, prompts: Prompts, processors: Any, steps: Sequence[Step]
    ) -> list[list[Sentence | None]]:
        parts = _parts(steps, max(1, self.rows))
        flat = iter([one for part in parts for one in self._part(model, prompts, processors, part)])
        return [list(islice(flat, len(step.draws))) for step in steps]

    def _part(
        self, model: Any, prompts: Prompts, processors: Any, steps: Sequence[Step]
    ) -> list[Sentence | None]:
        """The sentences of some steps, one after the other."""
        continuation = Continuation(model, prompts, 1, shared=self.shared)
        with continuation.attention():
            trees = torch.tensor([step.tree for step in steps], device=prompts.ids.device)
            continuation.keep(trees)
            return self._decode(continuation, prompts.logits[trees], processors, steps)

    def _decode(
        self, continuation: Continuation, scores: torch.Tensor, processors: Any, steps: Sequence[Step]
    ) -> list[Sentence | None]:
        draw = self.drawing(steps)
        rows: list[_Row] = [(index, None) for index in range(len(steps))]
        said = continuation.prompt_ids
        position = 0
        while True:
            kept = _next_rows(rows, steps, draw, position)
            if [source for source, _ in kept] != list(range(len(rows))):
                sources = torch.tensor([source for source, _ in kept], device=scores.device)
                continuation.keep(sources)
                scores, said = scores[sources], said[sources]
            rows = [row for _, row in kept]
            possible = processors(said, scores) if processors else scores
            tokens = self._tokens(possible, rows, steps, draw, position)
            if all(draw.done):
                return draw.sentences
            if self.stop():
                raise SamplingStopped("Sampling was stopped.", why="Nobody waits for its result any more.")
            if processors:
                said = torch.cat([said, tokens[:, None]], dim=1)
            continuation.advance(tokens)
            scores = continuation.logits
            position += 1

    def _tokens(
        self,
        scores: torch.Tensor,
        rows: Sequence[_Row],
        steps: Sequence[Step],
        draw: SentenceDraw,
        position: int,
    ) -> torch.Tensor:
        """The next token of every row, told or drawn; shape (rows,)."""
        told = [steps[step].said[position] if index is None else self.pad_id for step, index in rows]
        tokens = torch.tensor(told, device=scores.device)
        drawn = [
            (row, index) for row, (_, index) in enumerate(rows) if index is not None and not draw.done[index]
        ]
        if drawn:
            places = torch.tensor([row for row, _ in drawn], device=scores.device)
            tokens[places] = draw(scores[places], position, [index for _, index in drawn])
        return tokens


def _next_rows(
    rows: Sequence[_Row], steps: Sequence[Step], draw: SentenceDraw, position: int
) -> list[tuple[int, _Row]]:
    """The rows that go on, each with the index of the row that it comes from, ascending.

    Paths that end here become their draws. Rows that are done leave when many are, or when others move.
    """
    forking = [index is None and len(steps[step].said) == position for step, index in rows]
    done = [index is not None and draw.done[index] for _, index in rows]
    if not any(forking) and sum(done) < LEAVING * len(rows):
        return list(enumerate(rows))
    kept: list[tuple[int, _Row]] = []
    for source, (step, index) in enumerate(rows):
        if forking[source]:
            first = draw.firsts[step]
            kept += [(source, (step, first + i)) for i in range(len(steps[step].draws))]
        elif not done[source]:
            kept.append((source, (step, index)))
    return kept


def _parts(steps: Sequence[Step], rows: int) -> Iterator[list[Step]]:
    """The steps in parts of at most so many draws; one with more is in several parts."""
    part: list[Step] = []
    room = rows
    for step in steps:
        draws = list(step.draws)
        while draws:
            part.append(replace(step, draws=draws[:room]))
            room -= len(part[-1].draws)
            draws = draws[len(part[-1].draws) :]
            if not room:
                yield part
                part, room = [], rows
    if part:
        yield part
