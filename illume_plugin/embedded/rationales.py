"""True sentences that support an answer, in each of the ways that the world knows to write them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from illume_plugin.embedded.patterns import write_pattern
from illume_plugin.embedded.phrases import Phrase, as_predicate, enumerate_words, with_article
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
from illume_plugin.embedded.scene import PLACES, Attribute, Scene, Thing
from illume_plugin.errors import TaskError


def rationales(scene: Scene, question: Question, answer: str, rng: random.Random) -> str:
    """One true rationale that supports `answer`, drawn from all ways to write one.

    Raises:
        TaskError: `answer` is not the right one, so that nothing true supports it.
    """
    right = question.answer(scene)
    if answer != right:
        raise TaskError(
            f"No true rationale supports the answer {answer!r} to {question.text!r}.",
            why=f"The right answer is {right!r}.",
        )
    return f"Because {_WRITERS[type(question)](scene, question, rng)}."


def _by_place(scene: Scene, question: At | Verify | Same, rng: random.Random) -> str:
    one, other = question.roles(scene)
    things = [thing for thing in scene.things if thing.place in one | other]
    rng.shuffle(things)  # either order of two things supports the answer
    if rng.random() < 1 / 3:
        return " and ".join(
            f"the object in the {PLACES[t.place]} is "
            f"{as_predicate(question.attribute, t.value(question.attribute))}"
            for t in things
        )
    return _stand(things, {question.attribute}, rng)


def _exists(scene: Scene, question: Exists, rng: random.Random) -> str:
    things = question.phrase.among(scene)
    if not things:
        return _none(scene, question.phrase, rng)
    return _stand([rng.choice(things)], question.phrase.named, rng)


def _count(scene: Scene, question: Count, rng: random.Random) -> str:
    phrase, things = question.phrase, list(question.phrase.among(scene))
    if not things:
        return _none(scene, phrase, rng)
    if rng.random() < 1 / 3:
        places = enumerate_words([f"the {PLACES[t.place]}" for t in things])
        return (
            f"the only {phrase.singular} is in {places}"
            if len(things) == 1
            else f"the {phrase.plural} are in {places}"
        )
    ones = enumerate_words([f"one in the {PLACES[t.place]}" for t in things])
    return f"{rng.choice(_LEADS)} {ones}"


def _attribute(scene: Scene, question: Color | Shape, rng: random.Random) -> str:
    (thing,) = question.phrase.among(scene)
    if rng.random() < 1 / 3:
        value = as_predicate(question.asked, thing.value(question.asked))
        return f"the {question.phrase.singular} in the {PLACES[thing.place]} is {value}"
    return _stand([thing], question.phrase.named | {question.asked}, rng)


def _relation(scene: Scene, question: Relation, rng: random.Random) -> str:
    pairs = [(phrase, phrase.among(scene)[0]) for phrase in (question.one, question.other)]
    if rng.random() < 1 / 3:
        parts = [f"{with_article(p.singular)} in the {PLACES[t.place]}" for p, t in pairs]
        return f"{rng.choice(_LEADS)} {' and '.join(parts)}"
    return " and ".join(f"the {p.singular} is in the {PLACES[t.place]}" for p, t in pairs)


def _comparison(scene: Scene, question: Comparison, rng: random.Random) -> str:
    one, other = question.one, question.other
    more, fewer = len(one.among(scene)), len(other.among(scene))
    bridge = rng.choice(("and", "but only")) if more > fewer > 0 else "and"
    be = "is" if more == 1 else "are"
    return f"{rng.choice((f'there {be}', 'I see'))} {one.counted(more)} {bridge} {other.counted(fewer)}"


_LEADS = ("there is", "I see")


def _stand(things: Sequence[Thing], named: set[Attribute] | frozenset[Attribute], rng: random.Random) -> str:
    """Each thing with the named attributes, its shape and perhaps more, in its place."""
    phrases = [(_richer(thing, named, rng), PLACES[thing.place]) for thing in things]
    form = rng.randrange(3)
    if form == 0:
        return " and ".join(f"the object in the {place} is {phrase}" for phrase, place in phrases)
    if form == 1 and len(things) == 1:
        return " and ".join(f"{phrase} is in the {place}" for phrase, place in phrases)
    return f"{rng.choice(_LEADS)} {' and '.join(f'{phrase} in the {place}' for phrase, place in phrases)}"


def _richer(thing: Thing, named: set[Attribute] | frozenset[Attribute], rng: random.Random) -> str:
    by_chance = {a for a in (Attribute.SIZE, Attribute.COLOR) if rng.random() < 0.3}
    return with_article(Phrase.of(thing, {Attribute.SHAPE, *named, *by_chance}).singular)


def _none(scene: Scene, phrase: Phrase, rng: random.Random) -> str:
    """Why a phrase names nothing: what there is instead."""
    return rng.choice([said for a in sorted(phrase.named) for said in _instead(scene, phrase, a)])


def _instead(scene: Scene, phrase: Phrase, attribute: Attribute) -> list[str]:
    """What the things are that would be named if `attribute` were different."""
    wider = phrase.without(attribute)
    things = wider.among(scene)
    values = sorted({thing.value(attribute) for thing in things})
    if not wider.named:
        plural = [f"{value}s" if attribute is Attribute.SHAPE else value for value in values]
        if len(values) > 1:
            return [f"the only {attribute}s are {enumerate_words(plural)}"]
        return [f"the only {attribute} is {as_predicate(attribute, values[0])}"]
    if not things:
        return [f"there are no {wider.plural}"]
    if len(things) == 1:
        return [f"the only {wider.singular} is {as_predicate(attribute, values[0])}"]
    plural = [f"{value}s" if attribute is Attribute.SHAPE else value for value in values]
    return [f"the {wider.plural} are {enumerate_words(plural)}"]


_WRITERS: Mapping[type[Question], Callable[[Scene, Any, random.Random], str]] = {
    At: _by_place,
    Verify: _by_place,
    Same: _by_place,
    Exists: _exists,
    Count: _count,
    Color: _attribute,
    Shape: _attribute,
    Relation: _relation,
    Comparison: _comparison,
    Pattern: write_pattern,
}
