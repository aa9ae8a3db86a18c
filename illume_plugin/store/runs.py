"""Training runs: one live run per project, owned through a lease that must be renewed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from illume_plugin.errors import ConflictError, NotFoundError
from illume_plugin.identity import storable
from illume_plugin.store import projects
from illume_plugin.store.dialect import insert_or_ignore
from illume_plugin.store.tables import runs, training_sets
from illume_plugin.types import Run, RunState

#: A run whose worker has not been heard of for so long belongs to whoever claims it, seconds.
LEASE_S = 60.0
_TRIGGER_LENGTH = 64


def enqueue(
    conn: Connection, project_id: int, *, trigger: str, now: float, without_deleted: bool = False
) -> tuple[int, bool]:
    """Ask for a run. While one is live no second one is made: the live one answers for both.

    Args:
        without_deleted: see Run.

    Returns:
        (run id, whether it is new).

    Raises:
        NotFoundError: the project is not connected.
    """
    parent = projects.get(conn, project_id, lock=True).active_version
    live = live_run(conn, project_id)
    if live is not None:
        return live.run_id, False
    values = {
        "project_id": project_id,
        "trigger": storable(trigger)[:_TRIGGER_LENGTH],
        "state": RunState.QUEUED.value,
        "created_at": now,
        "parent": parent,
        "progress": {},
        "report": {},
        "cancel_requested": False,
        "without_deleted": without_deleted,
    }
    return int(conn.execute(insert(runs).values(**values).returning(runs.c.run_id)).scalar_one()), True


def claim(conn: Connection, *, owner: str, now: float) -> Run | None:
    """Take a queued run, or a running one whose owner is gone; None when there is none."""
    free = or_(runs.c.lease_until.is_(None), runs.c.lease_until < now)
    row = conn.execute(
        select(runs.c.run_id)
        .where(runs.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value]), free)
        .order_by(runs.c.run_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    conn.execute(
        update(runs)
        .where(runs.c.run_id == row.run_id)
        .values(
            state=RunState.RUNNING.value,
            started_at=func.coalesce(runs.c.started_at, now),
            lease_owner=owner,
            lease_until=now + LEASE_S,
        )
    )
    return get(conn, row.run_id)


def heartbeat(
    conn: Connection, run_id: int, *, owner: str, now: float, progress: Mapping[str, Any] | None = None
) -> bool:
    """Renew the lease and note the progress.

    Returns:
        False when the run must stop: it was cancelled, or belongs to somebody else by now.
    """
    values: dict[str, Any] = {"lease_until": now + LEASE_S}
    if progress is not None:
        values["progress"] = dict(progress)
    changed = conn.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.lease_owner == owner)
        .where(runs.c.state == RunState.RUNNING.value, runs.c.cancel_requested.is_(False))
        .values(**values)
    )
    return bool(changed.rowcount)


def note(conn: Connection, run_id: int, **values: Any) -> None:
    """Set columns of a live run: parent, training_set, version, report."""
    conn.execute(update(runs).where(runs.c.run_id == run_id).values(**values))


def give_back(conn: Connection, run_id: int, *, owner: str) -> None:
    """Put a run that is ours back into the queue: its worker ends before it does."""
    conn.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.lease_owner == owner, runs.c.state == RunState.RUNNING.value)
        .values(state=RunState.QUEUED.value, lease_owner=None, lease_until=None)
    )


def finish(
    conn: Connection,
    run_id: int,
    state: RunState,
    *,
    owner: str,
    now: float,
    version: str | None = None,
    report: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> None:
    """End a run in a final state.

    Raises:
        ConflictError: the run is not ours any more, so its outcome must not count.
    """
    changed = conn.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.lease_owner == owner, runs.c.state == RunState.RUNNING.value)
        .values(
            state=state.value,
            finished_at=now,
            version=version,
            report=dict(report or {}),
            error=error,
            lease_owner=None,
            lease_until=None,
        )
    )
    if not changed.rowcount:
        raise ConflictError(
            f"Run {run_id} is not owned by {owner} any more.",
            why="Its lease ran out and another worker took over, or it was ended.",
        )


def request_cancel(conn: Connection, run_id: int, *, now: float) -> Run:
    """Cancel: a queued run ends at once, a running one at its next heartbeat.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: the run is over.
    """
    run = get(conn, run_id, lock=True)
    if run.state not in (RunState.QUEUED, RunState.RUNNING):
        raise ConflictError(
            f"Run {run_id} is over ({run.state.value}).", why="Only a live run can be cancelled."
        )
    values: dict[str, Any] = {"cancel_requested": True}
    if run.state is RunState.QUEUED:
        values |= {"state": RunState.CANCELLED.value, "finished_at": now, "error": "cancelled"}
    conn.execute(update(runs).where(runs.c.run_id == run_id).values(**values))
    return get(conn, run_id)


def resume(conn: Connection, run_id: int) -> Run:
    """Put a run that failed or was cancelled back into the queue.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: it is not over, it ended well, or another run of its project is live.
    """
    run = get(conn, run_id)
    projects.get(conn, run.project_id, lock=True)
    run = get(conn, run_id, lock=True)
    if run.state not in (RunState.CANCELLED, RunState.FAILED):
        raise ConflictError(
            f"Run {run_id} is {run.state.value}.", why="Only a failed or cancelled run can be resumed."
        )
    if live := live_run(conn, run.project_id):
        raise ConflictError(
            f"Run {live.run_id} of project {run.project_id} is {live.state.value}.",
            why="A project has one live run at most.",
            todo=f"Wait for its end, or end it with: illume cancel {live.run_id}",
        )
    values = {"state": RunState.QUEUED.value, "cancel_requested": False, "finished_at": None, "error": None}
    conn.execute(update(runs).where(runs.c.run_id == run_id).values(**values))
    return get(conn, run_id)


def cancel_requested(conn: Connection, run_id: int) -> bool:
    """Whether somebody asked to cancel the run."""
    return bool(conn.execute(select(runs.c.cancel_requested).filter_by(run_id=run_id)).scalar_one_or_none())


def get(conn: Connection, run_id: int, *, lock: bool = False) -> Run:
    """The run.

    Args:
        lock: nobody else changes its row before the transaction ends.

    Raises:
        NotFoundError: there is no such run.
    """
    query = select(runs).where(runs.c.run_id == run_id)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no run {run_id}.", todo="See: illume runs")
    return _read(row)


def live_run(conn: Connection, project_id: int) -> Run | None:
    """The project's queued or running run, if any."""
    live = [RunState.QUEUED.value, RunState.RUNNING.value]
    row = conn.execute(
        select(runs).where(runs.c.project_id == project_id, runs.c.state.in_(live))
    ).one_or_none()
    return _read(row) if row else None


