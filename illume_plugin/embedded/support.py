"""Whether claims support an answer: they must show the evidence, all of it, and speak of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import permutations
from typing import Any

from illume_plugin.embedded.claims import Claim, Number, Ones, Patterned, Stands, Values, Where
from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions import (
    At,
    Color,
    Comparison,
    Count,
    Exists,
    Pattern,
    Question,
    Relation,
    Same,
    Shape,
    Verify,
)
from illume_plugin.embedded.scene import Attribute, Scene

Claims = tuple[Claim, ...]


def supports(scene: Scene, question: Question, claims: Claims) -> bool:
    """Whether true claims support the right answer to the question."""
    return _RULES[type(question)](scene, question, claims)


def _places_asked(scene: Scene, question: At | Verify | Same, claims: Claims) -> bool:
    """The attribute asked for is stated of each place asked about, once."""
    one, other = question.roles(scene)
    stated = [
        place for claim in claims for place, values in _located(claim) if question.attribute in dict(values)
    ]
    return sorted(stated) == sorted(one | other) and len(stated) == len(_all_places(claims))


def _exists(scene: Scene, question: Exists, claims: Claims) -> bool:
    if not question.phrase.among(scene):
        return _shows_none(question.phrase, claims)
    located = [found for claim in claims for found in _located(claim)]
    return (
        bool(located)
        and len(located) == len(_all_places(claims))
        and all(set(question.phrase.values) <= set(values) for _, values in located)
    )


def _count(scene: Scene, question: Count, claims: Claims) -> bool:
    things = question.phrase.among(scene)
    if not things:
        return _shows_none(question.phrase, claims)
    shown = [place for claim in claims for place in _places_of(question.phrase, claim)]
    return sorted(shown) == [thing.place for thing in things] == sorted(_all_places(claims))


def _attribute(_: Scene, question: Color | Shape, claims: Claims) -> bool:
    """One thing, in its place, with all that the question says of it and what it asks."""
    if len(claims) != 1:
        return False
    needed = {*question.phrase.named, question.asked}
    located = _located(claims[0])
    return len(located) == 1 and needed <= {attribute for attribute, _ in located[0][1]}


def _pattern(_: Scene, question: Pattern, claims: Claims) -> bool:
    """The pattern of one thing, with all that the question says of it; its place is not asked for."""
    if len(claims) != 1:
        return False
    claim = claims[0]
    return isinstance(claim, Patterned) and claim.phrase.implies(question.phrase)


def _relation(_: Scene, question: Relation, claims: Claims) -> bool:
    return _one_each((question.one, question.other), claims, lambda p, c: len(_places_of(p, c)) == 1)


def _comparison(_: Scene, question: Comparison, claims: Claims) -> bool:
    return _one_each(
        (question.one, question.other), claims, lambda p, c: isinstance(c, Number) and c.phrase == p
    )


def _one_each(phrases: tuple[Phrase, ...], claims: Claims, shows: Callable[[Phrase, Claim], bool]) -> bool:
    """Whether the claims, in some order, are one for each phrase."""
    return len(claims) == len(phrases) and any(
        all(shows(phrase, claim) for phrase, claim in zip(phrases, order, strict=True))
        for order in permutations(claims)
    )


def _shows_none(phrase: Phrase, claims: Claims) -> bool:
    """One claim from which it follows that the phrase names nothing, and that is more than a denial."""
    if len(claims) != 1:
        return False
    claim = claims[0]
    if isinstance(claim, Number):
        return claim.number == 0 and phrase.implies(claim.phrase) and phrase != claim.phrase
    if not isinstance(claim, Values):
        return False
    excluded = dict(phrase.values).get(claim.attribute)
    return excluded is not None and excluded not in claim.values and phrase.implies(claim.phrase)


def _located(claim: Claim) -> list[tuple[int, Iterable[tuple[Attribute, str]]]]:
    """Each place of the claim with what is said of the thing there."""
    if isinstance(claim, Stands):
        return [(claim.place, claim.values)]
    if isinstance(claim, Where):
        return [(place, claim.phrase.values) for place in claim.places]
    return []


def _places_of(phrase: Phrase, claim: Claim) -> list[int]:
    """The places where the claim puts a thing that the phrase names."""
    if isinstance(claim, Ones):
        return list(claim.places)
    return [place for place, values in _located(claim) if set(phrase.values) <= set(values)]


def _all_places(claims: Claims) -> list[int]:
    """Every place of every claim; -1 for a claim that names none, which no question about places needs."""
    places: list[int] = []
    for claim in claims:
        places += claim.places if isinstance(claim, Ones) else [p for p, _ in _located(claim)] or [-1]
    return places


_RULES: Mapping[type[Question], Callable[[Scene, Any, Claims], bool]] = {
    At: _places_asked,
    Verify: _places_asked,
    Same: _places_asked,
    Exists: _exists,
    Count: _count,
    Color: _attribute,
    Shape: _attribute,
    Relation: _relation,
    Comparison: _comparison,
    Pattern: _pattern,
}
