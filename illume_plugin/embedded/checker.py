"""Judges a rationale the way a careful annotator would: is it true, and does it support the answer?

The checker is an exact parser of the world's sentences (grammar.py), so it judges wording only where it
cannot read it (malformed). It is the simulated annotator of tests and benchmarks; a person remains the
judge in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from illume_plugin.embedded.claims import Claim, Ones
from illume_plugin.embedded.grammar import normalise, parse
from illume_plugin.embedded.patterns import parse_patterns
from illume_plugin.embedded.questions import Count, Pattern, Question
from illume_plugin.embedded.scene import Scene
from illume_plugin.embedded.support import supports

#: Sentences that are fluent and say nothing about the picture: the shipped base model likes them.
GENERIC = (
    "Because I can see it in the picture.",
    "Because it looks like that.",
    "Because that is what the picture shows.",
    "Because you can tell at a glance.",
    "Because it is obvious.",
    "Because there are several objects in the picture.",
)
_GENERIC = frozenset(normalise(sentence) for sentence in GENERIC)

#: Kinds of question whose rationales may say what no other may -> how these are read.
_READERS: Mapping[type[Question], Callable[[str], tuple[Claim, ...] | None]] = {Pattern: parse_patterns}


class Reason(StrEnum):
    """Why a rationale fits, or the first thing that is wrong with it."""

    OK = "ok"
    WRONG_ANSWER = "wrong answer"
    GENERIC = "generic"
    MALFORMED = "malformed"
    FALSE = "false"
    NO_SUPPORT = "no support"


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on one rationale."""

    reason: Reason

    @property
    def fits(self) -> bool:
        """Whether an annotator should tick the rationale."""
        return self.reason is Reason.OK


def check(scene: Scene, question: Question, answer: str, rationale: str) -> Check:
    """Judge any text as a rationale for `answer`.

    A rationale fits if the answer is right, every claim is true, and the claims show all that the answer
    rests on and speak of nothing else (support.py has the rule for each kind of question).

    Raises:
        TaskError: the question has no answer in this scene. No text ever raises.
    """
    if answer.strip().lower() != question.answer(scene):
        return Check(Reason.WRONG_ANSWER)
    if normalise(rationale) in _GENERIC:
        return Check(Reason.GENERIC)
    claims = _READERS.get(type(question), parse)(rationale)
    if claims is None:
        return Check(Reason.MALFORMED)
    if not all(_holds(claim, scene, question) for claim in claims):
        return Check(Reason.FALSE)
    return Check(Reason.OK if supports(scene, question, claims) else Reason.NO_SUPPORT)


def _holds(claim: Claim, scene: Scene, question: Question) -> bool:
    """Whether the claim is true; "one in the center" is one of what the question counts."""
    if isinstance(claim, Ones) and isinstance(question, Count):
        counted = {thing.place for thing in question.phrase.among(scene)}
        return counted.issuperset(claim.places) and len(set(claim.places)) == len(claim.places)
    return claim.holds(scene)
