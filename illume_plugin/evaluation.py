"""How good an adapter is on held-out tasks: judged rationales, its own answers, its own rationales."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from illume_plugin.base_model import BaseModel
from illume_plugin.evaluated import EvaluatedTask, metrics_of
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.metrics import distinct_share
from illume_plugin.scoring import logprob_mean
from illume_plugin.selection import clean
from illume_plugin.types import Candidate, EvaluationReport, JudgedTask, Task

#: How the rationales are sampled that an adapter is judged by: the middle one of the usual temperatures, and
#: enough of them to see whether they repeat each other.
DRAWS = SamplingPlan(temperatures=(0.6,), samples=4, common_noise=True)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        tasks: held-out tasks that are looked at, at most; drawn by `seed` where there are more, the same for
            every adapter.
        sampled: of these, the first so many get rationales sampled; the dearest part by far.
    """

    tasks: int = 200
    sampled: int = 0
    seed: int = 0


def evaluate(
    base: BaseModel,
    adapter: str | None,
    held_out: Sequence[JudgedTask],
    images: Mapping[str, Path],
    *,
    version: str,
    training_set: str,
    extent: Extent | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Evaluate one adapter; see `metrics_of` for the metrics.

    Args:
        images: picture of a task -> local file.
        version: what to call the adapter in the report.
        training_set: hash of the training set that the tasks were held out from.
        progress: told the tasks done and the tasks in all.
    """
    extent = extent or Extent()
    tasks = evaluate_tasks(base, adapter, held_out, images, extent=extent, progress=progress)
    metrics, outcomes = metrics_of(tasks, seed=extent.seed)
    return EvaluationReport(version, training_set, metrics, outcomes)


def evaluate_tasks(
    base: BaseModel,
    adapter: str | None,
    held_out: Sequence[JudgedTask],
    images: Mapping[str, Path],
    *,
    extent: Extent,
    progress: Callable[[int, int], None] | None = None,
) -> list[EvaluatedTask]:
    """What one adapter makes of each held-out task."""
    tasks = _chosen(held_out, extent.tasks, extent.seed)
    answers = _answers(base, adapter, tasks, images)
    found = []
    for done, (task, answer) in enumerate(zip(tasks, answers, strict=True), start=1):
        rationales = _rationales(base, adapter, task, images) if done <= extent.sampled else None
        found.append(_evaluated(base, adapter, task, images, answer, rationales))
        if progress:
            progress(done, len(tasks))
    return found


def share_of_pairs(fits: Sequence[float], unfits: Sequence[float]) -> float:
    """Share of (fit, unfit) pairs in which the fit scores higher; a tie counts half."""
    return fmean((fit > unfit) + 0.5 * (fit == unfit) for fit in fits for unfit in unfits)


def _evaluated(
    base: BaseModel,
    adapter: str | None,
    task: JudgedTask,
    images: Mapping[str, Path],
    answer: str,
    rationales: Sequence[Candidate] | None,
) -> EvaluatedTask:
    texts = [*task.fits, *task.unfits]
    scores = logprob_mean(base, images[task.image], task.question, task.answer, texts, adapter=adapter)
    fits, unfits = scores[: len(task.fits)], scores[len(task.fits) :]
    outcomes = {"answer_accuracy": float(_plain(answer) == _plain(task.answer))}
    if fits:
        outcomes["fit_logprob"] = fmean(fits)
    if fits and unfits:
        outcomes["preference_accuracy"] = share_of_pairs(fits, unfits)
    if rationales is not None:
        outcomes["diversity"] = distinct_share([each.text for each in rationales], draws=DRAWS.size)
        blind = [each.pmi for each in rationales if each.pmi is not None]
        outcomes |= {"grounding": fmean(blind)} if blind else {}
    ordered = sorted(rationales or (), key=lambda each: -(each.logprob_mean or 0.0))
    return EvaluatedTask(task, answer, tuple(each.text for each in ordered), outcomes)


def _rationales(
    base: BaseModel, adapter: str | None, task: JudgedTask, images: Mapping[str, Path]
) -> list[Candidate]:
    """What is left of the draws, repetitions gone, with its scores."""
    generator, requests = TransformersGenerator(base), [_request(task, images)]
    (draws,) = generator.draw(requests, DRAWS, adapter=adapter)
    (scored,) = generator.score(requests, [clean(draws).kept], adapter=adapter)
    return scored


def _chosen(held_out: Sequence[JudgedTask], at_most: int, seed: int) -> list[JudgedTask]:
    """At most so many tasks, in the order they came."""
    if len(held_out) <= at_most:
        return list(held_out)
    kept = sorted(random.Random(seed).sample(range(len(held_out)), at_most))
    return [held_out[index] for index in kept]


def _answers(
    base: BaseModel, adapter: str | None, tasks: Sequence[JudgedTask], images: Mapping[str, Path]
) -> list[str]:
    requests = [_request(task, images) for task in tasks]
    return TransformersGenerator(base).answer(requests, adapter=adapter)


def _request(task: JudgedTask, images: Mapping[str, Path]) -> SampleRequest:
    return SampleRequest(Task(0, task.task_id, task.image, task.question, task.answer), images[task.image])


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split()).rstrip(" .")
