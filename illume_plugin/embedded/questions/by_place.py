"""Questions that name places: what is there, is it so, are two alike?"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from illume_plugin.embedded.phrases import as_predicate
from illume_plugin.embedded.questions.question import NO, YES, Question
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene, Thing, check_place, check_value
from illume_plugin.errors import TaskError


@dataclass(frozen=True, slots=True)
class At(Question):
    """What colour, shape or size is the thing in a place?"""

    kind: ClassVar[str] = "at"
    topics: ClassVar[Mapping[str, Sequence[str]]] = {str(a): values for a, values in VALUES.items()}
    attribute: Attribute
    place: int

    def __post_init__(self) -> None:
        check_place(self.place)

    @property
    def text(self) -> str:
        return f"What {self.attribute} is the object in the {PLACES[self.place]}?"

    def answer(self, scene: Scene) -> str:
        return thing_at(scene, self.place).value(self.attribute)

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        attribute = Attribute(topic)
        places = [t.place for t in scene.things if t.value(attribute) == answer]
        return cls(attribute, rng.choice(places)) if places else None

    def roles(self, _scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset({self.place}), frozenset()


@dataclass(frozen=True, slots=True)
class Verify(Question):
    """Has the thing in a place this colour, shape or size?"""

    kind: ClassVar[str] = "verify"
    topics = dict.fromkeys(Attribute, (YES, NO))
    attribute: Attribute
    place: int
    value: str

    def __post_init__(self) -> None:
        check_place(self.place)
        check_value(self.attribute, self.value)

    @property
    def text(self) -> str:
        return f"Is the object in the {PLACES[self.place]} {as_predicate(self.attribute, self.value)}?"

    def answer(self, scene: Scene) -> str:
        return YES if thing_at(scene, self.place).value(self.attribute) == self.value else NO

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        attribute = Attribute(topic)
        thing = rng.choice(scene.things)
        true = thing.value(attribute)
        others = [value for value in VALUES[attribute] if value != true]
        return cls(attribute, thing.place, true if answer == YES else rng.choice(others))

    def roles(self, _scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset({self.place}), frozenset()


@dataclass(frozen=True, slots=True)
class Same(Question):
    """Have the things in two places the same colour, shape or size?"""

    kind: ClassVar[str] = "same"
    topics = dict.fromkeys(Attribute, (YES, NO))
    attribute: Attribute
    place: int
    other: int

    def __post_init__(self) -> None:
        check_place(self.place)
        check_place(self.other)
        if self.place == self.other:
            raise TaskError(f"A question compares the {PLACES[self.place]} with itself.")

    @property
    def text(self) -> str:
        return (
            f"Do the objects in the {PLACES[self.place]} and the {PLACES[self.other]} "
            f"have the same {self.attribute}?"
        )

    def answer(self, scene: Scene) -> str:
        one, two = (thing_at(scene, place).value(self.attribute) for place in (self.place, self.other))
        return YES if one == two else NO

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        one, two = rng.sample(scene.things, 2)
        question = cls(Attribute(topic), one.place, two.place)
        return question if question.answer(scene) == answer else None

    def roles(self, _scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset({self.place}), frozenset({self.other})


def thing_at(scene: Scene, place: int) -> Thing:
    """The thing in this place.

    Raises:
        TaskError: nothing stands there.
    """
    thing = scene.at(place)
    if thing is None:
        raise TaskError(
            f"Nothing stands in the {PLACES[place]} of the scene.", why="The question has no answer there."
        )
    return thing
