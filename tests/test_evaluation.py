"""Metrics by hand, and a report of the real embedded model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.types import JudgedTask

pytest.importorskip("torch")

from illume_plugin.base_model import BaseModel, load_base_model
from illume_plugin.evaluation import DRAWS, Extent, evaluate, evaluate_tasks, share_of_pairs
from illume_plugin.intervals import bootstrap, wilson
from illume_plugin.scoring import logprob_mean

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("fits", "unfits", "share"),
    [
        ([-1.0], [-2.0], 1.0),
        ([-2.0], [-1.0], 0.0),
        ([-1.0], [-1.0], 0.5),
        ([-1.0, -3.0], [-2.0], 0.5),
        ([-1.0, -3.0], [-2.0, -4.0], 0.75),
    ],
)
def test_share_of_pairs(fits: list[float], unfits: list[float], share: float) -> None:
    assert share_of_pairs(fits, unfits) == share


def test_wilson_by_hand() -> None:
    metric = wilson([1, 1, 1, 1, 1, 1, 1, 1, 0, 0])
    assert (metric.value, metric.n) == (0.8, 10)
    assert (metric.low, metric.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize(("outcome", "end"), [(0.0, "low"), (1.0, "high")])
def test_wilson_knows_that_all_or_none_is_not_certain(outcome: float, end: str) -> None:
    metric = wilson([outcome] * 5)
    assert getattr(metric, end) == pytest.approx(outcome)
    assert metric.high - metric.low > 0.3


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30))
def test_the_bootstrap_interval_holds_the_mean_and_stays_in_range(outcomes: list[float]) -> None:
    metric = bootstrap(outcomes, draws=50)
    assert min(outcomes) - 1e-9 <= metric.low <= metric.high <= max(outcomes) + 1e-9
    assert metric == bootstrap(outcomes, draws=50)


def test_the_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    metric = bootstrap([0.0, 1.0] * 100)
    half = 1.96 * math.sqrt(0.25 / 200)
    assert (metric.low, metric.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.01)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[JudgedTask], dict[str, Path]]:
    folder = tmp_path_factory.mktemp("pictures")
    tasks, images = [], {}
    for index, task in enumerate(make_tasks(6, seed=2)):
        name = f"/{index}.png"
        images[name] = folder / f"{index}.png"
        draw(task.scene, 240).save(images[name])
        tasks.append(JudgedTask(index, name, task.question_text, task.answer))
    tasks[0] = replace(tasks[0], fits=("because i see it .", "no"), unfits=("circle circle circle",))
    tasks[1] = replace(tasks[1], fits=("because i see it .",))
    tasks[2] = replace(tasks[2], unfits=("because i see it .",))
    tasks[3] = replace(tasks[3], answer=f" {tasks[3].answer.upper()}. ")
    tasks[4] = replace(tasks[4], answer="nonsense")
    return tasks, images


def test_a_report(base: BaseModel, world: tuple[list[JudgedTask], dict[str, Path]]) -> None:
    tasks, images = world
    steps: list[tuple[int, int]] = []
    report = evaluate(
        base,
        None,
        tasks,
        images,
        version="v0000",
        training_set="h",
        progress=lambda *step: steps.append(step),
    )
    assert (report.version, report.training_set) == ("v0000", "h")
    assert {name: metric.n for name, metric in report.metrics.items()} == {
        "preference_accuracy": 1,
        "fit_logprob": 2,
        "answer_accuracy": 6,
    }
    assert {name: len(values) for name, values in report.outcomes.items()} == {
        name: metric.n for name, metric in report.metrics.items()
    }
    scores = [
        logprob_mean(base, images[task.image], task.question, task.answer, [*task.fits, *task.unfits])
        for task in tasks[:2]
    ]
    assert report.outcomes["fit_logprob"] == pytest.approx((sum(scores[0][:2]) / 2, scores[1][0]))
    assert report.outcomes["preference_accuracy"] == (
        (scores[0][0] > scores[0][2]) / 2 + (scores[0][1] > scores[0][2]) / 2,
    )
    assert report.outcomes["answer_accuracy"][4] == 0
    assert report.metrics["answer_accuracy"].value >= 0.5
    assert steps == [(k, 6) for k in range(1, 7)]


def test_letter_case_and_a_full_stop_make_no_difference(
    base: BaseModel, world: tuple[list[JudgedTask], dict[str, Path]]
) -> None:
    tasks, images = world
    shouted = [replace(task, answer=f" {task.answer.upper()}. ") for task in tasks]
    plain, loud = (
        evaluate(base, None, those, images, version="v", training_set="h").outcomes["answer_accuracy"]
        for those in (tasks, shouted)
    )
    assert plain == loud


def test_nothing_held_out_gives_no_metrics(base: BaseModel) -> None:
    report = evaluate(base, None, [], {}, version="v", training_set="h")
    assert report.metrics == report.outcomes == {}


def test_a_cap_draws_the_same_tasks_every_time(
    base: BaseModel, world: tuple[list[JudgedTask], dict[str, Path]]
) -> None:
    tasks, images = world
    first, again = (
        evaluate(base, None, tasks, images, version="v", training_set="h", extent=Extent(tasks=3))
        for _ in range(2)
    )
    assert first == again
    assert first.metrics["answer_accuracy"].n == 3


def test_rationales_are_sampled_for_the_first_tasks_only(
    base: BaseModel, world: tuple[list[JudgedTask], dict[str, Path]]
) -> None:
    tasks, images = world
    report = evaluate(base, None, tasks, images, version="v", training_set="h", extent=Extent(sampled=3))
    assert {name: metric.n for name, metric in report.metrics.items()} == {
        "preference_accuracy": 1,
        "fit_logprob": 2,
        "answer_accuracy": 6,
        "diversity": 3,
        "grounding": 3,
        "rouge_l": 2,
        "cider": 2,
        "bleu": 2,
    }
    assert all(metric.low <= metric.value <= metric.high for metric in report.metrics.values())
    assert report.metrics["grounding"].value > 0, "the picture makes its own rationales likelier"
    assert "bleu" not in report.outcomes


def test_what_was_said_comes_likeliest_first_and_once(
    base: BaseModel, world: tuple[list[JudgedTask], dict[str, Path]]
) -> None:
    tasks, images = world
    first, *_, last = evaluate_tasks(base, None, tasks, images, extent=Extent(sampled=5))
    assert last.rationales == ()
    assert first.task == tasks[0]
    assert 1 <= len(first.rationales) == len(set(first.rationales)) <= DRAWS.size
    scores = logprob_mean(
        base, images[tasks[0].image], tasks[0].question, tasks[0].answer, list(first.rationales)
    )
    assert scores == sorted(scores, reverse=True)
