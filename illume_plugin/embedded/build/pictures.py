"""Pictures for training by the thousand: cells are cut out of some drawings and put together anew."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from illume_plugin.embedded.build.corpus import describe
from illume_plugin.embedded.build.tokens import PATCH, PX
from illume_plugin.embedded.drawing import draw
from illume_plugin.embedded.scene import GRID, JITTER, NOVEL_PAIRS, PLACES, VALUES, Attribute, Scene, Thing

#: Widths at which training pictures are drawn before they are scaled to what the model sees.
DRAWN_PX = (240, 240, 240, 480)


class Cells:
    """Drawn cells with what they hold.

    A thing never leaves its cell, so a picture put together from cells is one that `draw` could have drawn,
    up to a pixel's shade along the cells' borders.
    """

    def __init__(self, pictures: int, seed: int) -> None:
        rng = random.Random(seed)
        scenes = [_full_scene(rng) for _ in range(pictures)]
        drawn = [Scene(()), *scenes]
        self._pixels = np.stack([_cut(scaled(draw(scene, rng.choice(DRAWN_PX)))) for scene in drawn])
        self._held = np.stack([describe(scene) for scene in drawn])

    def compose(self, n: int, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int8]]:
        """`n` pictures as the processor gives them (n, 3, PX, PX), and what each cell holds (n, 9, 3)."""
        which = rng.integers(1, len(self._held), (n, len(PLACES)))
        which[rng.random(which.shape) < rng.uniform(0.1, 0.8, (n, 1))] = 0  # the empty scene
        places = np.arange(len(PLACES))
        cells = self._pixels[which, places]
        rows = cells.reshape(n, GRID, GRID, PATCH, PATCH, 3).transpose(0, 5, 1, 3, 2, 4)
        pixels = torch.from_numpy(np.ascontiguousarray(rows).reshape(n, 3, PX, PX))
        return pixels.float() / 127.5 - 1, self._held[which, places]


def scaled(picture: Image.Image) -> NDArray[np.uint8]:
    """(PX, PX, 3): the picture as the processor scales it."""
    return np.asarray(picture.resize((PX, PX), Image.Resampling.BICUBIC))


def _cut(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(PX, PX, 3) -> (9, PATCH, PATCH, 3)."""
    rows = picture.reshape(GRID, PATCH, GRID, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return rows.reshape(len(PLACES), PATCH, PATCH, 3)


def _full_scene(rng: random.Random) -> Scene:
    """Something in every cell, each pair of color and shape equally often, save those held back."""
    pairs = [(c, s) for c in VALUES[Attribute.COLOR] for s in VALUES[Attribute.SHAPE]]
    pairs = [pair for pair in pairs if pair not in NOVEL_PAIRS]
    return Scene(tuple(_thing(place, *rng.choice(pairs), rng) for place in range(len(PLACES))))


def _thing(place: int, color: str, shape: str, rng: random.Random) -> Thing:
    offset: Any = (rng.uniform(-JITTER, JITTER) for _ in range(2))
    return Thing(place, rng.choice(VALUES[Attribute.SIZE]), color, shape, *offset)
