"""Noun phrases: which things they name, and how they read in questions and rationales alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from illume_plugin.embedded.scene import NOVEL_PAIRS, Attribute, Scene, Thing, check_value

#: How many of something, in words; an index into this table is the number.
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A description by some attributes; one that is None may have any value. Phrase() names everything.

    Raises:
        TaskError: a value does not belong to the world.
    """

    size: str | None = None
    color: str | None = None
    shape: str | None = None

    def __post_init__(self) -> None:
        for attribute, value in self.values:
            check_value(attribute, value)

    @classmethod
    def of(cls, thing: Thing, named: Collection[Attribute]) -> Phrase:
        """The thing by the named attributes."""
        return cls(**{a.value: thing.value(a) for a in named})

    @property
    def values(self) -> tuple[tuple[Attribute, str], ...]:
        """The named attributes with their values, in the order in which they are said."""
        pairs = ((Attribute.SIZE, self.size), (Attribute.COLOR, self.color), (Attribute.SHAPE, self.shape))
        return tuple((attribute, value) for attribute, value in pairs if value is not None)

    @property
    def named(self) -> frozenset[Attribute]:
        """The attributes that the phrase fixes."""
        return frozenset(attribute for attribute, _ in self.values)

    @property
    def is_novel(self) -> bool:
        """Whether the phrase names a pair of color and shape that is held back from training."""
        return (self.color, self.shape) in NOVEL_PAIRS

    def without(self, attribute: Attribute) -> Phrase:
        """The phrase with one attribute left open."""
        return Phrase(**{a.value: value for a, value in self.values if a is not attribute})

    def matches(self, thing: Thing) -> bool:
        """Whether the phrase names this thing."""
        return all(thing.value(attribute) == value for attribute, value in self.values)

    def among(self, scene: Scene) -> tuple[Thing, ...]:
        """The things of the scene that the phrase names, by place."""
        return tuple(thing for thing in scene.things if self.matches(thing))

    def implies(self, other: Phrase) -> bool:
        """Whether whatever this phrase names, the other names too."""
        return set(other.values) <= set(self.values)

    @property
    def singular(self) -> str:
        """`small red circle`, `red object`."""
        adjectives = [value for attribute, value in self.values if attribute is not Attribute.SHAPE]
        return " ".join([*adjectives, self.shape or "object"])

    @property
    def plural(self) -> str:
        """`small red circles`, `red objects`."""
        return f"{self.singular}s"

    def counted(self, number: int) -> str:
        """`no circles`, `one circle`, `two circles`."""
        if number == 0:
            return f"no {self.plural}"
        return f"{NUMBERS[number]} {self.singular if number == 1 else self.plural}"


def with_article(words: str) -> str:
    """`a red circle`, `an object`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def as_predicate(attribute: Attribute, value: str) -> str:
    """What stands after "is": `red`, `large`, but `a circle`."""
    return with_article(value) if attribute is Attribute.SHAPE else value


def enumerate_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
