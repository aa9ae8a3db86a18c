"""What the rest of the program asks of anything that samples candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.types import Candidate, Task


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A task and its picture as a local file."""

    task: Task
    image: Path


class Generator(Protocol):
    """Samples candidates with named adapters; None is the base model without an adapter."""

    @property
    def rows(self) -> int:
        """Texts that are sampled at a time."""

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter beside the others."""

    def has(self, name: str) -> bool:
        """Whether an adapter of that name is loaded."""

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        """Every draw of the plan for each task, unscored and in its order; None: it did not end.

        Args:
            stop: asked between two tokens.

        Raises:
            SamplingStopped: `stop` said so.
        """

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
    ) -> list[list[Candidate]]:
        """The candidates of each task with their scores by the adapter; `blind`: i2c and pmi too."""

    def answer(self, requests: Sequence[SampleRequest], *, adapter: str | None = None) -> list[str]:
        """The model's own answer to each question."""
