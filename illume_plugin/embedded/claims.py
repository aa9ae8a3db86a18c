"""What a rationale can claim of a picture, free of its wording, and whether a scene bears it out."""

from __future__ import annotations

from dataclasses import dataclass

from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.scene import Attribute, Scene


@dataclass(frozen=True, slots=True)
class Stands:
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

    def shows(self, phrase: Phrase) -> bool:
        """Whether it follows from the claim that the phrase names the thing in the place."""
        return set(phrase.values) <= set(self.values)


@dataclass(frozen=True, slots=True)
class Where:
    """The things that a phrase names stand in these places, and nowhere else."""

    phrase: Phrase
    places: tuple[int, ...]

    def holds(self, scene: Scene) -> bool:
        """Whether the scene bears the claim out."""
        return sorted(self.places) == [thing.place for thing in self.phrase.among(scene)]


@dataclass(frozen=True, slots=True)
class Ones:
    """One of what was asked for stands in each of these places; true of a question, not of a scene alone."""

    places: tuple[int, ...]

    def holds(self, scene: Scene) -> bool:
        """Whether something stands in each place."""
        return all(scene.at(place) is not None for place in self.places)


@dataclass(frozen=True, slots=True)
class Number:
    """A phrase names so many things."""

    phrase: Phrase
    number: int

    def holds(self, scene: Scene) -> bool:
        """Whether the scene bears the claim out."""
        return len(self.phrase.among(scene)) == self.number


@dataclass(frozen=True, slots=True)
class Values:
    """The things that a phrase names (there are some) have exactly these values of an attribute.

    Attributes:
        alone: the sentence says that the phrase names one thing ("the only circle is red"), or that it
            names several ("the circles are red"), or None where it says neither.
    """

    phrase: Phrase
    attribute: Attribute
    values: tuple[str, ...]
    alone: bool | None = None

    def holds(self, scene: Scene) -> bool:
        """Whether the scene bears the claim out."""
        things = self.phrase.among(scene)
        as_many = self.alone is None or self.alone == (len(things) == 1)
        return as_many and sorted(self.values) == sorted({thing.value(self.attribute) for thing in things})


@dataclass(frozen=True, slots=True)
class Patterned:
    """A thing that the phrase names has this pattern.

    Attributes:
        place: where it is said to stand, or None.
        alone: the sentence says that the phrase names nothing else there ("the circle is striped").
    """

    phrase: Phrase
    pattern: str
    place: int | None
    alone: bool

    def holds(self, scene: Scene) -> bool:
        """Whether the scene bears the claim out."""
        named = [thing for thing in self.phrase.among(scene) if self.place in (None, thing.place)]
        return any(t.pattern == self.pattern for t in named) and not (self.alone and len(named) > 1)


Claim = Stands | Where | Ones | Number | Values | Patterned
