import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded import WorldTask, base_model_path, make_tasks
from illume_plugin.embedded.questions import KINDS
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
    tasks = make_tasks(N, seed=0)
    assert len({(task.scene.layout, task.question) for task in tasks}) == N


def test_kinds_attributes_and_answers_are_balanced() -> None:
    tasks = make_tasks(N, seed=0)
    assert Counter(task.question.kind for task in tasks) == dict.fromkeys(KINDS, N // 3)
    assert spread(Counter((t.question.kind, t.question.attribute) for t in tasks)) == 0
    for kind in KINDS:
        for attribute, answers in KINDS[kind].answers.items():
            of_kind = [t for t in tasks if (t.question.kind, t.question.attribute) == (kind, attribute)]
            counts = Counter(task.answer for task in of_kind)
            assert set(counts) == set(answers)
            assert spread(counts) <= 1


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
