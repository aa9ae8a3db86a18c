"""Cleaning the draws of one task: what is left is worth scoring, and what is gone says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from illume_plugin.identity import storable, wording
from illume_plugin.selection.degenerate import dangles, ends_a_sentence, has_markup, loops
from illume_plugin.selection.similarity import same_but_for_spelling, similarities
from illume_plugin.types import Candidate

#: From this likeness on (`similarities`) two texts are compared word by word, and are one text where they
#: differ in articles and spelling only. Likeness alone does not do [ours]: "left" for "right" is one word of
#: many, and of the embedded model's draws at 0.95 or more a quarter had one that fits and one that does not.
NEAR = 0.7


class Reason(StrEnum):
    """Why a draw is not shown."""

    UNFINISHED = "unfinished"  # no end within the token limit
    EMPTY = "empty"
    MARKUP = "markup"  # prompt markup inside
    LOOP = "loop"
    CUT = "cut off"
    REPEATED = "repeated"  # the same wording as another
    NEAR = "nearly repeated"
    NOT_CHOSEN = "not chosen"  # good, but others were better or said more that is new


@dataclass(frozen=True, slots=True)
class Drop:
    """A draw that went and why; `candidate` is None where the draw did not end."""

    reason: Reason
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Draws of one task, sorted out; every draw is in one of the two."""

    kept: tuple[Candidate, ...]
    dropped: tuple[Drop, ...]


def counts(dropped: Iterable[Drop]) -> Mapping[str, int]:
    """Draws gone by reason."""
    return dict(sorted(Counter(drop.reason.value for drop in dropped).items()))


def clean(draws: Sequence[Candidate | None], *, near: float = NEAR) -> Cleaned:
    """Sort out the draws of one task.

    Gone are: what did not end, is empty, holds prompt markup or loops; all but one of each wording
    (`identity.wording`) and of texts that differ in articles and spelling only, where one that ends a
    sentence, then the one drawn at the lowest temperature, stays; and what breaks off: in the middle of a
    word, or without a sentence's end where at least half of the task's wordings have one.

    The outcome depends on the draws, not on their order. White space in the kept texts is tidied.

    Args:
        near: likeness from which two texts are compared word by word, in (0, 1].
    """
    dropped = [Drop(Reason.UNFINISHED, None) for draw in draws if draw is None]
    left: list[Candidate] = []
    for candidate in sorted((_tidy(draw) for draw in draws if draw is not None), key=_first):
        reason = _defect(candidate.text)
        if reason is None:
            left.append(candidate)
        else:
            dropped.append(Drop(reason, candidate))
    for sieve in (_repeated, lambda some: _near(some, near), _cut):
        left, gone = sieve(left)
        dropped += gone
    return Cleaned(tuple(left), tuple(dropped))


def _tidy(candidate: Candidate) -> Candidate:
    return replace(candidate, text=" ".join(storable(candidate.text).split()))


def _first(candidate: Candidate) -> tuple[bool, float, str, int, str]:
    """Of texts that are as good as the same, the one that sorts first stays."""
    ended = ends_a_sentence(candidate.text)
    return not ended, candidate.temperature, candidate.text, candidate.seed, candidate.prompt


def _defect(text: str) -> Reason | None:
    if not wording(text):
        return Reason.EMPTY
    if has_markup(text):
        return Reason.MARKUP
    if loops(text):
        return Reason.LOOP
    return Reason.CUT if dangles(text) else None


def _repeated(candidates: list[Candidate]) -> tuple[list[Candidate], list[Drop]]:
    kept: dict[str, Candidate] = {}
    gone = []
    for candidate in candidates:
        if kept.setdefault(wording(candidate.text), candidate) is not candidate:
            gone.append(Drop(Reason.REPEATED, candidate))
    return list(kept.values()), gone


def _cut(candidates: list[Candidate]) -> tuple[list[Candidate], list[Drop]]:
    ended = [ends_a_sentence(candidate.text) for candidate in candidates]
    if 2 * sum(ended) < len(ended):
        return candidates, []  # this model writes no full stops
    kept = [candidate for candidate, whole in zip(candidates, ended, strict=True) if whole]
    gone = [
        Drop(Reason.CUT, candidate) for candidate, whole in zip(candidates, ended, strict=True) if not whole
    ]
    return kept, gone


def _near(candidates: list[Candidate], near: float) -> tuple[list[Candidate], list[Drop]]:
    alike = similarities([candidate.text for candidate in candidates]) >= near
    kept: list[int] = []
    gone = []
    for index, candidate in enumerate(candidates):
        close = (kept[place] for place in np.flatnonzero(alike[index, kept]))
        if any(same_but_for_spelling(candidate.text, candidates[other].text) for other in close):
            gone.append(Drop(Reason.NEAR, candidate))
        else:
            kept.append(index)
    return [candidates[index] for index in kept], gone
