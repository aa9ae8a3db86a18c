"""The worlds: the one that the base model knows, and one in which it has no signal."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum

from illume_plugin.embedded.questions import KINDS, PATTERN_KINDS, Question
from illume_plugin.embedded.scene import Scene, with_patterns
from illume_plugin.embedded.splits import Split, sample_scene_of


class World(StrEnum):
    """What the pictures show and the questions ask for.

    SHAPES is what the shipped weights were trained on. PATTERNS is a control: its things are striped, dotted
    or checked, and that alone is asked for. The weights were shown no pattern and have no word for one, so
    that none of their rationales can support an answer; those of a model that sees patterns can.
    """

    SHAPES = "shapes"
    PATTERNS = "patterns"

    @property
    def kinds(self) -> Mapping[str, type[Question]]:
        """The kinds of question that are asked, by name."""
        return PATTERN_KINDS if self is World.PATTERNS else KINDS

    def sample_scene(self, split: Split, rng: random.Random) -> Scene:
        """A random scene of the split; patterns never move a scene to another."""
        scene = sample_scene_of(split, rng)
        return with_patterns(scene, rng) if self is World.PATTERNS else scene
