import json

import pytest
from click.testing import CliRunner

from illume_plugin.embedded import base_model_path, blank, draw, make_tasks, measure

pytestmark = pytest.mark.torch

TASKS = make_tasks(120, seed=11)
PX = 240


@pytest.fixture(scope="module")
def vlm() -> measure.Vlm:
    return measure.load(base_model_path())


def test_answers_come_from_the_picture(vlm: measure.Vlm) -> None:
    seeing = measure.answers(vlm, TASKS, [draw(task.scene, PX) for task in TASKS])
    unseeing = measure.answers(vlm, TASKS, [blank(PX)] * len(TASKS))
    by_kind = measure.accuracy_by_kind(TASKS, seeing)
    assert by_kind["all"].value >= 0.85
    assert min(by_kind["at"].value, by_kind["verify"].value) >= 0.95
    assert measure.accuracy(TASKS, unseeing).value <= by_kind["all"].value - 0.3


def test_some_but_not_all_sampled_rationales_fit_and_the_seed_decides(vlm: measure.Vlm) -> None:
    tasks = TASKS[:30]
    pictures = [draw(task.scene, PX) for task in tasks]
    sampled = measure.sample_rationales(vlm, tasks, pictures, temperature=0.7, samples=4, seed=3)
    assert [len(texts) for texts in sampled] == [4] * len(tasks)
    assert 0.1 < measure.judge(tasks, sampled, 0.7).fit_rate < 0.7
    assert sampled == measure.sample_rationales(vlm, tasks, pictures, temperature=0.7, samples=4, seed=3)
    assert sampled != measure.sample_rationales(vlm, tasks, pictures, temperature=0.7, samples=4, seed=4)


def test_the_command_prints_one_json_document_and_its_progress_elsewhere() -> None:
    result = CliRunner().invoke(measure.main, ["--tasks", "6", "--samples", "2", "--px", "72", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["accuracy"]["all"]["n"] == 6
    assert [s["temperature"] for s in found["sampling"]] == [0.3, 0.7, 1.0]
    assert all(s["n"] == 12 == sum(s["reasons"].values()) for s in found["sampling"])
    assert found["config"]["px"] == 72
    assert "answering" in result.stderr
