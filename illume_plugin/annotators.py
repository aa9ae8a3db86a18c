"""Simulated annotators: they tick candidates of the picture world's tasks in place of a person.

They stand in for people in tests, benchmarks and `illume simulate`, and nowhere else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from illume_plugin.embedded import Reason, WorldTask, check, rationales
from illume_plugin.errors import SettingsError
from illume_plugin.identity import content_bits, wording
from illume_plugin.metrics import rouge_l

#: ILLUME's critic accepts a candidate from this ROUGE-L on (arXiv 2208.08241, the authors' code).
ROUGE_ACCEPTS = 0.7
#: A strict annotator stops ticking after so many.
STRICT_TICKS = 2

#: True, or at least not wrong, but no reason for the answer: what a lenient annotator lets pass.
_HARMLESS = frozenset({Reason.GENERIC, Reason.NO_SUPPORT})


class Critic(StrEnum):
    """What decides whether a candidate fits."""

    CHECKER = "checker"
    ROUGE = "rouge"


class Strictness(StrEnum):
    """How an annotator who uses the checker reads."""

    EXACT = "exact"  # ticks what fits
    LENIENT = "lenient"  # ticks also what is not wrong and supports nothing
    STRICT = "strict"  # ticks the first two on screen that fit


class Annotator(Protocol):
    """Somebody who ticks."""

    def ticks(self, task: WorldTask, texts: Sequence[str]) -> list[bool]:
        """Whether each candidate, in display order, is ticked."""


@dataclass(frozen=True, slots=True)
class CheckerAnnotator:
    """Ticks what the picture world's checker says."""

    strictness: Strictness = Strictness.EXACT

    def ticks(self, task: WorldTask, texts: Sequence[str]) -> list[bool]:
        """Whether each candidate, in display order, is ticked."""
        found = [check(task.scene, task.question, task.answer, text) for text in texts]
        ticked = [each.fits for each in found]
        if self.strictness is Strictness.LENIENT:
            return [fits or each.reason in _HARMLESS for fits, each in zip(ticked, found, strict=True)]
        if self.strictness is Strictness.STRICT:
            return [fits and sum(ticked[:row]) < STRICT_TICKS for row, fits in enumerate(ticked)]
        return ticked


@dataclass(frozen=True, slots=True)
class RougeAnnotator:
    """Ticks what is near enough to one written rationale of the task, without looking at the picture.

    The reference depends on the task and `seed` alone. Of the world's many ways to write a true
    rationale most are far from the one reference: this critic is precise and nearly blind.
    """

    seed: int = 0

    def reference(self, task: WorldTask) -> str:
        """The one rationale that candidates are compared with."""
        rng = random.Random(content_bits([self.seed, task.to_json()]))
        return rationales(task.scene, task.question, task.answer, rng)

    def ticks(self, task: WorldTask, texts: Sequence[str]) -> list[bool]:
        """Whether each candidate, in display order, is ticked."""
        reference = self.reference(task)
        return [rouge_l(text, reference) >= ROUGE_ACCEPTS for text in texts]


@dataclass(frozen=True, slots=True)
class SlippingAnnotator:
    """Another annotator whose hand slips: each tick, set or not, is the wrong one with probability `noise`.

    The same annotator slips at the same candidates whenever asked.
    """

    careful: Annotator
    noise: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise SettingsError(f"noise must be from 0 to 1, not {self.noise}.")

    def ticks(self, task: WorldTask, texts: Sequence[str]) -> list[bool]:
        """Whether each candidate, in display order, is ticked."""
        meant = self.careful.ticks(task, texts)
        return [tick != self._slips(task, text) for tick, text in zip(meant, texts, strict=True)]

    def _slips(self, task: WorldTask, text: str) -> bool:
        return content_bits([self.seed, task.to_json(), wording(text)]) < self.noise * 2**64


def team(
    number: int, critic: Critic, strictness: Sequence[Strictness], *, noise: float = 0.0, seed: int = 0
) -> list[Annotator]:
    """So many annotators, who take the kinds of strictness in turn and slip independently.

    Raises:
        SettingsError: noise is no probability, a kind of strictness would go unused, or the ROUGE critic,
            which knows no strictness, was given one.
    """
    if not strictness or len(strictness) > number:
        raise SettingsError(
            f"{len(strictness)} kinds of strictness cannot be shared among {number} annotators.",
            todo="Give at least one, and at most one for each annotator.",
        )
    if critic is Critic.ROUGE and any(each is not Strictness.EXACT for each in strictness):
        raise SettingsError(
            f"The ROUGE-L critic cannot be {', '.join(strictness)}.",
            why="It compares with one written rationale and knows no strictness.",
            todo="Use exact, or the checker as critic.",
        )
    members: list[Annotator] = []
    for member in range(number):
        own = content_bits([seed, "annotator", member], 48)
        careful: Annotator = (
            RougeAnnotator(own)
            if critic is Critic.ROUGE
            else CheckerAnnotator(strictness[member % len(strictness)])
        )
        members.append(SlippingAnnotator(careful, noise, own))
    return members
