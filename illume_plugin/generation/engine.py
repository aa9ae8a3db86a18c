"""Sampling and answering with transformers, on one base model and any number of named adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from illume_plugin.base_model import BaseModel
from illume_plugin.errors import SettingsError
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.generator import EngineFacts, Relevances, SampleRequest
from illume_plugin.generation.groups import in_groups
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.selfcheck import SHARED, mode_of
from illume_plugin.generation.sentence_search_candidates import SearchedTasks
from illume_plugin.generation.stopping import never
from illume_plugin.generation.tokens import new_tokens
from illume_plugin.generation.wordings import prompt_of
from illume_plugin.quantization import Quantization
from illume_plugin.scoring import ScoreRequest, facts_of, score
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

    def facts(self) -> EngineFacts:
        """How rows are decoded and scored by this base model."""
        mode, scoring = self.mode, facts_of(self.base)
        concerns = [mode] if mode != SHARED else []
        concerns += [f"scoring {scoring.why}"] if scoring.why else []
        with self.base.adapters.using(None) as model:
            dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        return EngineFacts(
            decoding=mode,
            scoring=scoring.mode.value,
            blind=scoring.blind.value,
            place=f"{self.base.device}, {dtype}" + self._bits(),
            concern="; ".join(concerns),
        )

    def _bits(self) -> str:
        kind = self.base.quantization
        return "" if kind is Quantization.NONE else f", language blocks in {kind.value}"

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

        A draw that did not end within `plan.max_new_tokens` is None. A plan with a search gives what `search`
        finds by the model's likelihood alone.

        Args:
            stop: asked after every token of a batch.

        Raises:
            SamplingStopped: `stop` said so; nothing is left of what was drawn.
            TaskError: a task's texts are too long for the base model, or hold no words.
            ImageError: a picture cannot be read.
        """
        for request in requests:
            self.base.prompts.must_hold_words(request.task.question, request.task.answer)
        if plan.search:
            return self.search(requests, plan, adapter=adapter, stop=stop)

        def work(group: Sequence[SampleRequest], rows: int) -> Iterator[list[Candidate | None]]:
            return self._draw(group, plan, adapter, rows, stop)

        return list(in_groups(requests, work, rows=self.rows, per_item=plan.size))

    def search(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        relevances: Relevances | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        """Search sentence by sentence (`sentence_search`); see `SentenceSearcher.search`.

        The model is held from the first sentence of a batch to the last one, `relevances` included. In the
        mode "plain generate" every step reads its picture and path again, which is slow.

        Raises:
            SettingsError: the plan has no search.
            SamplingStopped: `stop` said so; nothing is left of what was found.
        """
        how = plan.search
        if how is None:
            raise SettingsError(
                "The sampling plan has no search.", todo="Set ILLUME_STRATEGY=sentence_search."
            )

        def work(group: Sequence[SampleRequest], rows: int) -> Iterator[list[Candidate | None]]:
            tasks = SearchedTasks(self.base, group, plan, how, adapter, relevances, rows, stop)
            return iter(tasks.candidates())

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

        Every text is scored behind the base model's own prompt, also one that was drawn behind another
        wording (`SamplingPlan.suffixes`): figures of one task can be compared.

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
        asked = [(request, wording) for request in group for wording in range(len(plan.wordings))]
        prompts = [prompt_of(self.base.prompts, plan.wordings[w], request) for request, w in asked]
        draws = [plan.seeds(request.task, adapter, w, wish=request.wish) for request, w in asked]
        flat = [draw for task_draws in draws for draw in task_draws]
        draw = SeededDraw(
            [seed for _, seed in flat],
            [temperature for temperature, _ in flat],
            top_k=plan.top_k(len(self.base.processor.tokenizer)),
            steps=plan.max_new_tokens,
            device=self.base.device,
        )
        tokens = new_tokens(
            self.base,
            prompts,
            [request.image for request, _ in asked],
            adapter=adapter,
            steps=plan.max_new_tokens,
            rows=rows,
            copies=plan.copies,
            draw=draw,
            stop=stop,
        )
        told = [(prompt, *each) for prompt, some in zip(prompts, draws, strict=True) for each in some]
        candidates = (
            Candidate(self._text(row), temperature, seed, prompt) if self._ended(row) else None
            for (prompt, temperature, seed), row in zip(told, tokens, strict=True)
        )
        for _ in group:
            yield list(islice(candidates, plan.size))

    def _ended(self, row: Sequence[int]) -> bool:
        return any(token in self.base.end_ids for token in row)

    def _text(self, row: Sequence[int]) -> str:
        """The words before the first end token."""
        stop = next((i for i, token in enumerate(row) if token in self.base.end_ids), len(row))
        words = self.base.processor.tokenizer.decode(row[:stop], skip_special_tokens=True)
        return str(words).strip()
