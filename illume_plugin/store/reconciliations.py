"""How far each project has been read from Label Studio, and when it was last found in step with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, select, update

from illume_plugin.store.dialect import insert_or_ignore
from illume_plugin.store.tables import reconciliations

#: Wait after a failure, seconds; doubled each time.
FIRST_RETRY_S = 30.0
LONGEST_RETRY_S = 900.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A project's row.

    Attributes:
        settled: everything that changed in Label Studio up to this moment of its clock is here.
        walk: token of a reading of all tasks by id that is under way, or None.
        walked: the last id it has read.
        walk_settles: moment up to which everything will be here when it ends.
        checked_at: end of the last complete round, seconds since the epoch; None before the first.
        found: changes that no event had told since the first complete round.
        problem: why the last round was not completed, or None.
        attempts: rounds that failed since the last complete one.
        retry_at: when to try again after a failure.
    """

    settled: str = ""
    walk: str | None = None
    walked: int = 0
    walk_settles: str = ""
    checked_at: float | None = None
    found: int = 0
    problem: str | None = None
    attempts: int = 0
    retry_at: float | None = None


def find(conn: Connection, project_id: int) -> Reconciliation | None:
    """The project's row; None when it was never read."""
    names = [reconciliations.c[name] for name in Reconciliation.__dataclass_fields__]
    row = conn.execute(select(*names).filter_by(project_id=project_id)).one_or_none()
    return Reconciliation(*row) if row else None


def begin_walk(conn: Connection, project_id: int, walk: str, settles: str) -> None:
    """Begin to read all tasks anew; a walk that somebody else has under way ends with it.

    Args:
        walk: a token that nobody used before.
        settles: moment up to which everything will have been read when the walk ends.
    """
    conn.execute(_made(conn, project_id))
    _change(conn, project_id, walk=walk, walked=0, walk_settles=settles)


def walked(conn: Connection, project_id: int, walk: str, task_id: int) -> bool:
    """Note that a walk has read everything up to a task; False when it was ended by another one."""
    return _change(conn, project_id, reconciliations.c.walk == walk, walked=task_id)


def end_walk(conn: Connection, project_id: int, walk: str) -> bool:
    """Note that a walk has read everything; False when it was ended by another one."""
    ours = reconciliations.c.walk == walk
    return _change(conn, project_id, ours, walk=None, settled=reconciliations.c.walk_settles)


def settle(conn: Connection, project_id: int, moment: str) -> None:
    """Note that everything up to a moment is here; an earlier moment than the one known changes nothing."""
    _change(conn, project_id, reconciliations.c.settled < moment, settled=moment)


def succeeded(conn: Connection, project_id: int, *, found: int, now: float) -> None:
    """Note the end of a complete round, and how many changes it found; the first one finds everything."""
    first = reconciliations.c.checked_at.is_(None)
    total = case((first, 0), else_=reconciliations.c.found + found)
    _change(conn, project_id, checked_at=now, found=total, problem=None, attempts=0, retry_at=None)


def failed(conn: Connection, project_id: int, problem: str, *, now: float) -> float:
    """Note why a round was not completed; returns when to try again."""
    conn.execute(_made(conn, project_id))
    known = find(conn, project_id) or Reconciliation()
    wait: float = min(FIRST_RETRY_S * 2 ** min(known.attempts, 20), LONGEST_RETRY_S)
    _change(conn, project_id, problem=problem, attempts=known.attempts + 1, retry_at=now + wait)
    return now + wait


def _made(conn: Connection, project_id: int) -> Any:
    fresh = {"settled": "", "walked": 0, "walk_settles": "", "found": 0, "attempts": 0}
    return insert_or_ignore(conn, reconciliations).values(project_id=project_id, **fresh)


def _change(conn: Connection, project_id: int, *only_where: Any, **values: Any) -> bool:
    statement = update(reconciliations).filter_by(project_id=project_id).where(*only_where)
    return bool(conn.execute(statement.values(**values)).rowcount)
