"""Seeded tasks of the picture world: a scene, a question about it and the right answer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from illume_plugin.embedded.questions import Question, question_from_json
from illume_plugin.embedded.scene import Scene
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.worlds import World
from illume_plugin.errors import TaskError
from illume_plugin.types import Json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorldTask:
    """One scene with one question about it."""

    scene: Scene
    question: Question

    @property
    def question_text(self) -> str:
        """The question in words."""
        return self.question.text

    @property
    def answer(self) -> str:
        """The right answer."""
        return self.question.answer(self.scene)

    def to_json(self) -> Json:
        """A JSON object that holds all there is to check a rationale later."""
        return {"scene": self.scene.to_json(), "question": self.question.to_json()}

    @classmethod
    def from_json(cls, data: Json) -> WorldTask:
        """The inverse of `to_json`; keys beside ours are ignored.

        Raises:
            TaskError: `data` is not a task of the picture world.
        """
        try:
            scene, question = data["scene"], data["question"]
        except (KeyError, TypeError) as error:
            raise TaskError(f"This is not a task of the picture world: {data!r:.200}.") from error
        task = cls(Scene.from_json(scene), question_from_json(question))
        task.question.answer(task.scene)  # a question about an empty place is found now, not at first use
        return task


def make_tasks(
    n: int, seed: int, split: Split = Split.HELD_OUT, world: World = World.SHAPES
) -> list[WorldTask]:
    """`n` distinct tasks about scenes of a split; the first k of them are the same for every n >= k.

    Kinds of question occur equally often (to within one), so do topics within a kind, and answers within
    a topic. No two tasks ask the same of pictures with the same layout.
    """
    return list(islice(tasks(random.Random(seed), split, world), n))


def tasks(rng: random.Random, split: Split, world: World = World.SHAPES) -> Iterator[WorldTask]:
    """Tasks without end, balanced and distinct as `make_tasks` says."""
    every = world.kinds.values()
    kinds = _rounds(list(every), rng)
    topics = {kind: _rounds(list(kind.topics), rng) for kind in every}
    answers = {(kind, t): _rounds(kind.topics[t], rng) for kind in every for t in kind.topics}
    seen = set()
    for kind in kinds:
        topic = next(topics[kind])
        answer = next(answers[kind, topic])
        task = _find(world, split, kind, topic, answer, rng)
        while (key := (task.scene.layout, task.question)) in seen:
            task = _find(world, split, kind, topic, answer, rng)
        seen.add(key)
        yield task


def _find(
    world: World, split: Split, kind: type[Question], topic: str, answer: str, rng: random.Random
) -> WorldTask:
    while True:
        scene = world.sample_scene(split, rng)
        question = kind.propose(scene, topic, answer, rng)
        if question is not None:
            return WorldTask(scene, question)


def _rounds(items: Sequence[T], rng: random.Random) -> Iterator[T]:
    """All items in a random order, then all again in another, without end."""
    while True:
        yield from rng.sample(items, len(items))
