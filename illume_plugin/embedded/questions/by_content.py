"""Questions that name things by how they look, so that they must be found before they can be judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from illume_plugin.embedded.phrases import NUMBERS, Phrase, as_predicate
from illume_plugin.embedded.questions.question import NO, YES, Question
from illume_plugin.embedded.scene import GRID, VALUES, Attribute, Scene, Thing
from illume_plugin.errors import TaskError

#: The ways to describe what is searched: topic -> the attributes that are named.
DESCRIPTIONS: Mapping[str, tuple[Attribute, ...]] = {
    "color": (Attribute.COLOR,),
    "shape": (Attribute.SHAPE,),
    "color and shape": (Attribute.COLOR, Attribute.SHAPE),
    "size and shape": (Attribute.SIZE, Attribute.SHAPE),
    "size and color": (Attribute.SIZE, Attribute.COLOR),
}
#: The most things that a question asks to count.
MOST_COUNTED = 3


@dataclass(frozen=True, slots=True)
class Exists(Question):
    """Is there such a thing?"""

    kind: ClassVar[str] = "exists"
    topics = dict.fromkeys(DESCRIPTIONS, (YES, NO))
    phrase: Phrase

    @property
    def text(self) -> str:
        return f"Is there {as_predicate(Attribute.SHAPE, self.phrase.singular)}?"

    def answer(self, scene: Scene) -> str:
        return YES if self.phrase.among(scene) else NO

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        named = DESCRIPTIONS[topic]
        if answer == YES:
            return cls(Phrase.of(rng.choice(scene.things), named))
        absent = _absent(scene, named, rng)
        return cls(absent) if absent else None

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return _places(self.phrase, scene), frozenset()


@dataclass(frozen=True, slots=True)
class Count(Question):
    """How many such things are there?"""

    kind: ClassVar[str] = "count"
    topics = dict.fromkeys(DESCRIPTIONS, NUMBERS[: MOST_COUNTED + 1])
    phrase: Phrase

    @property
    def text(self) -> str:
        return f"How many {self.phrase.plural} are there?"

    def answer(self, scene: Scene) -> str:
        return NUMBERS[len(self.phrase.among(scene))]

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        named, wanted = DESCRIPTIONS[topic], NUMBERS.index(answer)
        if wanted == 0:
            absent = _absent(scene, named, rng)
            return cls(absent) if absent else None
        phrases = dict.fromkeys(Phrase.of(thing, named) for thing in scene.things)
        fitting = [phrase for phrase in phrases if len(phrase.among(scene)) == wanted]
        return cls(rng.choice(fitting)) if fitting else None

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return _places(self.phrase, scene), frozenset()


@dataclass(frozen=True, slots=True)
class _Attribute(Question):
    """What colour (or shape) has the one thing that looks like this?"""

    asked: ClassVar[Attribute]
    phrase: Phrase

    def __post_init__(self) -> None:
        if self.asked in self.phrase.named:
            raise TaskError(f"A question asks for the {self.asked} of the {self.phrase.singular}.")

    @property
    def text(self) -> str:
        return f"What {self.asked} is the {self.phrase.singular}?"

    def answer(self, scene: Scene) -> str:
        return only(self.phrase, scene).value(self.asked)

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        named = DESCRIPTIONS_OF_ONE[cls.asked][topic]
        asked = [thing for thing in scene.things if thing.value(cls.asked) == answer]
        unique = [p for p in (Phrase.of(thing, named) for thing in asked) if len(p.among(scene)) == 1]
        return cls(rng.choice(unique)) if unique else None

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return _places(self.phrase, scene), frozenset()


#: attribute asked for -> topic -> the attributes by which the thing is described.
DESCRIPTIONS_OF_ONE: Mapping[Attribute, Mapping[str, tuple[Attribute, ...]]] = {
    asked: {
        "size": (Attribute.SIZE,),
        other: (other,),
        f"size and {other}": (Attribute.SIZE, other),
    }
    for asked, other in ((Attribute.COLOR, Attribute.SHAPE), (Attribute.SHAPE, Attribute.COLOR))
}


class Color(_Attribute):
    """What color is the one thing that looks like this?"""

    __slots__ = ()
    kind: ClassVar[str] = "color"
    asked = Attribute.COLOR
    topics = dict.fromkeys(DESCRIPTIONS_OF_ONE[Attribute.COLOR], VALUES[Attribute.COLOR])


class Shape(_Attribute):
    """What shape is the one thing that looks like this?"""

    __slots__ = ()
    kind: ClassVar[str] = "shape"
    asked = Attribute.SHAPE
    topics = dict.fromkeys(DESCRIPTIONS_OF_ONE[Attribute.SHAPE], VALUES[Attribute.SHAPE])


def _column(thing: Thing) -> int:
    return thing.place % GRID


def _row(thing: Thing) -> int:
    return thing.place // GRID


#: direction -> (the coordinate it is about, its sign).
DIRECTIONS: Mapping[str, tuple[Callable[[Thing], int], int]] = {
    "left of": (_column, -1),
    "right of": (_column, 1),
    "above": (_row, -1),
    "below": (_row, 1),
}


@dataclass(frozen=True, slots=True)
class Relation(Question):
    """Does one thing stand left of, right of, above or below another?

    The answer is no where they stand level; such pairs are not proposed, because people disagree on them.
    """

    kind: ClassVar[str] = "relation"
    topics = dict.fromkeys(DIRECTIONS, (YES, NO))
    direction: str
    one: Phrase
    other: Phrase

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise TaskError(
                f"There is no direction {self.direction!r}.", why=f"There is {', '.join(DIRECTIONS)}."
            )

    @property
    def text(self) -> str:
        return f"Is the {self.one.singular} {self.direction} the {self.other.singular}?"

    def answer(self, scene: Scene) -> str:
        return YES if self._distance(scene) > 0 else NO

    def _distance(self, scene: Scene) -> int:
        """How many rows or columns the one is from the other, in the direction asked for."""
        coordinate, sign = DIRECTIONS[self.direction]
        return sign * (coordinate(only(self.one, scene)) - coordinate(only(self.other, scene)))

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        unique = [(thing, phrases) for thing in scene.things if (phrases := _unique_phrases(thing, scene))]
        if len(unique) < 2:
            return None
        (_, one), (_, other) = rng.sample(unique, 2)
        question = cls(topic, rng.choice(one), rng.choice(other))
        level = question._distance(scene) == 0
        return None if level or question.answer(scene) != answer else question

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return _places(self.one, scene), _places(self.other, scene)


@dataclass(frozen=True, slots=True)
class Comparison(Question):
    """Are there more things of one kind than of another?"""

    kind: ClassVar[str] = "comparison"
    topics = dict.fromkeys(Attribute, (YES, NO))
    one: Phrase
    other: Phrase

    @property
    def text(self) -> str:
        return f"Are there more {self.one.plural} than {self.other.plural}?"

    def answer(self, scene: Scene) -> str:
        return YES if len(self.one.among(scene)) > len(self.other.among(scene)) else NO

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        one, other = (Phrase(**{topic: value}) for value in rng.sample(VALUES[Attribute(topic)], 2))
        question = cls(one, other)
        nothing_to_see = not one.among(scene) and not other.among(scene)
        return None if nothing_to_see or question.answer(scene) != answer else question

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return _places(self.one, scene), _places(self.other, scene)


def only(phrase: Phrase, scene: Scene) -> Thing:
    """The one thing that the phrase names.

    Raises:
        TaskError: the phrase names none or several.
    """
    things = phrase.among(scene)
    if len(things) != 1:
        raise TaskError(
            f"The scene has {phrase.counted(len(things))}.", why="The question speaks of exactly one."
        )
    return things[0]


def _places(phrase: Phrase, scene: Scene) -> frozenset[int]:
    return frozenset(thing.place for thing in phrase.among(scene))


def _unique_phrases(thing: Thing, scene: Scene) -> list[Phrase]:
    """Every description in color and shape, perhaps with the size, that names this thing alone."""
    phrases = (Phrase.of(thing, named) for named in DESCRIPTIONS.values())
    return [phrase for phrase in phrases if len(phrase.among(scene)) == 1]


def _absent(scene: Scene, named: Sequence[Attribute], rng: random.Random) -> Phrase | None:
    """A description that names nothing in the scene although, if possible, each word of it occurs there.

    Held-back pairs are asked for in novel scenes alone: elsewhere the answer would always be no.
    """
    combined = product(*(VALUES[attribute] for attribute in named))
    every = (Phrase(**dict(zip(named, values, strict=True))) for values in combined)
    absent = [p for p in every if not p.among(scene) and (scene.is_novel or not p.is_novel)]
    near = [p for p in absent if all(Phrase(**{a: v}).among(scene) for a, v in p.values)]
    return rng.choice(near or absent) if absent else None
