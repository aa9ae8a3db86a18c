"""Judges a rationale the way a careful annotator would: is it true, and does it support the answer?

The checker is an exact parser of the world's sentences, so it judges wording only where it cannot read
it (malformed). It is the simulated annotator of tests and benchmarks; a person remains the judge in use.

Grammar, after "because" and without the final full stop:

    sentence    = clause { "and" clause }
    clause      = [ "there is" | "i see" ] article phrase "in the" PLACE
                | "the" phrase "in the" PLACE "is" ( COLOR | SIZE | article phrase )
    phrase      = [ SIZE ] [ COLOR ] ( SHAPE | "object" )

"there is" and "i see" may be left out only where the clause before has one of them, said or understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from illume_plugin.embedded.questions import Question
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene

#: Sentences that are fluent and say nothing about the picture: the shipped base model likes them.
GENERIC = (
    "because i can see it in the picture .",
    "because it looks like that .",
    "because that is what the picture shows .",
    "because you can see it clearly .",
    "because it is obvious .",
    "because the picture has many objects .",
)


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


@dataclass(frozen=True, slots=True)
class Claim:
    """Something stands in a place, and has each of these values.

    Attributes:
        values: (attribute, value) pairs; an attribute named twice occurs twice, so that a sentence
            that contradicts itself cannot pass for true.
    """

    place: int
    values: tuple[tuple[Attribute, str], ...]

    def holds(self, scene: Scene) -> bool:
        """Whether the scene bears the claim out."""
        thing = scene.at(self.place)
        return thing is not None and all(thing.value(attribute) == value for attribute, value in self.values)


def check(scene: Scene, question: Question, answer: str, rationale: str) -> Check:
    """Judge any text as a rationale for `answer`.

    A rationale fits if the answer is right, every claim is true, and the claims state the attribute asked
    for in each place asked about, each once, and speak of no other place.

    Raises:
        TaskError: the question has no answer in this scene. No text ever raises.
    """
    if answer.strip().lower() != question.answer(scene):
        return Check(Reason.WRONG_ANSWER)
    words = _normalise(rationale)
    if words in _GENERIC_WORDS:
        return Check(Reason.GENERIC)
    claims = _parse(words)
    if claims is None:
        return Check(Reason.MALFORMED)
    if not all(claim.holds(scene) for claim in claims):
        return Check(Reason.FALSE)
    return Check(Reason.OK if _support(question, claims) else Reason.NO_SUPPORT)


def parse(rationale: str) -> tuple[Claim, ...] | None:
    """The claims of a rationale in the order they stand, or None where the grammar does not produce it."""
    return _parse(_normalise(rationale))


def _support(question: Question, claims: tuple[Claim, ...]) -> bool:
    stated = {(claim.place, attribute) for claim in claims for attribute, _ in claim.values}
    asked = {(place, question.attribute) for place in question.places}
    return asked <= stated and sorted(claim.place for claim in claims) == sorted(question.places)


def _normalise(text: str) -> str:
    """Lower case, single blanks, no final full stop."""
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


_GENERIC_WORDS = frozenset(_normalise(sentence) for sentence in GENERIC)
_PLACE = "|".join(PLACES)
_VALUE_OF = {value: attribute for attribute, values in VALUES.items() for value in values}
_SIZE, _COLOR, _SHAPE = ("|".join(VALUES[a]) for a in (Attribute.SIZE, Attribute.COLOR, Attribute.SHAPE))
_PHRASE = rf"(?:(?:{_SIZE}) )?(?:(?:{_COLOR}) )?(?:{_SHAPE}|object)"
_THERE_IS = re.compile(rf"(?P<lead>(?:there is|i see) )?an? (?P<phrase>{_PHRASE}) in the (?P<place>{_PLACE})")
_IS = re.compile(
    rf"the (?P<phrase>{_PHRASE}) in the (?P<place>{_PLACE}) is (?P<rest>{_COLOR}|{_SIZE}|an? {_PHRASE})"
)


def _parse(words: str) -> tuple[Claim, ...] | None:
    sentence = words.removeprefix("because ")
    if sentence == words:
        return None
    claims: list[Claim] = []
    may_leave_out = False
    for clause in sentence.split(" and "):
        if (found := _IS.fullmatch(clause)) is not None:
            may_leave_out = False
            said = f"{found['phrase']} {found['rest']}"
        elif (found := _THERE_IS.fullmatch(clause)) is not None and (found["lead"] or may_leave_out):
            may_leave_out = True
            said = found["phrase"]
        else:
            return None
        claims.append(Claim(PLACES.index(found["place"]), _values(said)))
    return tuple(claims)


def _values(words: str) -> tuple[tuple[Attribute, str], ...]:
    return tuple((_VALUE_OF[word], word) for word in words.split() if word in _VALUE_OF)
