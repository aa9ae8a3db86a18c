"""Makes the immutable training set of a run: who trains, who is held out, and one hash over all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from illume_plugin.contrast import build_contrast
from illume_plugin.errors import RunError
from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    ObjectiveName,
    PreferencePair,
)
from illume_plugin.feedback import build_feedback
from illume_plugin.identity import content_bits, content_hash_of_lists, wording
from illume_plugin.pairs import PairRules, build_labels, build_pairs
from illume_plugin.types import CandidateSet, Json, JudgedTask, Preference, Task, TrainingRow, TrainingSet
from illume_plugin.votes import TaskVotes, by_task, count_votes

#: Names of the fields of every kind of record: asking for them a million times takes seconds.
_NAMES = {
    kind: tuple(each.name for each in fields(kind))
    for kind in (
        TrainingRow,
        JudgedTask,
        PreferencePair,
        LabelledRationale,
        FeedbackExample,
        Condition,
        ContrastExample,
    )
}


def is_held_out(task: Task, fraction: float = 0.2) -> bool:
    """Whether a task is for evaluation only.

    Decided by image, question and answer alone, so it is the same in every run, for every annotator and
    after a new import. A greater fraction keeps every task that a smaller one held out.
    """
    return content_bits([task.image, task.question, task.answer]) < fraction * 2**64


def build_training_set(
    project_id: int,
    tasks: Sequence[Task],
    preferences: Sequence[Preference],
    *,
    held_out_fraction: float = 0.2,
    answer_only_ratio: float = 10,
    weigh_agreement: bool = True,
    weigh_content: bool = False,
    seed: int = 0,
    objectives: Collection[ObjectiveName] = (ObjectiveName.ILLUME,),
    candidate_sets: Sequence[CandidateSet] = (),
    negatives: Mapping[int, Collection[str]] | None = None,
    rules: PairRules | None = None,
) -> TrainingSet:
    """Put together what a run trains on and what it is evaluated on, whatever order the inputs come in.

    A rationale is accepted when more annotations say that it fits than that it does not; its weight is
    the share that say so. Tasks without an accepted rationale come in as answer-only rows, which keeps the
    answers while the rationales are learnt (ILLUME, arXiv 2208.08241).

    Args:
        tasks, preferences: of this project; those of other projects are left out.
        held_out_fraction: share of tasks that never train, 0 to 1.
        answer_only_ratio: answer-only rows per accepted rationale, at most.
        weigh_agreement: no: an accepted rationale has weight 1, however narrow the majority.
        weigh_content: yes: accepted rationales that were candidates come with their i2c.
        seed: chooses the answer-only rows.
        objectives: those that are on; the records of the others stay empty. The rows are always there.
        candidate_sets: for automatic pairs, see `build_pairs`, for contrast, see `build_contrast`, and for
            the i2c of rows; of a task with several, the last one counts.
        negatives, rules: see `build_pairs`.
    """
    preferences = [each for each in preferences if each.project_id == project_id]
    candidate_sets = [each for each in candidate_sets if each.project_id == project_id]
    by_id = {task.task_id: task for task in sorted(tasks, key=_by_content) if task.project_id == project_id}
    held_out, training, accepted = _sorted_out(by_id.values(), preferences, held_out_fraction)
    if not weigh_agreement:
        accepted = [replace(row, weight=1.0) for row in accepted]
    if weigh_content:
        accepted = _with_content(accepted, candidate_sets)
    answer_only = _answer_only_rows(training, accepted, int(answer_only_ratio * len(accepted)), seed)
    rows = tuple(sorted([*accepted, *answer_only], key=_by_task))
    built = _with_objectives(
        TrainingSet(project_id, rows, tuple(held_out), ""),
        objectives,
        training,
        preferences,
        candidate_sets=candidate_sets,
        negatives=negatives,
        rules=rules,
        weigh_agreement=weigh_agreement,
    )
    hashed = {name: map(_told, records) for name, records in _named(built).items()}
    return replace(built, content_hash=content_hash_of_lists(hashed))


def _sorted_out(
    tasks: Iterable[Task], preferences: Iterable[Preference], fraction: float
) -> tuple[list[JudgedTask], list[Task], list[TrainingRow]]:
    """(held-out tasks, tasks that may train, their accepted rationales).

    The votes of one task at a time: those of a million preferences would take more room than all the rest.
    """
    said = by_task(preferences)
    held_out: list[JudgedTask] = []
    training: list[Task] = []
    accepted: list[TrainingRow] = []
    for task in tasks:
        votes = count_votes(said.get(task.task_id, ())).get(task.task_id, {})
        if is_held_out(task, fraction):
            held_out.append(_judged(task, votes))
        else:
            training.append(task)
            accepted += _accepted_rows(task, votes)
    return held_out, training, accepted


def content_of(training_set: TrainingSet) -> dict[str, Json]:
    """What the hash of a training set is over, as JSON.

    Records of an objective, and a row's i2c, are named only where there are some, so that a set without them
    has the hash that it had before there were any.
    """
    return {name: [_told(record) for record in records] for name, records in _named(training_set).items()}


def _named(training_set: TrainingSet) -> dict[str, Sequence[Any]]:
    always: dict[str, Sequence[Any]] = {"rows": training_set.rows, "held_out": training_set.held_out}
    where_any: dict[str, Sequence[Any]] = {
        "pairs": training_set.pairs,
        "labels": training_set.labels,
        "feedback": training_set.feedback,
        "contrast": training_set.contrast,
    }
    return always | {name: records for name, records in where_any.items() if records}


def refuse(training_set: TrainingSet, *, minimum_accepted: int = 1) -> None:
    """Say no to a training set from which nothing can be learnt.

    Raises:
        RunError: it holds fewer than `minimum_accepted` accepted rationales.
    """
    if training_set.accepted >= minimum_accepted:
        return
    held_out = training_set.held_out
    judged = sum(bool(task.fits or task.unfits) for task in held_out)
    raise RunError(
        f"The training set has {training_set.accepted} accepted rationales, a run needs {minimum_accepted}.",
        why=f"Of {len(held_out)} held-out tasks {judged} are judged, but those are for evaluation only.",
        todo="Tick more candidates that fit in Label Studio, then start the run again.",
    )


def _with_objectives(
    built: TrainingSet,
    objectives: Collection[ObjectiveName],
    training: Sequence[Task],
    preferences: Sequence[Preference],
    *,
    candidate_sets: Sequence[CandidateSet],
    negatives: Mapping[int, Collection[str]] | None,
    rules: PairRules | None,
    weigh_agreement: bool,
) -> TrainingSet:
    if ObjectiveName.DPO in objectives:
        pairs = build_pairs(
            training,
            preferences,
            candidate_sets=candidate_sets,
            negatives=negatives,
            rules=rules,
            weigh_agreement=weigh_agreement,
        )
        built = replace(built, pairs=pairs)
    if ObjectiveName.KTO in objectives:
        labels = build_labels(training, preferences, pairs=built.pairs, weigh_agreement=weigh_agreement)
        built = replace(built, labels=labels)
    if ObjectiveName.DRESS in objectives:
        feedback = build_feedback(training, preferences, weigh_agreement=weigh_agreement)
        built = replace(built, feedback=feedback)
    if ObjectiveName.CONTRAST in objectives:
        built = replace(built, contrast=build_contrast(training, preferences, candidate_sets))
    return built


def _told(record: Any) -> dict[str, Json]:
    said = {name: getattr(record, name) for name in _NAMES[type(record)]}
    if isinstance(record, FeedbackExample):
        said["condition"] = _told(record.condition)
    elif said.get("i2c", 0) is None:
        del said["i2c"]
    return said


def _with_content(rows: Iterable[TrainingRow], sets: Iterable[CandidateSet]) -> list[TrainingRow]:
    """The rows with the i2c of the candidates that they are, in whatever spelling."""
    known = {
        (each.task_id, wording(candidate.text)): candidate.i2c
        for each in sets
        for candidate in each.candidates
    }
    return [replace(row, i2c=known.get((row.task_id, wording(row.rationale or "")))) for row in rows]


def _accepted_rows(task: Task, votes: TaskVotes) -> list[TrainingRow]:
    return [_row(task, each.text, each.fit_share) for each in votes.values() if each.accepted]


def _answer_only_rows(
    tasks: Iterable[Task], accepted: Iterable[TrainingRow], limit: int, seed: int
) -> list[TrainingRow]:
    with_rationale = {row.task_id for row in accepted}
    others = [task for task in tasks if task.task_id not in with_rationale]
    # drawn by hash: from one run to the next most of the drawn tasks stay the same
    drawn = sorted(others, key=lambda task: (content_bits([seed, task.task_id]), task.task_id))[:limit]
    return [_row(task) for task in drawn]


def _judged(task: Task, votes: TaskVotes) -> JudgedTask:
    fits = sorted(each.text for each in votes.values() if each.accepted)
    unfits = sorted(each.text for each in votes.values() if each.refused)
    return JudgedTask(task.task_id, task.image, task.question, task.answer, tuple(fits), tuple(unfits))


def _row(task: Task, rationale: str | None = None, weight: float = 1.0) -> TrainingRow:
    return TrainingRow(task.task_id, task.image, task.question, task.answer, rationale, weight)


def _by_content(task: Task) -> tuple[int, str, str, str]:
    return task.task_id, task.image, task.question, task.answer


def _by_task(row: TrainingRow) -> tuple[int, str]:
    return row.task_id, row.rationale or ""
