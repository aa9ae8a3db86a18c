"""The picture world: a 3 x 3 grid on which coloured shapes stand, at most one in a cell.

Lengths are in world units: a picture is CANVAS units wide and high, a cell CANVAS / GRID. The
vocabulary, sizes and frequencies here are what the shipped weights were trained on. Some pairs of color
and shape are held back (NOVEL_PAIRS): training scenes never show them, so that the scenes which do can
tell whether a model has learnt colors and shapes or the list of their pairs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from illume_plugin.errors import TaskError
from illume_plugin.types import Json

GRID = 3
CANVAS = 240.0
CELL = CANVAS / GRID
#: A shape's centre lies at most this far from its cell's centre, in each direction.
JITTER = 9.0
#: How many things a sampled scene holds.
FEWEST, MOST = 3, 6

#: The cells by name, row by row. A place is an index into this table.
PLACES = (
    "top left", "top middle", "top right",
    "middle left", "center", "middle right",
    "bottom left", "bottom middle", "bottom right",
)  # fmt: skip


class Attribute(StrEnum):
    """What can be said of a thing."""

    COLOR = "color"
    SHAPE = "shape"
    SIZE = "size"


VALUES: Mapping[Attribute, tuple[str, ...]] = {
    Attribute.COLOR: ("red", "green", "blue", "yellow", "purple"),
    Attribute.SHAPE: ("circle", "square", "triangle"),
    Attribute.SIZE: ("small", "large"),
}

#: What may cover a thing beside its color. No Attribute: the base model was never shown the PATTERNS and
#: has no words for them; only the world that is named after them has any (worlds.py).
PLAIN = "plain"
PATTERNS = ("striped", "dotted", "checked")

#: (color, shape) pairs that occur in scenes of the split NOVEL alone.
NOVEL_PAIRS = frozenset({("purple", "triangle"), ("green", "square")})


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in one cell.

    Attributes:
        dx: offset to the right of the cell's centre, in world units.
        dy: offset downwards.
        pattern: PLAIN or one of PATTERNS.

    Raises:
        TaskError: the place, a value or an offset does not belong to the world.
    """

    place: int
    size: str
    color: str
    shape: str
    dx: float = 0.0
    dy: float = 0.0
    pattern: str = PLAIN

    def __post_init__(self) -> None:
        check_place(self.place)
        for attribute in Attribute:
            check_value(attribute, self.value(attribute))
        if self.pattern not in (PLAIN, *PATTERNS):
            raise TaskError(
                f"There is no pattern {self.pattern!r}.", why=f"There is {', '.join((PLAIN, *PATTERNS))}."
            )
        if not (abs(self.dx) <= JITTER and abs(self.dy) <= JITTER):
            raise TaskError(
                f"A thing stands ({self.dx}, {self.dy}) off its cell's centre.",
                why=f"It would leave its cell: {JITTER} is the most.",
            )

    def value(self, attribute: Attribute) -> str:
        """This thing's color, shape or size."""
        value: str = getattr(self, attribute.value)
        return value

    def to_json(self) -> Json:
        """An object ready for `json.dumps`, without the pattern of a plain thing."""
        values = asdict(self)
        if self.pattern == PLAIN:
            del values["pattern"]
        return values


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows, ordered by place.

    Raises:
        TaskError: two things stand in one place.
    """

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        places = [thing.place for thing in self.things]
        if len(set(places)) < len(places):
            raise TaskError(f"Two things of a scene stand in one place: {sorted(places)}.")

    def at(self, place: int) -> Thing | None:
        """The thing in this place, or None where the cell is empty."""
        return next((thing for thing in self.things if thing.place == place), None)

    @property
    def is_novel(self) -> bool:
        """Whether the scene shows a pair of color and shape that is held back from training."""
        return any((thing.color, thing.shape) in NOVEL_PAIRS for thing in self.things)

    @property
    def layout(self) -> tuple[tuple[int, str, str, str], ...]:
        """The scene without jitter and patterns: what decides on its split."""
        return tuple((t.place, t.size, t.color, t.shape) for t in self.things)

    def to_json(self) -> Json:
        """A list with one object per thing, ready for `json.dumps`."""
        return [thing.to_json() for thing in self.things]

    @classmethod
    def from_json(cls, data: Json) -> Scene:
        """The inverse of `to_json`.

        Raises:
            TaskError: `data` is not a scene.
        """
        try:
            return cls(tuple(Thing(**thing) for thing in data))
        except TypeError as error:
            raise TaskError(f"This is not a scene: {data!r:.200}.", why=f"{error}.") from error


def check_place(place: int) -> None:
    """Raise TaskError unless `place` is an index into PLACES."""
    if place not in range(len(PLACES)):
        raise TaskError(f"There is no place {place!r}.", why=f"Places are 0 to {len(PLACES) - 1}.")


def check_value(attribute: Attribute, value: str) -> None:
    """Raise TaskError unless `value` is one of the attribute's values."""
    if value not in VALUES[attribute]:
        raise TaskError(
            f"There is no {attribute} {value!r}.", why=f"There is {', '.join(VALUES[attribute])}."
        )


def sample_scene(rng: random.Random, *, novel: bool = False) -> Scene:
    """A scene of FEWEST to MOST things in few colors, so that things alike are not rare.

    Args:
        novel: show at least one pair of NOVEL_PAIRS; none is shown otherwise.
    """
    places = sorted(rng.sample(range(len(PLACES)), rng.randint(FEWEST, MOST)))
    colors = rng.sample(VALUES[Attribute.COLOR], rng.randint(2, 4))
    shapes = rng.sample(VALUES[Attribute.SHAPE], 3 if rng.random() < 0.7 else 2)
    pairs = [(color, shape) for color in colors for shape in shapes]
    usual = [pair for pair in pairs if pair not in NOVEL_PAIRS]
    drawn = [rng.choice(pairs if novel else usual) for _ in places]
    if novel and not NOVEL_PAIRS.intersection(drawn):
        drawn[rng.randrange(len(drawn))] = rng.choice(sorted(NOVEL_PAIRS))
    return Scene(
        tuple(_place(place, color, shape, rng) for place, (color, shape) in zip(places, drawn, strict=True))
    )


def with_patterns(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one of PATTERNS on each thing."""
    return Scene(tuple(replace(thing, pattern=rng.choice(PATTERNS)) for thing in scene.things))


def _place(place: int, color: str, shape: str, rng: random.Random) -> Thing:
    return Thing(
        place=place,
        size=rng.choice(VALUES[Attribute.SIZE]),
        color=color,
        shape=shape,
        dx=round(rng.uniform(-JITTER, JITTER), 1),  # rounded: short in JSON, and nobody sees less
        dy=round(rng.uniform(-JITTER, JITTER), 1),
    )
