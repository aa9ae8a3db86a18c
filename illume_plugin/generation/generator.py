"""What the rest of the program asks of anything that samples candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.types import Candidate, Task, Wish


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A task and its picture as a local file.

    Attributes:
        wish: draw other rationales behind what was wished for; scores are of the task itself all the same.
    """

    task: Task
    image: Path
    wish: Wish | None = None

    @property
    def conversation(self) -> Wish | None:
        """The wish that is put to the model; None where the task itself is asked, be it with other noise."""
        return self.wish if self.wish and self.wish.text else None


#: Relevance of every sentence of every text to its picture (`relevance.ImageTextEncoder.relevances`).
Relevances = Callable[[Sequence[Path], Sequence[Sequence[str]]], list[list[tuple[float, ...]]]]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """How a generator works, in words for a person (`illume doctor`).

    Attributes:
        decoding: how candidates are drawn.
        scoring: how they are scored.
        blind: what stands for "without the picture" when they are scored.
        place: device and number format, or the name of the model on a server.
        concern: what is slower or less than it could be, and why; empty where nothing is.
    """

    decoding: str
    scoring: str
    blind: str
    place: str
    concern: str = ""


class Generator(Protocol):
    """Samples candidates with named adapters; None is the base model without an adapter."""

    @property
    def rows(self) -> int:
        """Texts that are sampled at a time."""

    def facts(self) -> EngineFacts:
        """How it works; found out by trying, which takes a moment."""

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
            TaskError, ImageError: one of the tasks cannot be used; asking for each alone tells which.
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


@runtime_checkable
class SentenceSearcher(Protocol):
    """A generator that can search sentence by sentence."""

    def search(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        relevances: Relevances | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        """What a search finds for each task, each with what the search made of it (`Candidate.searched`).

        Args:
            plan: with a search.
            relevances: rank sentences by them too; without, the model's own likelihood ranks alone.
            stop: asked between two tokens.

        Returns:
            Candidates, the best of each prompt first; None for a sentence that did not end in time.

        Raises:
            SamplingStopped: `stop` said so.
        """
