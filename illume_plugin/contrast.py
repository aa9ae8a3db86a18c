"""What C3L's contrast (arXiv 2405.12752) compares: an anchor, rationales near it and rationales far from it.

Ticks decide where people have judged; elsewhere content relevance (i2c) does, by percentile of the pool,
never by a fixed number. The anchor is what the model says itself. Percentiles and anchor are ours.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from illume_plugin.examples import ContrastExample
from illume_plugin.identity import wording
from illume_plugin.types import Candidate, CandidateSet, Preference, Task
from illume_plugin.votes import TaskVotes, count_votes

#: i2c from this percentile of the pool up: the rationale was written looking at the picture.
POSITIVE_FROM = 0.7
#: Up to this percentile it could have been written without.
NEGATIVE_TO = 0.3


def build_contrast(
    tasks: Iterable[Task],
    preferences: Iterable[Preference],
    candidate_sets: Iterable[CandidateSet],
    *,
    pseudo_labels: bool = True,
) -> tuple[ContrastExample, ...]:
    """One example for each task that has an anchor and something on both sides of it.

    Args:
        tasks: those that may train; everything about other tasks is left out.
        candidate_sets: of a task with several, the one of the newest version gives the anchor.
        pseudo_labels: whether content relevance speaks for tasks that nobody has judged.
    """
    by_id = {task.task_id: task for task in tasks}
    votes = count_votes(each for each in preferences if each.task_id in by_id)
    sets = _newest(each for each in candidate_sets if each.task_id in by_id)
    pool = sorted(i2c for each in sets.values() for i2c in _i2c(each.candidates))
    examples = []
    for task_id, candidate_set in sorted(sets.items()):
        judged = task_id in votes
        anchor = _anchor(candidate_set.own)
        if anchor is None or not (judged or pseudo_labels):
            continue
        good, bad = _judged(votes[task_id]) if judged else _by_content(candidate_set.candidates, pool)
        example = _example(by_id[task_id], anchor, good, bad, pseudo=not judged)
        if example.positives and example.negatives:
            examples.append(example)
    return tuple(examples)


def _newest(sets: Iterable[CandidateSet]) -> Mapping[int, CandidateSet]:
    ordered = sorted(sets, key=lambda each: (each.version, each.plan))
    return {each.task_id: each for each in ordered}


def _anchor(candidates: Sequence[Candidate]) -> str | None:
    """The candidate that is nearest to the model's greedy rationale: drawn at the lowest temperature."""
    likeliest = min(
        candidates,
        key=lambda each: (each.temperature, -_or_lowest(each.logprob_mean), each.text),
        default=None,
    )
    return None if likeliest is None else likeliest.text


def _judged(votes: TaskVotes) -> tuple[list[str], list[str]]:
    good = [each.text for each in votes.values() if each.accepted]
    bad = [each.text for each in votes.values() if each.refused]
    return good, bad


def _by_content(candidates: Sequence[Candidate], pool: Sequence[float]) -> tuple[list[str], list[str]]:
    scored = [(each.text, _percentile(each.i2c, pool)) for each in candidates if each.i2c is not None]
    good = [text for text, percentile in scored if percentile >= POSITIVE_FROM]
    bad = [text for text, percentile in scored if percentile <= NEGATIVE_TO]
    return good, bad


def _percentile(value: float, pool: Sequence[float]) -> float:
    """Share of the sorted pool below the value, equal ones counted half."""
    return (bisect_left(pool, value) + bisect_right(pool, value)) / 2 / len(pool)


def _example(
    task: Task, anchor: str, good: Iterable[str], bad: Iterable[str], *, pseudo: bool
) -> ContrastExample:
    """The anchor's own wording is on neither side: its distance from itself teaches nothing."""
    itself = wording(anchor)
    positives, negatives = (
        tuple(sorted(text for text in side if wording(text) != itself)) for side in (good, bad)
    )
    return ContrastExample(
        task.task_id, task.image, task.question, task.answer, anchor, positives, negatives, pseudo
    )


def _i2c(candidates: Iterable[Candidate]) -> list[float]:
    return [each.i2c for each in candidates if each.i2c is not None]


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value
