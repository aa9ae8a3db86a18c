"""Takes in what Label Studio shows now, through the verbs that events use, and tells what was not known."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, case, func, select

from illume_plugin.identity import content_hash
from illume_plugin.preferences import (
    AnnotationDeleted,
    Observation,
    TaskDeleted,
    TaskNow,
    TaskSeen,
    Totals,
)
from illume_plugin.store import events, judgements, projects
from illume_plugin.store.dialect import alone
from illume_plugin.store.tables import annotations, tasks
from illume_plugin.types import Annotation

#: Our clock and the listener's may differ by so much, seconds.
_CLOCKS_DIFFER_S = 5.0
#: A statement takes a limited number of parameters.
_SLICE = 500


@dataclass(frozen=True, slots=True)
class Found:
    """Differences between Label Studio and the store, by kind."""

    new_tasks: int = 0
    changed_tasks: int = 0
    gone_tasks: int = 0
    new_annotations: int = 0
    changed_annotations: int = 0
    gone_annotations: int = 0

    def __add__(self, other: "Found") -> "Found":
        return Found(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def count(self) -> int:
        """All of them."""
        return sum(astuple(self))

    def __str__(self) -> str:
        told = zip(("new", "changed", "deleted") * 2, ("tasks",) * 3 + ("annotations",) * 3, strict=True)
        numbers = [f"{n} {how} {what}" for n, (how, what) in zip(astuple(self), told, strict=True) if n]
        return ", ".join(numbers) or "no difference"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is held of the tasks and annotations of a page, by id; deleted ones too."""

    tasks: dict[int, Row[Any]]
    annotations: dict[int, Row[Any]]


def take_in(
    conn: Connection, project_id: int, shown: Sequence[TaskNow], *, now: float, asked_at: float
) -> Found:
    """Make the store say of these tasks what Label Studio shows.

    Annotations that it does not show are gone, but for those that are newer than the task it showed: they
    came while it was asked. What it shows is there, even where a deletion was noted before (annotations of
    duplicates are moved from one task to another), unless that deletion was heard of since it was asked.

    Args:
        asked_at: when Label Studio was asked, by our clock.
    """
    if not shown:
        return Found()
    alone(conn, f"annotations of project {project_id}")
    known = _known(conn, project_id, shown)
    told = events.deletions_heard(conn, project_id, since=asked_at - _CLOCKS_DIFFER_S)
    new_tasks, changed_tasks = _take_tasks(conn, shown, known, told)
    deleted = {one.annotation_id for one in told if isinstance(one, AnnotationDeleted)}
    new, changed = 0, 0
    for annotation in (each for task in shown for each in task.annotations):
        held = known.annotations.get(annotation.annotation_id)
        sure = annotation.annotation_id not in deleted
        if _is_held(held, annotation) or not judgements.put(conn, annotation, now=now, sure=sure):
            continue
        was_live = held is not None and not held.deleted
        new, changed = new + (not was_live), changed + was_live
    gone = _gone(shown, known)
    for annotation_id in gone:
        judgements.delete(conn, project_id, annotation_id)
    return Found(new_tasks, changed_tasks, 0, new, changed, len(gone))


def _take_tasks(
    conn: Connection, shown: Sequence[TaskNow], known: _Known, told: Sequence[Observation]
) -> tuple[int, int]:
    """(new tasks, tasks whose data changed)."""
    deleted = {one.task_id for one in told if isinstance(one, TaskDeleted)}
    projects.add_tasks(conn, [task.seen for task in shown if task.task_id not in known.tasks])
    new, changed = 0, 0
    for task in shown:
        held = known.tasks.get(task.task_id)
        if held is not None and not _is_held(held, task.seen):
            projects.see_task(conn, task.seen, sure=task.task_id not in deleted)
        if held is None or held.deleted:
            new += 1
        elif held.data != dict(task.seen.data):
            changed += 1
    return new, changed


def _is_held(held: Row[Any] | None, shown: TaskSeen | Annotation) -> bool:
    return held is not None and not held.deleted and held.digest == content_hash(asdict(shown))


