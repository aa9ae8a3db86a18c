"""Draws a scene: the same picture at every size, smooth edges, nothing left to chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from illume_plugin.embedded.scene import CANVAS, CELL, GRID, PLAIN, Scene, Thing

Rgb = tuple[int, int, int]
Point = tuple[float, float]

BACKGROUND: Rgb = (236, 236, 232)
#: Faint lines between the cells help people to name a place; the shipped weights hardly see them.
GRID_LINE: Rgb = (218, 218, 213)
OUTLINE: Rgb = (40, 40, 40)
COLORS: Mapping[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 85, 220),
    "yellow": (240, 205, 40),
    "purple": (150, 60, 180),
}
#: Half the width of a thing, in world units.
RADII: Mapping[str, float] = {"small": 15.0, "large": 29.0}
OUTLINE_WIDTH = 2.0
GRID_LINE_WIDTH = 0.7
#: Of stripes, dots and checks: stands out from every color, even at the size of a thumbnail.
MARK: Rgb = (250, 250, 247)
#: Pillow draws hard edges: we draw this many times larger and scale down.
SUPERSAMPLING = 4


def draw(scene: Scene, px: int = 720) -> Image.Image:
    """The scene as a square RGB picture of `px` x `px` pixels; equal arguments give equal pixels."""
    wide = px * SUPERSAMPLING
    image = Image.new("RGB", (wide, wide), BACKGROUND)
    _draw_grid(ImageDraw.Draw(image), wide / CANVAS)
    for thing in scene.things:
        _draw_thing(image, thing, wide / CANVAS)
    return image.resize((px, px), Image.Resampling.BOX)


def blank(px: int = 720) -> Image.Image:
    """A picture of an empty grid, the control that shows whether a model looks at all."""
    return draw(Scene(()), px)


def _draw_grid(pen: ImageDraw.ImageDraw, scale: float) -> None:
    width = max(1, round(GRID_LINE_WIDTH * scale))
    for line in range(1, GRID):
        at, end = line * CELL * scale, CANVAS * scale
        pen.line([(at, 0), (at, end)], fill=GRID_LINE, width=width)
        pen.line([(0, at), (end, at)], fill=GRID_LINE, width=width)


def _draw_thing(image: Image.Image, thing: Thing, scale: float) -> None:
    """`scale` is in pixels per world unit."""
    row, column = divmod(thing.place, GRID)
    x = (column * CELL + CELL / 2 + thing.dx) * scale
    y = (row * CELL + CELL / 2 + thing.dy) * scale
    radius = RADII[thing.size] * scale
    width = max(1, round(OUTLINE_WIDTH * scale))
    pen = ImageDraw.Draw(image)
    _draw_shape(pen, thing.shape, (x, y), radius, fill=COLORS[thing.color], outline=OUTLINE, width=width)
    if thing.pattern == PLAIN:
        return
    left, top, side = math.floor(x - radius), math.floor(y - radius), math.ceil(2 * radius) + 2
    inside, marks = Image.new("L", (side, side)), Image.new("L", (side, side))
    centre = (x - left, y - top)
    _draw_shape(ImageDraw.Draw(inside), thing.shape, centre, radius, fill=255, outline=0, width=width)
    _MARKS[thing.pattern](ImageDraw.Draw(marks), centre, radius, scale)
    image.paste(MARK, (left, top), ImageChops.multiply(inside, marks))


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, centre: Point, radius: float, **style: Any) -> None:
    """`style` is how Pillow fills and outlines."""
    x, y = centre
    if shape == "circle":
        pen.ellipse(_box(x, y, radius), **style)
    elif shape == "square":  # a little narrower, so that it does not look larger than a circle
        pen.rectangle(_box(x, y, 0.9 * radius), **style)
    else:
        low = y + 0.85 * radius
        pen.polygon([(x, y - radius), (x - radius, low), (x + radius, low)], **style)


def _stripes(pen: ImageDraw.ImageDraw, centre: Point, radius: float, scale: float) -> None:
    """Rising diagonals, one of them through the centre."""
    (x, y), far = centre, 2 * radius
    step, width = 10.0 * scale, round(3.4 * scale)
    for k in _steps(far, step):
        pen.line([(x + k * step - far, y + far), (x + k * step + far, y - far)], fill=255, width=width)


def _dots(pen: ImageDraw.ImageDraw, centre: Point, radius: float, scale: float) -> None:
    """Rows of dots, every other one shifted by half a step."""
    x, y = centre
    step, row = 9.5 * scale, 8.0 * scale
    for j in _steps(radius, row):
        for k in _steps(radius, step):
            at = x + (k + j % 2 / 2) * step
            pen.ellipse(_box(at, y + j * row, 2.3 * scale), fill=255)


def _checks(pen: ImageDraw.ImageDraw, centre: Point, radius: float, scale: float) -> None:
    """A chessboard, the centre in the middle of a field."""
    x, y = centre
    step = 6.0 * scale
    for j in _steps(radius, step):
        for k in _steps(radius, step):
            if (j + k) % 2:
                pen.rectangle(_box(x + k * step, y + j * step, step / 2), fill=255)


_MARKS: Mapping[str, Callable[[ImageDraw.ImageDraw, Point, float, float], None]] = {
    "striped": _stripes,
    "dotted": _dots,
    "checked": _checks,
}


def _steps(reach: float, step: float) -> range:
    """The numbers of steps that stay within reach, and one more, to either side."""
    most = math.ceil(reach / step)
    return range(-most, most + 1)


def _box(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return (x - half, y - half, x + half, y + half)
