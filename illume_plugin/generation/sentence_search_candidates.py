"""Candidates by sentence search, with transformers: prompts and pictures in, found rationales out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean

import torch

from illume_plugin.base_model import BaseModel
from illume_plugin.generation.decoder import generated
from illume_plugin.generation.generator import Relevances, SampleRequest
from illume_plugin.generation.plan import SamplingPlan, SentenceSearch
from illume_plugin.generation.selfcheck import PLAIN, SHARED, bare_model, mode_of
from illume_plugin.generation.sentence_search import Extend, Found, search
from illume_plugin.generation.sentence_search_decoder import SentenceDecoder
from illume_plugin.generation.sentence_search_drawing import PlainSteps, SentenceDraw
from illume_plugin.generation.sentence_search_reading import SentenceReader
from illume_plugin.generation.tokens import encoded, generate_settings
from illume_plugin.generation.wordings import rationale_prompt
from illume_plugin.types import Candidate


@dataclass(frozen=True)
class SearchedTasks:
    """The search for several tasks at once, each with a tree for every wording of its prompt.

    Attributes:
        relevances: of texts to pictures (R_I); None: the likelihood ranks alone.
        rows: rows decoded at a time.
        stop: asked after every token.
    """

    base: BaseModel
    requests: Sequence[SampleRequest]
    plan: SamplingPlan
    how: SentenceSearch
    adapter: str | None
    relevances: Relevances | None
    rows: int
    stop: Callable[[], bool]

    def candidates(self) -> list[list[Candidate | None]]:
        """What was found for each task, the best of each prompt first; None for a sentence without an end.

        Raises:
            SamplingStopped: `stop` said so.
            TaskError: a task's texts are too long for the base model, or hold no words.
            ImageError: a picture cannot be read.
        """
        for request in self.requests:
            self.base.prompts.must_hold_words(request.task.question, request.task.answer)
        found: list[Found] = []

        def run(extend: Extend) -> None:
            found[:] = search(
                len(self._prompts),
                self.how,
                longest=self.plan.max_new_tokens,
                draws=self._draws,
                extend=extend,
                judge=self._judge,
            )

        self._generate(run)
        of_trees = [self._read(tree, each) for tree, each in enumerate(found)]
        each_task = len(self.plan.wordings)
        return [
            [one for some in of_trees[first : first + each_task] for one in some]
            for first in range(0, len(of_trees), each_task)
        ]

    @cached_property
    def _prompts(self) -> list[str]:
        return [
            rationale_prompt(self.base.prompts, wording, request.task)
            for request in self.requests
            for wording in self.plan.wordings
        ]

    @cached_property
    def _reader(self) -> SentenceReader:
        return SentenceReader(self.base.processor.tokenizer, frozenset(self.base.end_ids))

    def _request(self, tree: int) -> SampleRequest:
        return self.requests[tree // len(self.plan.wordings)]

    def _draws(self, tree: int, said: Sequence[int]) -> list[tuple[float, int]]:
        wording = tree % len(self.plan.wordings)
        return self.plan.sentence_seeds(self._request(tree).task, self.adapter, wording, said)

    def _judge(self, told: Sequence[tuple[int, str]]) -> list[float | None]:
        if self.relevances is None:
            return [None] * len(told)
        images = [self._request(tree).image for tree, _ in told]
        texts: dict[Path, list[str]] = {}
        for image, (_, text) in zip(images, told, strict=True):
            texts.setdefault(image, []).append(text)
        values = dict(zip(texts, map(iter, self.relevances(list(texts), list(texts.values()))), strict=True))
        return [fmean(value) if (value := next(values[image])) else None for image in images]

    def _generate(self, run: Callable[[Extend], None]) -> None:
        mode = mode_of(self.base)
        drawing = partial(
            SentenceDraw,
            reader=self._reader,
            end_ids=self.base.end_ids,
            top_k=self.plan.top_k(len(self.base.processor.tokenizer)),
            longest=self.plan.max_new_tokens,
            device=self.base.device,
        )
        settings = generate_settings(self.base, self.plan.max_new_tokens, drawn=True)
        with self.base.adapters.using(self.adapter) as switched, torch.inference_mode():
            model = bare_model(switched)
            if mode.startswith(PLAIN):
                alone = [self._encoded([tree]) for tree in range(len(self._prompts))]
                run(PlainSteps(model, alone, settings, drawing, self.stop))
                return
            decoder = SentenceDecoder(
                run, drawing, self.base.pad_id, shared=mode == SHARED, rows=self.rows, stop=self.stop
            )
            generated(model, self._encoded(range(len(self._prompts))), decoder, **settings)

    def _encoded(self, trees: Sequence[int]) -> dict[str, torch.Tensor]:
        prompts = [self._prompts[tree] for tree in trees]
        images = [self._request(tree).image for tree in trees]
        return encoded(self.base, prompts, images, steps=self.plan.max_new_tokens)

    def _read(self, tree: int, found: Found) -> list[Candidate | None]:
        candidates: list[Candidate | None] = [
            Candidate(
                self._reader.text(path.said).strip(),
                path.nodes[-1].temperature,
                path.nodes[-1].seed,
                self._prompts[tree],
                searched=path.report(side),
            )
            for path, side in found.paths
        ]
        return [*candidates, *([None] * found.unfinished)]
