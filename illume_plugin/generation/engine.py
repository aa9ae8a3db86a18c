"""Sampling and answering with transformers, on one base model and any number of named adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from illume_plugin.base_model import BaseModel
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.groups import in_groups
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.selfcheck import mode_of
from illume_plugin.generation.stopping import never
from illume_plugin.generation.tokens import new_tokens
from illume_plugin.scoring import ScoreRequest, score
from illume_plugin.selection import clean
from illume_plugin.types import Candidate

#: Longer answers than this are cut.
MAX_ANSWER_TOKENS = 32


@dataclass(frozen=True)
class TransformersGenerator:
    """Samples in this process.

    Threads may share it: the base model's lock lets one forward pass at a time through, and adapters
    are loaded and switched under the same lock.

    Attributes:
        rows: sequences generated at a time; more is faster and takes more memory.
    """

    base: BaseModel
    rows: int = 120

    @property
    def mode(self) -> str:
        """How rows are decoded: "shared prefix", "repeated cache", or "plain generate: " and the reason.

        Found out at the first call by comparing with transformers' own `generate`, which takes a moment.
        """
        return mode_of(self.base)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load the adapter in `folder` beside the others.

        Raises:
            ModelError: it is damaged or does not fit; the others go on.
        """
        self.base.adapters.load(name, folder)

    def has(self, name: str) -> bool:
        """Whether an adapter of that name is loaded."""
        return name in self.base.adapters.names

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""
        self.base.adapters.drop(name)

    def sample(
        self, requests: Sequence[SampleRequest], plan: SamplingPlan, *, adapter: str | None = None
    ) -> list[list[Candidate]]:
        """Sample candidates for every task, conditioned on the task's given answer: drawn, cleaned, scored.

        A task may get fewer than `plan.size`, even none (`selection.clean`). Which `plan.limit` of them are
        shown is decided by `proposals`.

        The same task, adapter and plan give the same candidates, whatever else is in `requests` (up to
        rounding, which differs between batch shapes).
        """
        drawn = self.draw(requests, plan, adapter=adapter)
        return self.score(requests, [clean(draws).kept for draws in drawn], adapter=adapter)

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        """Every draw of the plan for each task, in the plan's order, as it came: repeated, empty, unscored.

        A draw that did not end within `plan.max_new_tokens` is None.

        Args:
            stop: asked after every token of a batch.

        Raises:
            SamplingStopped: `stop` said so; nothing is left of what was drawn.
        """

        def work(group: Sequence[SampleRequest], rows: int) -> Iterator[list[Candidate | None]]:
            return self._draw(group, plan, adapter, rows, stop)

        return list(in_groups(requests, work, rows=self.rows, per_item=plan.size))

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
    ) -> list[list[Candidate]]:
        """The candidates of each task with their scores by the adapter (`scoring.score`).

        Args:
            candidates: of each of `requests`.
            blind: read the prompts without the picture too, for `i2c` and `pmi`.
        """
        wanted = [
            ScoreRequest(request.image, request.task.question, request.task.answer, [c.text for c in some])
            for request, some in zip(requests, candidates, strict=True)
        ]
        found = score(self.base, wanted, adapter=adapter, blind=blind)
        return [
            [candidate.with_scores(scores) for candidate, scores in zip(some, each, strict=True)]
            for some, each in zip(candidates, found, strict=True)
        ]

    def answer(self, requests: Sequence[SampleRequest], *, adapter: str | None = None) -> list[str]:
        """The answer that the model gives by itself (greedily) to each question."""

        def work(group: Sequence[SampleRequest], rows: int) -> Iterator[str]:
            prompts = [self.base.prompts.answer(request.task.question) for request in group]
            images = [request.image for request in group]
            tokens = new_tokens(
                self.base, prompts, images, adapter=adapter, steps=MAX_ANSWER_TOKENS, rows=rows
            )
            return map(self._text, tokens)

        return list(in_groups(requests, work, rows=self.rows, per_item=1))

    def _draw(
        self,
        group: Sequence[SampleRequest],
        plan: SamplingPlan,
        adapter: str | None,
        rows: int,
        stop: Callable[[], bool],
    ) -> Iterator[list[Candidate | None]]:
        prompts = [self.base.prompts.rationale(r.task.question, r.task.answer) for r in group]
        draws = [plan.seeds(request.task, adapter) for request in group]
        flat = [draw for task_draws in draws for draw in task_draws]
        draw = SeededDraw(
            [seed for _, seed in flat],
            [temperature for temperature, _ in flat],
            top_k=plan.top_k(len(self.base.processor.tokenizer)),
            steps=plan.max_new_tokens,
            device=self.base.device,
        )
        tokens = iter(
            new_tokens(
                self.base,
                prompts,
                [request.image for request in group],
                adapter=adapter,
                steps=plan.max_new_tokens,
                rows=rows,
                copies=plan.size,
                draw=draw,
                stop=stop,
            )
        )
        for prompt, task_draws in zip(prompts, draws, strict=True):
            yield [
                Candidate(self._text(row), temperature, seed, prompt) if self._ended(row) else None
                for (temperature, seed), row in zip(task_draws, islice(tokens, plan.size), strict=True)
            ]

    def _ended(self, row: Sequence[int]) -> bool:
        return any(token in self.base.end_ids for token in row)

    def _text(self, row: Sequence[int]) -> str:
        """The words before the first end token."""
        stop = next((i for i, token in enumerate(row) if token in self.base.end_ids), len(row))
        words = self.base.processor.tokenizer.decode(row[:stop], skip_special_tokens=True)
        return str(words).strip()