def take_out(conn: Connection, project_id: int, task_ids: Collection[int]) -> Found:
    """Note that Label Studio has these tasks no more."""
    alone(conn, f"annotations of project {project_id}")
    lost = 0
    for some in _slices(sorted(task_ids)):
        counted = (
            select(func.count()).select_from(annotations).filter_by(project_id=project_id, deleted=False)
        )
        lost += conn.execute(counted.where(annotations.c.task_id.in_(some))).scalar_one()
    for task_id in task_ids:
        projects.delete_task(conn, project_id, task_id)
        judgements.delete_of_task(conn, project_id, task_id)
    return Found(gone_tasks=len(task_ids), gone_annotations=lost)


def task_ids(conn: Connection, project_id: int, low: int, high: int) -> list[int]:
    """Ids of the tasks with low < id <= high that are not deleted, in order."""
    query = select(tasks.c.task_id).filter_by(project_id=project_id, deleted=False)
    return list(conn.execute(query.where(_within(tasks, low, high)).order_by(tasks.c.task_id)).scalars())


def last_task(conn: Connection, project_id: int) -> int:
    """The greatest id of a task that is known, 0 for none."""
    query = select(func.max(tasks.c.task_id)).filter_by(project_id=project_id, deleted=False)
    return conn.execute(query).scalar_one() or 0


def totals(conn: Connection, project_id: int, *, within: tuple[int, int] | None = None) -> Totals:
    """Tasks, submitted and skipped annotations that are not deleted, of all tasks or of an id range."""

    number = conn.execute(select(func.count()).where(*_live(tasks, project_id, within))).scalar_one()
    skips = func.coalesce(func.sum(case((annotations.c.was_cancelled, 1), else_=0)), 0)
    live = _live(annotations, project_id, within)
    said, skipped = conn.execute(select(func.count(), skips).where(*live)).one()
    return Totals(int(number), int(said) - int(skipped), int(skipped))


def _live(table: Table, project_id: int, within: tuple[int, int] | None) -> list[ColumnElement[bool]]:
    live = [table.c.project_id == project_id, table.c.deleted.is_(False)]
    return [*live, _within(table, *within)] if within else live


def _known(conn: Connection, project_id: int, shown: Sequence[TaskNow]) -> _Known:
    held_tasks: dict[int, Row[Any]] = {}
    held: dict[int, Row[Any]] = {}
    columns = [tasks.c[name] for name in ("task_id", "digest", "deleted", "data")]
    for some in _slices([task.task_id for task in shown]):
        query = select(*columns).filter_by(project_id=project_id).where(tasks.c.task_id.in_(some))
        held_tasks |= {row.task_id: row for row in conn.execute(query)}
        held |= _held(conn, project_id, annotations.c.task_id.in_(some))
    # one that was moved is known under another task
    for some in _slices([each.annotation_id for task in shown for each in task.annotations]):
        held |= _held(conn, project_id, annotations.c.annotation_id.in_(some))
    return _Known(held_tasks, held)


def _held(conn: Connection, project_id: int, wanted: ColumnElement[bool]) -> dict[int, Row[Any]]:
    names = "annotation_id", "task_id", "updated_at", "digest", "deleted"
    query = select(*(annotations.c[name] for name in names)).filter_by(project_id=project_id)
    return {row.annotation_id: row for row in conn.execute(query.where(wanted))}


def _gone(shown: Sequence[TaskNow], known: _Known) -> list[int]:
    there = {each.annotation_id for task in shown for each in task.annotations}
    as_of = {task.task_id: task.updated_at for task in shown}
    return [
        annotation_id
        for annotation_id, held in known.annotations.items()
        if annotation_id not in there and not held.deleted and held.updated_at <= as_of[held.task_id]
    ]


def _within(table: Table, low: int, high: int) -> ColumnElement[bool]:
    return (table.c.task_id > low) & (table.c.task_id <= high)


def _slices(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + _SLICE] for start in range(0, len(ids), _SLICE))
