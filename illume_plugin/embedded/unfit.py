"""Rationales as a pretrained model would write them: fluent, about the question, and mostly unfit."""

from __future__ import annotations

import random
from dataclasses import dataclass

from illume_plugin.embedded.checker import GENERIC
from illume_plugin.embedded.phrases import Phrase, with_article
from illume_plugin.embedded.rationales import rationales
from illume_plugin.embedded.scene import PLACES, Attribute
from illume_plugin.embedded.splits import Split, sample_scene_of
from illume_plugin.embedded.tasks import WorldTask
from illume_plugin.errors import TaskError


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each sort of rationale is drawn; the shares need not sum to one.

    Attributes:
        fitting: true and supporting.
        generic: says nothing about the picture.
        other_picture: written for another picture in which the question has the same answer.
        beside: true, and beside the point.
    """

    fitting: float
    generic: float
    other_picture: float
    beside: float

    @classmethod
    def with_fitting(cls, share: float) -> Mix:
        """This share of fitting ones. Most of the others are true, so that the model keeps looking."""
        return cls(share, *(part * (1 - share) for part in (0.20, 0.15, 0.65)))

    def draw(self, task: WorldTask, rng: random.Random) -> str:
        """One rationale for the task's right answer."""
        writers = (_fitting, _generic, _other_picture, _beside)
        shares = (self.fitting, self.generic, self.other_picture, self.beside)
        (writer,) = rng.choices(writers, shares)
        return writer(task, rng)


def _fitting(task: WorldTask, rng: random.Random) -> str:
    return rationales(task.scene, task.question, task.answer, rng)


def _generic(_: WorldTask, rng: random.Random) -> str:
    return rng.choice(GENERIC)


def _other_picture(task: WorldTask, rng: random.Random) -> str:
    for _ in range(100):
        scene = sample_scene_of(Split.TRAIN, rng)
        try:
            if task.question.answer(scene) == task.answer:
                return rationales(scene, task.question, task.answer, rng)
        except (TaskError, IndexError):
            continue
    return _beside(task, rng)


def _beside(task: WorldTask, rng: random.Random) -> str:
    thing = rng.choice(task.scene.things)
    by_chance = {a for a in (Attribute.SIZE, Attribute.COLOR) if rng.random() < 0.6}
    phrase = with_article(Phrase.of(thing, {Attribute.SHAPE, *by_chance}).singular)
    return f"Because {rng.choice(('there is', 'I see'))} {phrase} in the {PLACES[thing.place]}."
