"""Annotations as last seen, and the preferences they hold.

The table is the fold of `preferences.Ledger` kept in SQL: the newest (updated_at, digest) of an annotation
wins, deletion is for ever. So any order and any repetition of events ends in the same rows. Above the events
stands what Label Studio shows when it is asked (`sure`): it is the truth, events are hints.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy import delete as sql_delete

from illume_plugin.identity import content_hash
from illume_plugin.preferences import preferences_of
from illume_plugin.store.dialect import alone, insert_or_ignore
from illume_plugin.store.tables import annotations, preferences, tasks
from illume_plugin.types import Annotation, Origin, Preference, Verdict

_LONGEST_VERSION = 64
#: Rows fetched at a time where all are gone through.
_AT_A_TIME = 2000
_FIELDS = tuple(each.name for each in fields(Preference))
_VERDICT, _ORIGIN = _FIELDS.index("verdict"), _FIELDS.index("origin")
_VERDICTS = {each.value: each for each in Verdict}
_ORIGINS = {each.value: each for each in Origin}


def put(conn: Connection, annotation: Annotation, *, now: float, sure: bool = False) -> bool:
    """Keep this state of the annotation unless a newer one or its deletion is known.

    Args:
        sure: Label Studio shows it at this moment. Then a deletion noted before was of something else (its
            former task), and of two states of one time this one is right.

    Returns:
        True when the state was new.
    """
    _alone_with(conn, annotation.project_id)
    key = {"project_id": annotation.project_id, "annotation_id": annotation.annotation_id}
    values = {
        "task_id": annotation.task_id,
        "updated_at": annotation.updated_at,
        "digest": content_hash(asdict(annotation)),
        "deleted": _task_is_deleted(conn, annotation.project_id, annotation.task_id),
        "was_cancelled": annotation.was_cancelled,
        "annotator": annotation.annotator,
        "lead_time": annotation.lead_time,
        "result": [dict(item) for item in annotation.result],
    }
    if not conn.execute(insert_or_ignore(conn, annotations).values(**key, **values)).rowcount:
        replaces = _replaces_now(values) if sure else _replaces(values)
        if not conn.execute(update(annotations).filter_by(**key).where(replaces).values(**values)).rowcount:
            return False
    _rewrite_preferences(conn, annotation, keep=not values["deleted"], now=now)
    return True


def _replaces(values: Mapping[str, Any]) -> ColumnElement[bool]:
    """Whether a state told by an event replaces the one that is held."""
    held = annotations.c
    newer = held.updated_at < values["updated_at"]
    tie = and_(held.updated_at == values["updated_at"], held.digest < values["digest"])
    return and_(held.deleted.is_(False), or_(newer, tie))


def _replaces_now(values: Mapping[str, Any]) -> ColumnElement[bool]:
    """Whether the state that Label Studio shows now replaces the one that is held."""
    held = annotations.c
    newer = held.updated_at < values["updated_at"]
    other = or_(held.digest != values["digest"], held.deleted != values["deleted"])
    return or_(newer, and_(held.updated_at == values["updated_at"], other))


def delete(conn: Connection, project_id: int, annotation_id: int) -> None:
    """Forget what an annotation said, for ever, also when it has not been seen yet."""
    _alone_with(conn, project_id)
    key = {"project_id": project_id, "annotation_id": annotation_id}
    conn.execute(
        insert_or_ignore(conn, annotations).values(
            **key, updated_at="", digest="", deleted=True, was_cancelled=False, result=[]
        )
    )
    conn.execute(update(annotations).filter_by(**key).values(deleted=True))
    conn.execute(sql_delete(preferences).filter_by(**key))


def delete_of_task(conn: Connection, project_id: int, task_id: int) -> None:
    """Forget the annotations of a deleted task (Label Studio sends no event for them)."""
    _alone_with(conn, project_id)
    key = {"project_id": project_id, "task_id": task_id}
    conn.execute(update(annotations).filter_by(**key).values(deleted=True))
    conn.execute(sql_delete(preferences).filter_by(**key))


def _alone_with(conn: Connection, project_id: int) -> None:
    """An annotation and the deletion of its task may arrive at two processes at the same time."""
    alone(conn, f"annotations of project {project_id}")


def _task_is_deleted(conn: Connection, project_id: int, task_id: int) -> bool:
    query = select(tasks.c.deleted).filter_by(project_id=project_id, task_id=task_id)
    return bool(conn.execute(query).scalar_one_or_none())


def _rewrite_preferences(conn: Connection, annotation: Annotation, *, keep: bool, now: float) -> None:
    conn.execute(
        sql_delete(preferences).filter_by(
            project_id=annotation.project_id, annotation_id=annotation.annotation_id
        )
    )
    rows = [
        {**asdict(p), "verdict": p.verdict.value, "origin": p.origin.value, "noted_at": now}
        | {"version": _name(p.version), "shared_with": _name(p.shared_with)}
        for p in (preferences_of(annotation) if keep else [])
    ]
    if rows:
        conn.execute(insert(preferences), rows)


def _name(version: str | None) -> str | None:
    """A version that an annotation names. That comes from outside; too long a name is none of ours."""
    return version if version is None or len(version) <= _LONGEST_VERSION else None


def preferences_in(conn: Connection, project_id: int, *, after: int = 0) -> list[Preference]:
    """Every preference of the project, ordered by annotation and position.

    Args:
        after: only those of annotations with a greater id.
    """
    return list(each_preference(conn, project_id, after=after))


def each_preference(
    conn: Connection, project_id: int, *, after: int = 0
) -> Generator[Preference, None, None]:
    """As `preferences_in`, one after the other, within the transaction; close it where some are left."""
    c = preferences.c
    query = (
        select(*(c[name] for name in _FIELDS))
        .filter_by(project_id=project_id)
        .where(c.annotation_id > after)
        .order_by(c.annotation_id, c.position, c.preference_id)
        .execution_options(yield_per=_AT_A_TIME)
    )
    last: Sequence[Any] = ()
    with conn.execute(query) as rows:  # PostgreSQL keeps the rest of them ready until it is told
        for row in rows:
            # what a row has in common with the one before is one object: a million take half the memory
            last = [old if old == new else new for old, new in zip(last or row, row, strict=True)]
            yield _preference(last)


def preferences_of_annotations(
    conn: Connection, project_id: int, annotation_ids: Collection[int]
) -> dict[int, list[Preference]]:
    """Annotation id -> its preferences, for those of `annotation_ids` that hold any."""
    found: dict[int, list[Preference]] = {}
    wanted = sorted(annotation_ids)
    for start in range(0, len(wanted), 500):  # a statement takes a limited number of parameters
        rows = conn.execute(
            select(preferences)
            .filter_by(project_id=project_id)
            .where(preferences.c.annotation_id.in_(wanted[start : start + 500]))
        )
        for row in rows:
            found.setdefault(row.annotation_id, []).append(_read(row))
    return found


def newest_annotation(conn: Connection, project_id: int) -> int:
    """The greatest id of an annotation of the project that is known; 0 without any."""
    query = select(func.max(annotations.c.annotation_id)).filter_by(project_id=project_id)
    return int(conn.execute(query).scalar_one() or 0)


def digests(conn: Connection, project_id: int) -> dict[int, str]:
    """Annotation id -> digest of its state, of every annotation that is not deleted."""
    rows = conn.execute(
        select(annotations.c.annotation_id, annotations.c.digest).filter_by(
            project_id=project_id, deleted=False
        )
    )
    return {row.annotation_id: row.digest for row in rows}


def _read(row: Row[tuple[object, ...]]) -> Preference:
    return _preference([row._mapping[name] for name in _FIELDS])


def _preference(values: Sequence[Any]) -> Preference:
    """A preference of the values of its fields, in their order."""
    held = list(values)
    held[_VERDICT], held[_ORIGIN] = _VERDICTS[held[_VERDICT]], _ORIGINS[held[_ORIGIN]]
    return Preference(*held)


def count_preferences(conn: Connection, project_id: int, *, since: float = 0.0) -> int:
    """How many preferences were noted (or noted again, changed) after `since`."""
    query = (
        select(func.count())
        .select_from(preferences)
        .filter_by(project_id=project_id)
        .where(preferences.c.noted_at > since)
    )
    return int(conn.execute(query).scalar_one())


def judged_tasks(conn: Connection, project_id: int) -> set[int]:
    """Ids of the tasks with at least one live annotation (skipped ones included)."""
    query = select(annotations.c.task_id).filter_by(project_id=project_id, deleted=False).distinct()
    return set(conn.execute(query).scalars())