def recent(conn: Connection, project_id: int | None = None, *, limit: int = 20) -> list[Run]:
    """The newest runs, newest first, of one project or of all."""
    query = select(runs).order_by(runs.c.run_id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(runs.c.project_id == project_id)
    return [_read(row) for row in conn.execute(query)]


def last_created_at(conn: Connection, project_id: int) -> float:
    """When the newest run was asked for, whatever became of it; 0 when there was none."""
    query = select(func.max(runs.c.created_at)).where(runs.c.project_id == project_id)
    return float(conn.execute(query).scalar_one() or 0.0)


def keep_training_set(
    conn: Connection, content_hash: str, project_id: int, content: Mapping[str, Any], *, now: float
) -> None:
    """Keep a snapshot under its hash; keeping it again changes nothing."""
    conn.execute(
        insert_or_ignore(conn, training_sets).values(
            content_hash=content_hash, project_id=project_id, content=dict(content), created_at=now
        )
    )


def _read(row: Row[Any]) -> Run:
    return Run(
        run_id=row.run_id,
        project_id=row.project_id,
        trigger=row.trigger,
        state=RunState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        parent=row.parent,
        version=row.version,
        training_set=row.training_set,
        progress=row.progress,
        report=row.report,
        error=row.error,
        without_deleted=row.without_deleted,
    )
