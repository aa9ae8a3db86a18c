"""The figures of an evaluation, from what an adapter made of each held-out task. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from illume_plugin.intervals import bootstrap, wilson
from illume_plugin.metrics import rouge_l
from illume_plugin.ngram_metrics import BleuCounts, bleu, bleu_counts, cider
from illume_plugin.types import JudgedTask, Metric

#: Resamples of the interval of a figure that is of all tasks together.
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class EvaluatedTask:
    """One held-out task and what an adapter made of it.

    Attributes:
        answer: the adapter's own (greedy) answer to the question.
        rationales: what it said when it was asked to explain the given answer, the likeliest first, each
            wording once; empty where nothing was sampled or nothing was usable.
        outcomes: metric -> this task's figure.
    """

    task: JudgedTask
    answer: str
    rationales: tuple[str, ...] = ()
    outcomes: Mapping[str, float] = field(default_factory=dict)


def metrics_of(
    tasks: Sequence[EvaluatedTask], *, seed: int = 0
) -> tuple[dict[str, Metric], dict[str, tuple[float, ...]]]:
    """(metric -> figure with its 95 % interval, metric -> outcome per task).

    A metric that no task can be measured on is left out:
        preference_accuracy: over tasks with judged rationales of both kinds, the share of (fitting,
            unfitting) pairs in which the fitting one has the higher mean log-probability (a tie counts half).
            One outcome per task, its share of pairs, because pairs of one task are not independent.
        fit_logprob: mean log-probability per token (nats) of the fitting rationales, one outcome per task.
        answer_accuracy: share of tasks whose own (greedy) answer is the given one; letter case, spacing
            and a full stop make no difference.
        diversity: share of a task's draws that are usable and say something no other draw says.
        grounding: mean over a task's rationales of their pmi, nats per token: how much likelier the picture
            makes them.
        rouge_l, cider, bleu: likeness of the likeliest rationale to the task's fitting ones; 0 where nothing
            usable was sampled. BLEU is of all tasks together and has no outcome per task.

    Intervals are the bootstrap's over tasks, Wilson's for answer accuracy.
    """
    outcomes = _outcomes(tasks)
    metrics = {
        name: wilson(values) if name == "answer_accuracy" else bootstrap(values, seed=seed)
        for name, values in outcomes.items()
    }
    counts = [bleu_counts(_first(each), each.task.fits) for each in _with_references(tasks)]
    if counts:
        metrics["bleu"] = _corpus_bleu(counts, seed)
    return metrics, outcomes


def _outcomes(tasks: Sequence[EvaluatedTask]) -> dict[str, tuple[float, ...]]:
    names = dict.fromkeys(name for each in tasks for name in each.outcomes)
    found = {name: tuple(t.outcomes[name] for t in tasks if name in t.outcomes) for name in names}
    compared = _with_references(tasks)
    if compared:
        texts = [_first(each) for each in compared]
        found["rouge_l"] = tuple(
            max(rouge_l(text, fit) for fit in each.task.fits)
            for text, each in zip(texts, compared, strict=True)
        )
        found["cider"] = tuple(cider(texts, [each.task.fits for each in compared]))
    return found


def _with_references(tasks: Sequence[EvaluatedTask]) -> list[EvaluatedTask]:
    """Tasks with rationales that fit, and for which rationales were sampled."""
    return [each for each in tasks if each.task.fits and "diversity" in each.outcomes]


def _first(task: EvaluatedTask) -> str:
    return task.rationales[0] if task.rationales else ""


def _corpus_bleu(counts: Sequence[BleuCounts], seed: int) -> Metric:
    rng, n = random.Random(seed), len(counts)
    drawn = sorted(bleu(rng.choices(counts, k=n)) for _ in range(DRAWS))
    low, high = drawn[round(0.025 * (DRAWS - 1))], drawn[round(0.975 * (DRAWS - 1))]
    return Metric(bleu(counts), low, high, n)
