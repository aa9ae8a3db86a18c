"""Which epoch is kept, and that the tasks it is chosen by are not reported on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.errors import RunError
from illume_plugin.types import EvaluationReport, JudgedTask, Metric

torch = pytest.importorskip("torch")

from illume_plugin.training.best_epoch import BestEpoch, score_of, split_held_out  # noqa: E402

pytestmark = pytest.mark.torch


def held_out(number: int, *, judged: bool = True) -> list[JudgedTask]:
    fits = ("yes .",) if judged else ()
    return [JudgedTask(index, f"/{index}.png", "what is it ?", "a cat", fits) for index in range(number)]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_the_first_of_the_best_is_kept(scores: list[float]) -> None:
    best = BestEpoch()
    for epoch, score in enumerate(scores, start=1):
        best.offer(epoch, [score], {"a": torch.tensor([float(epoch)])})
    assert best.epoch == scores.index(max(scores)) + 1
    assert best.weights["a"].tolist() == [best.epoch]


def test_the_weights_are_those_of_then() -> None:
    best, weight = BestEpoch(), torch.ones(2)
    best.offer(1, [1.0], {"a": weight})
    weight.zero_()
    assert best.weights["a"].tolist() == [1.0, 1.0]


def test_ties_are_broken_by_the_next_figure() -> None:
    best = BestEpoch()
    for epoch, score in enumerate([[0.5, -2.0], [0.5, -1.0], [0.4, 0.0]], start=1):
        best.offer(epoch, score, {})
    assert best.epoch == 2


def test_what_counts_first() -> None:
    metric = {
        name: Metric(value, 0, 1, 9) for name, value in [("fit_logprob", -1.5), ("answer_accuracy", 0.9)]
    }
    report = EvaluationReport("v", "hash", metric, {})
    assert score_of(report) == [-1.5, 0.9]


def test_tasks_are_for_the_choice_or_for_the_report() -> None:
    tasks = held_out(90)
    choosing, reported = split_held_out(tasks)
    assert sorted([*choosing, *reported], key=lambda task: task.task_id) == tasks
    assert 15 < len(choosing) < 45
    assert split_held_out(tasks[::-1])[0] == choosing[::-1], "whatever the order"


def test_a_choice_by_chance_is_refused() -> None:
    with pytest.raises(RunError, match="0 of the"):
        split_held_out(held_out(90, judged=False))
    with pytest.raises(RunError, match="best_epoch"):
        split_held_out(held_out(3))
