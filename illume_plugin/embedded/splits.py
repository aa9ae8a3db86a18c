"""Which scenes a base model may learn from, and which are kept to judge it."""

from __future__ import annotations

import random
import zlib
from enum import StrEnum

from illume_plugin.embedded.scene import Scene, sample_scene


class Split(StrEnum):
    """A part of all scenes. A scene belongs to one by its layout: jitter never moves it to another.

    TRAIN is what the shipped weights were trained on; HELD_OUT is for ILLUME's loop, the demo and choices
    of hyper-parameters; TEST is for figures; NOVEL scenes show a pair of color and shape that is in none
    of the others.
    """

    TRAIN = "train"
    HELD_OUT = "held-out"
    TEST = "test"
    NOVEL = "novel"


def split_of(scene: Scene) -> Split:
    """The split that the scene belongs to: eight scenes of ten without novel pairs are for training."""
    if scene.is_novel:
        return Split.NOVEL
    part = zlib.crc32(repr(scene.layout).encode()) % 10
    return Split.HELD_OUT if part == 0 else Split.TEST if part == 1 else Split.TRAIN


def sample_scene_of(split: Split, rng: random.Random) -> Scene:
    """A random scene of the split."""
    while True:
        scene = sample_scene(rng, novel=split is Split.NOVEL)
        if split_of(scene) is split:
            return scene
