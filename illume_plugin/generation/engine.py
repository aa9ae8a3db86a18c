"""Sampling and answering with transformers, on one base model and any number of named adapters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import LogitsProcessorList

from illume_plugin.base_model import BaseModel, encode_prompts, open_image
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.scoring import logprob_mean
from illume_plugin.types import Candidate

#: Longer answers than this are cut.
MAX_ANSWER_TOKENS = 32

# Whatever a model's own generation settings say, we draw from its plain distribution.
_PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}


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
        """Sample candidates for every task, conditioned on the task's given answer.

        Texts are stripped; empty ones, ones that did not end and repetitions are dropped, so that a task
        may get fewer than `plan.size`, even none. Each is scored by the adapter that sampled it. Which
        `plan.limit` of them are shown is decided where they are arranged.

        The same task, adapter and plan give the same candidates, whatever else is in `requests` (up to
        rounding, which differs between batch shapes).
        """
        drawn = self.draw(requests, plan, adapter=adapter)
        return [
            self._scored(request, _distinct(draw for draw in draws if draw), adapter)
            for request, draws in zip(requests, drawn, strict=True)
        ]

    def draw(
        self, requests: Sequence[SampleRequest], plan: SamplingPlan, *, adapter: str | None = None
    ) -> list[list[Candidate | None]]:
        """Every draw of the plan for each task, in the plan's order, as it came: repeated, empty, unscored.

        A draw that did not end within `plan.max_new_tokens` is None.
        """
        return [
            draws
            for group in _groups(requests, max(1, self.rows // plan.size))
            for draws in self._draw(group, plan, adapter)
        ]

    def answer(self, requests: Sequence[SampleRequest], *, adapter: str | None = None) -> list[str]:
        """The answer that the model gives by itself (greedily) to each question."""
        answers: list[str] = []
        for group in _groups(requests, self.rows):
            prompts = [self.base.prompts.answer(request.task.question) for request in group]
            tokens = self._generate(
                group, prompts, adapter, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS
            )
            answers += [self._text(row) for row in tokens]
        return answers

    def _draw(
        self, group: Sequence[SampleRequest], plan: SamplingPlan, adapter: str | None
    ) -> Iterator[list[Candidate | None]]:
        prompts = [self.base.prompts.rationale(r.task.question, r.task.answer) for r in group]
        draws = [plan.seeds(request.task, adapter) for request in group]
        flat = [draw for task_draws in draws for draw in task_draws]
        tokens = self._generate(
            group,
            prompts,
            adapter,
            do_sample=True,
            num_return_sequences=plan.size,
            max_new_tokens=plan.max_new_tokens,
            draw=SeededDraw(
                [seed for _, seed in flat],
                [temperature for temperature, _ in flat],
                top_k=plan.top_k(len(self.base.processor.tokenizer)),
                steps=plan.max_new_tokens,
            ),
        )
        rows = iter(tokens)
        for prompt, task_draws in zip(prompts, draws, strict=True):
            yield [
                Candidate(self._text(row), temperature, seed, prompt) if self._ended(row) else None
                for (temperature, seed), row in zip(task_draws, islice(rows, plan.size), strict=True)
            ]

    def _generate(
        self,
        group: Sequence[SampleRequest],
        prompts: Sequence[str],
        adapter: str | None,
        *,
        draw: SeededDraw | None = None,
        **settings: object,
    ) -> list[list[int]]:
        """New tokens of every row, in the order of `group`, the rows of one task together."""
        batch = encode_prompts(self.base.prompts, prompts, [open_image(request.image) for request in group])
        moved = {key: value.to(self.base.device) for key, value in batch.items()}
        with self.base.adapters.using(adapter) as model, torch.inference_mode():
            output = model.generate(
                **moved,
                **(_PLAIN if draw else {"repetition_penalty": 1.0}),
                **settings,
                logits_processor=LogitsProcessorList([draw] if draw else []),
                eos_token_id=list(self.base.end_ids),
                pad_token_id=self.base.pad_id,
            )
        rows: list[list[int]] = output[:, batch["input_ids"].shape[1] :].tolist()
        return rows

    def _ended(self, row: Sequence[int]) -> bool:
        return any(token in self.base.end_ids for token in row)

    def _text(self, row: Sequence[int]) -> str:
        """The words before the first end token."""
        stop = next((i for i, token in enumerate(row) if token in self.base.end_ids), len(row))
        words = self.base.processor.tokenizer.decode(row[:stop], skip_special_tokens=True)
        return str(words).strip()

    def _scored(
        self, request: SampleRequest, drawn: Sequence[Candidate], adapter: str | None
    ) -> list[Candidate]:
        task = request.task
        texts = [candidate.text for candidate in drawn]
        scores = logprob_mean(self.base, request.image, task.question, task.answer, texts, adapter=adapter)
        return [
            Candidate(c.text, c.temperature, c.seed, c.prompt, score)
            for c, score in zip(drawn, scores, strict=True)
        ]


def _groups(requests: Sequence[SampleRequest], size: int) -> Iterator[Sequence[SampleRequest]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


def _distinct(drawn: Iterable[Candidate]) -> list[Candidate]:
    """The first of every text; letter case and spacing make no difference. Blank texts are dropped."""
    seen: dict[str, Candidate] = {}
    for candidate in drawn:
        seen.setdefault(" ".join(candidate.text.casefold().split()), candidate)
    seen.pop("", None)
    return list(seen.values())
