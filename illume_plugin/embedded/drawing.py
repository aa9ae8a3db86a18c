"""Draws a scene: the same picture at every size, smooth edges, nothing left to chance."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw

from illume_plugin.embedded.scene import CANVAS, CELL, GRID, Scene, Thing

Rgb = tuple[int, int, int]

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
#: Pillow draws hard edges: we draw this many times larger and scale down.
SUPERSAMPLING = 4


def draw(scene: Scene, px: int = 720) -> Image.Image:
    """The scene as a square RGB picture of `px` x `px` pixels; equal arguments give equal pixels."""
    wide = px * SUPERSAMPLING
    image = Image.new("RGB", (wide, wide), BACKGROUND)
    pen = ImageDraw.Draw(image)
    _draw_grid(pen, wide / CANVAS)
    for thing in scene.things:
        _draw_thing(pen, thing, wide / CANVAS)
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


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, scale: float) -> None:
    """`scale` is in pixels per world unit."""
    row, column = divmod(thing.place, GRID)
    x = (column * CELL + CELL / 2 + thing.dx) * scale
    y = (row * CELL + CELL / 2 + thing.dy) * scale
    radius = RADII[thing.size] * scale
    fill, width = COLORS[thing.color], max(1, round(OUTLINE_WIDTH * scale))
    if thing.shape == "circle":
        pen.ellipse(_box(x, y, radius), fill=fill, outline=OUTLINE, width=width)
    elif thing.shape == "square":  # a little narrower, so that it does not look larger than a circle
        pen.rectangle(_box(x, y, 0.9 * radius), fill=fill, outline=OUTLINE, width=width)
    else:
        low = y + 0.85 * radius
        corners = [(x, y - radius), (x - radius, low), (x + radius, low)]
        pen.polygon(corners, fill=fill, outline=OUTLINE, width=width)


def _box(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return (x - half, y - half, x + half, y + half)
