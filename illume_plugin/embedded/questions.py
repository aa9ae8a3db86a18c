"""The questions of the picture world: one class for each kind, found by name in KINDS.

A kind says how it is worded, what its answer is in a scene, which facts a rationale must state to
support that answer, and how to find an instance with a wanted answer. To add a kind, write its class,
list it in KINDS and give it its sentences in rationales.py.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene, Thing, check_place, check_value
from illume_plugin.embedded.wording import as_predicate
from illume_plugin.errors import TaskError
from illume_plugin.types import Json

YES, NO = "yes", "no"
YES_OR_NO: Mapping[Attribute, tuple[str, ...]] = dict.fromkeys(Attribute, (YES, NO))


@dataclass(frozen=True, slots=True)
class Question(ABC):
    """A question about one attribute of the things in one or two places."""

    #: The name of the kind.
    kind: ClassVar[str]
    #: attribute asked for -> every answer that such a question can have.
    answers: ClassVar[Mapping[Attribute, tuple[str, ...]]]

    attribute: Attribute

    @property
    @abstractmethod
    def text(self) -> str:
        """The question in words."""

    @property
    @abstractmethod
    def places(self) -> tuple[int, ...]:
        """The places asked about: a supporting rationale states the attribute of each, and of no other."""

    @abstractmethod
    def answer(self, scene: Scene) -> str:
        """The right answer in this scene.

        Raises:
            TaskError: a place asked about is empty.
        """

    @classmethod
    @abstractmethod
    def propose(cls, scene: Scene, attribute: Attribute, answer: str, rng: random.Random) -> Question | None:
        """A question of this kind whose answer in this scene is `answer`, or None if the scene has none."""

    def to_json(self) -> Json:
        """An object with `kind` and the kind's own fields, ready for `json.dumps`."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class At(Question):
    """What colour, shape or size is the thing in a place?"""

    kind: ClassVar[str] = "at"
    answers = VALUES
    place: int

    def __post_init__(self) -> None:
        check_place(self.place)

    @property
    def text(self) -> str:
        return f"what {self.attribute} is the object in the {PLACES[self.place]} ?"

    @property
    def places(self) -> tuple[int, ...]:
        return (self.place,)

    def answer(self, scene: Scene) -> str:
        return thing_at(scene, self.place).value(self.attribute)

    @classmethod
    def propose(cls, scene: Scene, attribute: Attribute, answer: str, rng: random.Random) -> Question | None:
        places = [t.place for t in scene.things if t.value(attribute) == answer]
        return cls(attribute, rng.choice(places)) if places else None


@dataclass(frozen=True, slots=True)
class Verify(Question):
    """Has the thing in a place this colour, shape or size?"""

    kind: ClassVar[str] = "verify"
    answers = YES_OR_NO
    place: int
    value: str

    def __post_init__(self) -> None:
        check_place(self.place)
        check_value(self.attribute, self.value)

    @property
    def text(self) -> str:
        return f"is the object in the {PLACES[self.place]} {as_predicate(self.attribute, self.value)} ?"

    @property
    def places(self) -> tuple[int, ...]:
        return (self.place,)

    def answer(self, scene: Scene) -> str:
        return YES if thing_at(scene, self.place).value(self.attribute) == self.value else NO

    @classmethod
    def propose(cls, scene: Scene, attribute: Attribute, answer: str, rng: random.Random) -> Question | None:
        thing = rng.choice(scene.things)
        true = thing.value(attribute)
        others = [value for value in VALUES[attribute] if value != true]
        return cls(attribute, thing.place, true if answer == YES else rng.choice(others))


@dataclass(frozen=True, slots=True)
class Same(Question):
    """Have the things in two places the same colour, shape or size?"""

    kind: ClassVar[str] = "same"
    answers = YES_OR_NO
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
            f"do the objects in the {PLACES[self.place]} and the {PLACES[self.other]} "
            f"have the same {self.attribute} ?"
        )

    @property
    def places(self) -> tuple[int, ...]:
        return (self.place, self.other)

    def answer(self, scene: Scene) -> str:
        one, two = (thing_at(scene, place).value(self.attribute) for place in self.places)
        return YES if one == two else NO

    @classmethod
    def propose(cls, scene: Scene, attribute: Attribute, answer: str, rng: random.Random) -> Question | None:
        one, two = rng.sample(scene.things, 2)
        question = cls(attribute, one.place, two.place)
        return question if question.answer(scene) == answer else None


KINDS: Mapping[str, type[Question]] = {kind.kind: kind for kind in (At, Verify, Same)}


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


def question_from_json(data: Json) -> Question:
    """The inverse of `Question.to_json`.

    Raises:
        TaskError: `data` is not a question of a known kind.
    """
    try:
        fields = dict(data)
        kind = KINDS[fields.pop("kind")]
        return kind(**{**fields, "attribute": Attribute(fields["attribute"])})
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"This is not a question of the picture world: {data!r:.200}.",
            why=f"Known kinds are {', '.join(KINDS)}.",
        ) from error
