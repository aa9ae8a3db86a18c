"""How good an adapter is on held-out tasks: what people said of rationales, and its own answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from illume_plugin.base_model import BaseModel
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.intervals import bootstrap, wilson
from illume_plugin.scoring import logprob_mean
from illume_plugin.types import EvaluationReport, JudgedTask, Task


def evaluate(
    base: BaseModel,
    adapter: str | None,
    held_out: Sequence[JudgedTask],
    images: Mapping[str, Path],
    *,
    version: str,
    training_set: str,
    at_most: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Evaluate one adapter.

    Metrics; one that no task can be measured on is left out:
        preference_accuracy: over tasks with rationales of both kinds, the share of (fitting, unfitting)
            pairs in which the fitting one has the higher mean log-probability (a tie counts half). One
            outcome per task, its share of pairs, because pairs of one task are not independent.
        fit_logprob: mean log-probability per token (nats) of the fitting rationales, one outcome per task.
        answer_accuracy: share of tasks whose own (greedy) answer is the given one; letter case, spacing
            and a full stop make no difference.

    Args:
        images: picture of a task -> local file.
        version: what to call the adapter in the report.
        training_set: hash of the training set that the tasks were held out from.
        at_most: tasks evaluated; drawn by `seed` where there are more, the same for every adapter.
        progress: told the tasks done and the tasks in all.
    """
    tasks = _chosen(held_out, at_most, seed)
    answers = _answers(base, adapter, tasks, images)
    outcomes: dict[str, list[float]] = {"preference_accuracy": [], "fit_logprob": [], "answer_accuracy": []}
    for done, (task, answer) in enumerate(zip(tasks, answers, strict=True), start=1):
        texts = [*task.fits, *task.unfits]
        scores = logprob_mean(base, images[task.image], task.question, task.answer, texts, adapter=adapter)
        fits, unfits = scores[: len(task.fits)], scores[len(task.fits) :]
        outcomes["answer_accuracy"].append(float(_plain(answer) == _plain(task.answer)))
        if fits:
            outcomes["fit_logprob"].append(fmean(fits))
        if fits and unfits:
            outcomes["preference_accuracy"].append(share_of_pairs(fits, unfits))
        if progress:
            progress(done, len(tasks))
    measured = {name: tuple(values) for name, values in outcomes.items() if values}
    metrics = {
        name: wilson(values) if name == "answer_accuracy" else bootstrap(values, seed=seed)
        for name, values in measured.items()
    }
    return EvaluationReport(version, training_set, metrics, measured)


def share_of_pairs(fits: Sequence[float], unfits: Sequence[float]) -> float:
    """Share of (fit, unfit) pairs in which the fit scores higher; a tie counts half."""
    return fmean((fit > unfit) + 0.5 * (fit == unfit) for fit in fits for unfit in unfits)


def _chosen(held_out: Sequence[JudgedTask], at_most: int, seed: int) -> list[JudgedTask]:
    """At most so many tasks, in the order they came."""
    if len(held_out) <= at_most:
        return list(held_out)
    kept = sorted(random.Random(seed).sample(range(len(held_out)), at_most))
    return [held_out[index] for index in kept]


def _answers(
    base: BaseModel, adapter: str | None, tasks: Sequence[JudgedTask], images: Mapping[str, Path]
) -> list[str]:
    requests = [
        SampleRequest(Task(0, task.task_id, task.image, task.question, task.answer), images[task.image])
        for task in tasks
    ]
    return TransformersGenerator(base).answer(requests, adapter=adapter)


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split()).rstrip(" .")
