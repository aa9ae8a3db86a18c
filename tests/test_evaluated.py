"""Metrics from what was made of each task: which tasks count for which, and their intervals."""

from __future__ import annotations

from illume_plugin.evaluated import EvaluatedTask, metrics_of
from illume_plugin.types import JudgedTask


def evaluated(
    task_id: int, rationales: tuple[str, ...] = (), fits: tuple[str, ...] = (), **outcomes: float
) -> EvaluatedTask:
    return EvaluatedTask(JudgedTask(task_id, "i", "q", "a", fits), "a", rationales, outcomes)


def test_each_metric_counts_the_tasks_it_was_measured_on() -> None:
    tasks = [
        evaluated(
            1, ("a red circle is there",), ("a red circle is there", "no"), answer_accuracy=1.0, diversity=1.0
        ),
        evaluated(2, (), ("there is a blue square",), answer_accuracy=0.0, diversity=0.0),
        evaluated(3, ("x",), answer_accuracy=1.0, diversity=0.5),
        evaluated(4, (), ("never sampled",), answer_accuracy=1.0, fit_logprob=-1.0),
    ]
    metrics, outcomes = metrics_of(tasks)
    assert {name: metric.n for name, metric in metrics.items()} == {
        "answer_accuracy": 4,
        "diversity": 3,
        "fit_logprob": 1,
        "rouge_l": 2,
        "cider": 2,
        "bleu": 2,
    }
    assert outcomes["rouge_l"] == (1.0, 0.0), "the best of the references; nothing said is like nothing"
    assert outcomes["answer_accuracy"] == (1.0, 0.0, 1.0, 1.0)
    assert metrics["answer_accuracy"].high < 1, "Wilson's"
    assert 0 < metrics["bleu"].value < 1, "short by a text that was not said"
    assert metrics["bleu"].low <= metrics["bleu"].value <= metrics["bleu"].high
    assert metrics_of(tasks) == (metrics, outcomes)


def test_nothing_gives_nothing() -> None:
    assert metrics_of([]) == ({}, {})


def test_without_samples_there_is_no_likeness() -> None:
    metrics, _ = metrics_of([evaluated(1, (), ("x",), answer_accuracy=1.0)])
    assert set(metrics) == {"answer_accuracy"}
