"""A generator without torch: it says the same about every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from illume_plugin.generation.generator import EngineFacts, SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.types import Candidate


class SayingGenerator:
    """Says three sentences about any task; tells which adapter said them. Obviously right."""

    rows = 60

    def __init__(self) -> None:
        self.adapters: set[str] = set()
        self.calls: list[list[int]] = []

    def facts(self) -> EngineFacts:
        return EngineFacts("sayings", "none", "none", "nowhere")

    def load_adapter(self, name: str, folder: Path) -> None:
        self.adapters.add(name)

    def has(self, name: str) -> bool:
        return name in self.adapters

    def drop_adapter(self, name: str) -> None:
        self.adapters.discard(name)

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        self.calls.append([request.task.task_id for request in requests])
        return [
            [
                Candidate(text=f"{request.task.answer} reason {k} by {adapter}", temperature=0.5, seed=k)
                for k in range(3)
            ]
            for request in requests
        ]

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
    ) -> list[list[Candidate]]:
        return [list(some) for some in candidates]

    def answer(self, requests: Sequence[SampleRequest], *, adapter: str | None = None) -> list[str]:
        return [request.task.answer for request in requests]
