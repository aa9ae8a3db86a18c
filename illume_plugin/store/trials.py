"""Trials: at most one open trial per project, ended once, with its figures."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, Row, insert, select, update

from illume_plugin.errors import BadRequestError, ConflictError
from illume_plugin.sequential import Limits
from illume_plugin.store import candidates, judgements, projects
from illume_plugin.store.tables import trials
from illume_plugin.trials import JudgedTask, Trial, TrialEnd, figures, judged_tasks


def start(
    conn: Connection, project_id: int, challenger: str, *, limits: Limits, who: str, now: float
) -> Trial:
    """Open a trial of a version beside the active one.

    Raises:
        ConflictError: one is open.
        BadRequestError: the version is the active one.
        NotFoundError: the project is not connected.
    """
    active = projects.get(conn, project_id, lock=True).active_version
    refuse_open(conn, project_id)
    refuse_active(project_id, challenger, active)
    values = {
        "project_id": project_id,
        "active": active,
        "challenger": challenger,
        "alpha": limits.alpha,
        "most_tasks": limits.most_tasks,
        "after_annotation": judgements.newest_annotation(conn, project_id),
        "started_at": now,
        "started_by": who,
        "ended_by": "",
        "outcome": "",
        "reason": "",
        "report": {},
    }
    row = conn.execute(insert(trials).values(**values).returning(trials)).one()
    # sets of an earlier trial of the same two may have been overtaken by the active version's own
    candidates.unmark_overtaken(conn, project_id, version=active)
    return _read(row)


def refuse_open(conn: Connection, project_id: int) -> None:
    """Say no where a trial is open.

    Raises:
        ConflictError: it is.
    """
    found = open_trial(conn, project_id)
    if found is not None:
        raise ConflictError(
            f"{found.challenger} is on trial in project {project_id} already (trial {found.trial_id}).",
            why="People can compare two versions at a time, not three.",
            todo="Wait until it is decided, or end it: illume trial stop",
        )


def refuse_active(project_id: int, challenger: str, active: str) -> None:
    """Say no to a trial of the version that serves.

    Raises:
        BadRequestError: it is.
    """
    if challenger == active:
        raise BadRequestError(
            f"{challenger} serves project {project_id} already.",
            why="A trial compares another version with it.",
        )


def end(conn: Connection, trial: Trial, how: TrialEnd, *, who: str, reason: str, now: float) -> bool:
    """End an open trial, keep its figures, and have the active version's own candidates pushed again.

    Returns:
        False where somebody ended it before; then nothing has changed.
    """
    projects.get(conn, trial.project_id, lock=True)
    open_still = update(trials).filter_by(trial_id=trial.trial_id, ended_at=None)
    values = {"ended_at": now, "ended_by": who, "outcome": how.value, "reason": reason}
    report = asdict(figures(judged(conn, trial), trial.limits))
    if not conn.execute(open_still.values(**values, report=report)).rowcount:
        return False
    candidates.unmark_overtaken(conn, trial.project_id, version=trial.active)
    return True


def judged(conn: Connection, trial: Trial) -> list[JudgedTask]:
    """The tasks that count in a trial, in the order in which they were judged first."""
    said = judgements.preferences_in(conn, trial.project_id, after=trial.after_annotation)
    return judged_tasks(said, active=trial.active, challenger=trial.challenger)


def stop(conn: Connection, project_id: int, *, who: str, reason: str, now: float) -> Trial | None:
    """End the open trial of a project, if there is one, without a verdict; returns it as it ended."""
    found = open_trial(conn, project_id)
    if found is None or not end(conn, found, TrialEnd.STOPPED, who=who, reason=reason, now=now):
        return None
    return newest(conn, project_id)


def open_trial(conn: Connection, project_id: int) -> Trial | None:
    """The trial that goes on in a project."""
    row = conn.execute(select(trials).filter_by(project_id=project_id, ended_at=None)).one_or_none()
    return None if row is None else _read(row)


def newest(conn: Connection, project_id: int, *, challenger: str | None = None) -> Trial | None:
    """The trial of a project (of one version, where it is given) that began last, open or not."""
    query = select(trials).filter_by(project_id=project_id)
    if challenger is not None:
        query = query.filter_by(challenger=challenger)
    row = conn.execute(query.order_by(trials.c.trial_id.desc()).limit(1)).one_or_none()
    return None if row is None else _read(row)


def get(conn: Connection, trial_id: int) -> Trial:
    """One trial that there is."""
    return _read(conn.execute(select(trials).filter_by(trial_id=trial_id)).one())


def _read(row: Row[tuple[object, ...]]) -> Trial:
    return Trial(
        trial_id=row.trial_id,
        project_id=row.project_id,
        active=row.active,
        challenger=row.challenger,
        limits=Limits(row.alpha, row.most_tasks),
        after_annotation=row.after_annotation,
        started_at=row.started_at,
        started_by=row.started_by,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        end=TrialEnd(row.outcome) if row.outcome else None,
        reason=row.reason,
        report=row.report,
    )
