"""Raw webhook events: appended durably, applied once each, in any order with the same outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, func, select, update

from illume_plugin.errors import BadRequestError
from illume_plugin.preferences import (
    AnnotationDeleted,
    AnnotationSeen,
    ConfigSeen,
    Observation,
    TaskDeleted,
    TaskSeen,
    observe,
)
from illume_plugin.store import judgements, projects
from illume_plugin.store.dialect import alone, insert_or_ignore
from illume_plugin.store.engines import Encoded
from illume_plugin.store.tables import events

_DELETIONS = frozenset({"ANNOTATIONS_DELETED", "TASKS_DELETED"})
#: Events looked at together for what was heard a moment ago.
_NEWEST = 200


def append(conn: Connection, body: Mapping[str, Any], *, now: float) -> bool:
    """Keep one event for ever. `body` must already be free of secrets (preferences.strip_secrets).

    Returns:
        False when exactly this event is here already.
    """
    return append_rows(conn, [row(body, now=now)])[0]


def row(body: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """One event as `append_rows` takes it. `body` must already be free of secrets."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "action": str(body.get("action"))[:64],
        "project_id": _project_of(body),
        "body": Encoded(text),
        "received_at": now,
    }


def append_rows(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Keep several events for ever, with one statement.

    Returns:
        For each, False when exactly this event is here already, or stands before it.
    """
    statement = insert_or_ignore(conn, events).returning(events.c.digest)
    # in one order everywhere: two processes that are given the same events must not wait for each other
    ordered = sorted((dict(one) for one in rows), key=lambda one: str(one["digest"]))
    kept = set(conn.execute(statement, ordered).scalars())
    news = []
    for one in rows:
        news.append(one["digest"] in kept)
        kept.discard(one["digest"])
    return news


def _project_of(body: Mapping[str, Any]) -> int | None:
    """The project that an event names, of whatever kind it is; None where that is no number of a project."""
    project = body.get("project")
    named = project.get("id") if isinstance(project, Mapping) else None
    if not isinstance(named, int) or isinstance(named, bool):
        return None
    return named if 0 < named < 2**63 else None


def apply_pending(conn: Connection, *, now: float, limit: int = 500) -> int:
    """Apply events that nobody has applied yet; the caller repeats until 0 comes back.

    An event that cannot be understood is kept with the reason beside it and is not tried again. Two callers
    take turns, so that what one of them returns from has been applied, by whomever.

    Returns:
        How many events were looked at.
    """
    alone(conn, "events")
    rows = conn.execute(
        select(events.c.event_id, events.c.body)
        .where(events.c.applied_at.is_(None))
        .order_by(events.c.event_id)
        .limit(limit)
    ).all()
    for row in rows:
        problem = None
        try:
            for observation in observe(row.body):
                _apply(conn, observation, now=now)
        except BadRequestError as error:
            problem = str(error)
        conn.execute(
            update(events).where(events.c.event_id == row.event_id).values(applied_at=now, problem=problem)
        )
    return len(rows)


def _apply(conn: Connection, observation: Observation, *, now: float) -> None:
    match observation:
        case AnnotationSeen(annotation):
            judgements.put(conn, annotation, now=now)
        case AnnotationDeleted(project_id, annotation_id):
            judgements.delete(conn, project_id, annotation_id)
        case TaskSeen():
            projects.see_task(conn, observation)
        case TaskDeleted(project_id, task_id):
            projects.delete_task(conn, project_id, task_id)
            judgements.delete_of_task(conn, project_id, task_id)
        case ConfigSeen():
            projects.see_config(conn, observation)


def deletions_heard(
    conn: Connection, project_id: int, *, since: float
) -> list[AnnotationDeleted | TaskDeleted]:
    """The deletions that events received after a moment tell of."""
    told: list[AnnotationDeleted | TaskDeleted] = []
    for body in _newest_bodies(conn, project_id, since):
        with suppress(BadRequestError):  # it is kept with its reason
            told += [one for one in observe(body) if isinstance(one, AnnotationDeleted | TaskDeleted)]
    return told


def _newest_bodies(conn: Connection, project_id: int, since: float) -> Iterator[Mapping[str, Any]]:
    """Events that tell of deletions, newest first. By id, since times have no index."""
    columns = events.c.event_id, events.c.action, events.c.project_id, events.c.received_at
    before = 2**63 - 1
    while True:
        query = select(*columns).where(events.c.event_id < before)
        rows = conn.execute(query.order_by(events.c.event_id.desc()).limit(_NEWEST)).all()
        for row in rows:
            if row.received_at < since:
                return
            if row.project_id == project_id and row.action in _DELETIONS:
                yield conn.execute(select(events.c.body).filter_by(event_id=row.event_id)).scalar_one()
        if not rows:
            return
        before = rows[-1].event_id


def count(conn: Connection, project_id: int) -> int:
    """How many events of the project are kept."""
    query = select(func.count()).select_from(events).where(events.c.project_id == project_id)
    return int(conn.execute(query).scalar_one())


def problems(conn: Connection, *, limit: int = 20) -> list[tuple[int, str]]:
    """(event id, reason) of the newest events that could not be understood."""
    query = (
        select(events.c.event_id, events.c.problem)
        .where(events.c.problem.is_not(None))
        .order_by(events.c.event_id.desc())
        .limit(limit)
    )
    return [(row.event_id, row.problem) for row in conn.execute(query)]
