"""Makes the immutable training set of a run: who trains, who is held out, and one hash over all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from illume_plugin.errors import RunError
from illume_plugin.identity import content_bits, content_hash, wording
from illume_plugin.types import JudgedTask, Preference, Task, TrainingRow, TrainingSet, Verdict


@dataclass(slots=True)
class _Votes:
    """What all annotators together said of one wording on one task."""

    fits: int = 0
    unfits: int = 0
    spellings: Counter[str] = field(default_factory=Counter)

    @property
    def text(self) -> str:
        """The spelling that was judged most often, of equals the first in order of text."""
        return min(self.spellings, key=lambda spelling: (-self.spellings[spelling], spelling))

    @property
    def weight(self) -> float:
        """Share of annotators who say that it fits."""
        return self.fits / (self.fits + self.unfits)


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
    seed: int = 0,
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
        seed: chooses the answer-only rows.
    """
    votes = _count(p for p in preferences if p.project_id == project_id)
    by_id = {task.task_id: task for task in sorted(tasks, key=_by_content) if task.project_id == project_id}
    mine = by_id.values()
    held_out = tuple(
        _judged(task, votes.get(task.task_id, {})) for task in mine if is_held_out(task, held_out_fraction)
    )
    training = [task for task in mine if not is_held_out(task, held_out_fraction)]
    accepted = [row for task in training for row in _accepted_rows(task, votes.get(task.task_id, {}))]
    if not weigh_agreement:
        accepted = [replace(row, weight=1.0) for row in accepted]
    answer_only = _answer_only_rows(training, accepted, int(answer_only_ratio * len(accepted)), seed)
    rows = tuple(sorted([*accepted, *answer_only], key=_by_task))
    content = {"rows": [asdict(row) for row in rows], "held_out": [asdict(task) for task in held_out]}
    return TrainingSet(project_id, rows, held_out, content_hash(content))


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


def _count(preferences: Iterable[Preference]) -> Mapping[int, Mapping[str, _Votes]]:
    """Task id -> wording -> votes. A preference that is given twice counts once."""
    votes: dict[int, dict[str, _Votes]] = {}
    for preference in set(preferences):
        of_task = votes.setdefault(preference.task_id, {})
        counted = of_task.setdefault(wording(preference.text), _Votes())
        counted.spellings[preference.text] += 1
        if preference.verdict is Verdict.FITS:
            counted.fits += 1
        else:
            counted.unfits += 1
    return votes


def _accepted_rows(task: Task, votes: Mapping[str, _Votes]) -> list[TrainingRow]:
    return [_row(task, each.text, each.weight) for each in votes.values() if each.fits > each.unfits]


def _answer_only_rows(
    tasks: Iterable[Task], accepted: Iterable[TrainingRow], limit: int, seed: int
) -> list[TrainingRow]:
    with_rationale = {row.task_id for row in accepted}
    others = [task for task in tasks if task.task_id not in with_rationale]
    # drawn by hash: from one run to the next most of the drawn tasks stay the same
    drawn = sorted(others, key=lambda task: (content_bits([seed, task.task_id]), task.task_id))[:limit]
    return [_row(task) for task in drawn]


def _judged(task: Task, votes: Mapping[str, _Votes]) -> JudgedTask:
    fits = sorted(each.text for each in votes.values() if each.fits > each.unfits)
    unfits = sorted(each.text for each in votes.values() if each.fits < each.unfits)
    return JudgedTask(task.task_id, task.image, task.question, task.answer, tuple(fits), tuple(unfits))


def _row(task: Task, rationale: str | None = None, weight: float = 1.0) -> TrainingRow:
    return TrainingRow(task.task_id, task.image, task.question, task.answer, rationale, weight)


def _by_content(task: Task) -> tuple[int, str, str, str]:
    return task.task_id, task.image, task.question, task.answer


def _by_task(row: TrainingRow) -> tuple[int, str]:
    return row.task_id, row.rationale or ""
