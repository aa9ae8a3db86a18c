import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded import Scene, Split, WorldTask, base_model_path, make_tasks
from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions import (
    KINDS,
    At,
    Color,
    Comparison,
    Count,
    Exists,
    Relation,
    Same,
    Shape,
    Verify,
)
from illume_plugin.embedded.splits import split_of
from illume_plugin.errors import TaskError

N = 900


def spread(counts: Counter[Any]) -> int:
    return max(counts.values()) - min(counts.values())


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 30))
def test_tasks_depend_on_the_seed_alone_and_fewer_are_a_prefix_of_more(seed: int, a: int, b: int) -> None:
    few, many = sorted((a, b))
    tasks = make_tasks(many, seed)
    assert len(tasks) == many
    assert make_tasks(few, seed) == tasks[:few]
    assert make_tasks(3, seed) != make_tasks(3, seed + 1)


@given(st.integers(0, 2**32))
def test_a_task_survives_json(seed: int) -> None:
    (task,) = make_tasks(1, seed)
    restored = WorldTask.from_json(json.loads(json.dumps(task.to_json() | {"task_id": 7})))
    assert restored == task
    assert (restored.question_text, restored.answer) == (task.question_text, task.answer)


def test_tasks_are_distinct() -> None:
    tasks = make_tasks(N, seed=0, split=Split.TRAIN)
    assert len({(task.scene.layout, task.question) for task in tasks}) == N


def test_kinds_topics_and_answers_are_balanced() -> None:
    tasks = make_tasks(N, seed=0, split=Split.TRAIN)
    assert Counter(task.question.kind for task in tasks) == dict.fromkeys(KINDS, N // len(KINDS))
    for name, kind in KINDS.items():
        wanted = Counter(_topic_of(task) for task in tasks if task.question.kind == name)
        assert set(wanted) == set(kind.topics)
        assert spread(wanted) <= 1
        for topic, answers in kind.topics.items():
            given = Counter(t.answer for t in tasks if t.question.kind == name and _topic_of(t) == topic)
            assert set(given) <= set(answers)
            assert spread(Counter({answer: given[answer] for answer in answers})) <= 1


def _topic_of(task: WorldTask) -> str:
    """What the task's question is about, read from its fields."""
    question = task.question
    if isinstance(question, At | Verify | Same):
        return question.attribute
    if isinstance(question, Relation):
        return question.direction
    if isinstance(question, Comparison):
        return next(iter(question.one.named))
    assert isinstance(question, Exists | Count | Color | Shape)
    return " and ".join(attribute for attribute, _ in question.phrase.values)


@pytest.mark.parametrize("split", Split)
def test_tasks_are_about_scenes_of_their_split_alone(split: Split) -> None:
    assert {split_of(task.scene) for task in make_tasks(45, seed=2, split=split)} == {split}


def test_held_back_pairs_are_asked_for_in_novel_scenes_alone() -> None:
    def novel(split: Split) -> int:
        tasks = make_tasks(400, seed=3, split=split)
        phrases = (getattr(t.question, name, None) for t in tasks for name in ("phrase", "one", "other"))
        return sum(isinstance(phrase, Phrase) and phrase.is_novel for phrase in phrases)

    assert novel(Split.TRAIN) == novel(Split.TEST) == 0 < novel(Split.NOVEL)


def test_jitter_does_not_move_a_scene_to_another_split() -> None:
    for task in make_tasks(45, seed=4, split=Split.TRAIN):
        still = Scene(tuple(replace(thing, dx=0.0, dy=0.0) for thing in task.scene.things))
        assert split_of(still) is Split.TRAIN


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"scene": []},
        {"scene": [], "question": {"kind": "at", "attribute": "color", "place": 0}},
        {"scene": {}, "question": None},
    ],
)
def test_json_that_is_no_task_is_refused(data: Any) -> None:
    with pytest.raises(TaskError):
        WorldTask.from_json(data)


def test_the_weights_lie_where_we_say() -> None:
    assert {"config.json", "model.safetensors"} <= {path.name for path in base_model_path().iterdir()}


def test_the_world_does_not_load_torch() -> None:
    code = "import sys, illume_plugin.embedded.measure; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
