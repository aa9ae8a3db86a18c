"""True sentences that support an answer, in each of the ways that the world knows to write them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from illume_plugin.embedded.questions import At, Question, Same, Verify, thing_at
from illume_plugin.embedded.scene import PLACES, Attribute, Scene, Thing
from illume_plugin.embedded.wording import as_predicate, noun_phrase, with_article
from illume_plugin.errors import TaskError

#: A way to write: (things asked about, attribute asked for, source of chance) -> what follows "because".
Form = Callable[[list[Thing], Attribute, random.Random], str]


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
    things = [thing_at(scene, place) for place in question.places]
    rng.shuffle(things)  # either order of two things supports the answer
    form = rng.choice(FORMS[type(question)])
    return f"because {form(things, question.attribute, rng)} ."


def _there_is(things: list[Thing], attribute: Attribute, rng: random.Random) -> str:
    """`there is a large red circle in the center`, and so on for further things."""
    lead = rng.choice(("there is", "i see"))
    parts = [f"{with_article(_phrase(t, attribute, rng))} in the {PLACES[t.place]}" for t in things]
    return f"{lead} {' and '.join(parts)}"


def _object_is_phrase(things: list[Thing], attribute: Attribute, rng: random.Random) -> str:
    """`the object in the center is a red circle`."""
    return " and ".join(
        f"the object in the {PLACES[t.place]} is {with_article(_phrase(t, attribute, rng))}" for t in things
    )


def _object_is_value(things: list[Thing], attribute: Attribute, _rng: random.Random) -> str:
    """`the object in the center is red`."""
    return " and ".join(
        f"the object in the {PLACES[t.place]} is {as_predicate(attribute, t.value(attribute))}"
        for t in things
    )


def _phrase(thing: Thing, attribute: Attribute, rng: random.Random) -> str:
    """The thing by its shape, the attribute asked for and, by chance, its color and size."""
    by_chance = (a for a in (Attribute.SIZE, Attribute.COLOR) if rng.random() < 0.5)
    return noun_phrase(thing, {Attribute.SHAPE, attribute, *by_chance})


_EVERY_FORM: tuple[Form, ...] = (_there_is, _object_is_phrase, _object_is_value)

#: kind of question -> the forms that support its answers.
FORMS: Mapping[type[Question], tuple[Form, ...]] = {At: _EVERY_FORM, Verify: _EVERY_FORM, Same: _EVERY_FORM}
