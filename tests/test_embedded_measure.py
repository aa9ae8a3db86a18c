import json

import pytest
from click.testing import CliRunner

from illume_plugin.embedded import Split, base_model_path, blank, draw, make_tasks, measure

pytestmark = pytest.mark.torch

TASKS = make_tasks(180, seed=11, split=Split.TEST)
PX = 240


@pytest.fixture(scope="module")
def vlm() -> measure.Vlm:
    return measure.load(base_model_path())


def test_answers_come_from_the_picture(vlm: measure.Vlm) -> None:
    seeing = measure.answers(vlm, TASKS, [draw(task.scene, PX) for task in TASKS])
    unseeing = measure.answers(vlm, TASKS, [blank(PX)] * len(TASKS))
    by_kind = measure.accuracy_by_kind(TASKS, seeing)
    assert by_kind["all"].value >= 0.95
    assert min(found.value for found in by_kind.values()) >= 0.8
    assert measure.accuracy(TASKS, unseeing).value <= measure.chance()["all"] + 0.05


def test_chance_is_one_over_the_answers_of_a_topic() -> None:
    chance = measure.chance()
    assert (chance["exists"], chance["count"], chance["color"]) == pytest.approx((0.5, 0.25, 0.2))
    assert chance["at"] == pytest.approx((1 / 5 + 1 / 3 + 1 / 2) / 3)
    kinds = [value for kind, value in chance.items() if kind != "all"]
    assert chance["all"] == pytest.approx(sum(kinds) / len(kinds))


def test_some_but_not_all_sampled_rationales_fit_and_the_seed_decides(vlm: measure.Vlm) -> None:
    tasks = TASKS[:45]
    pictures = [draw(task.scene, PX) for task in tasks]
    sampled = measure.sample_rationales(vlm, tasks, pictures, temperature=0.7, samples=4, seed=3)
    assert [len(texts) for texts in sampled] == [4] * len(tasks)
    assert 0.1 < measure.judge(tasks, sampled, 0.7).fit_rate < 0.6
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
