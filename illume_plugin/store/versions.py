"""Which adapter version serves a project, the log of switches, and the versions that may not serve again."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update
from sqlalchemy import delete as sql_delete

from illume_plugin.errors import ConflictError
from illume_plugin.store import projects, trials
from illume_plugin.store.dialect import insert_or_ignore
from illume_plugin.store.tables import projects as projects_table
from illume_plugin.store.tables import retirements, switches
from illume_plugin.types import BASE_VERSION, Retirement, Switch


def switch(
    conn: Connection, project_id: int, to_version: str, *, reason: str, now: float, who: str = ""
) -> str:
    """Make `to_version` the active one and log it; returns the version that was active before.

    A trial that is still open ends: what it compared with serves no more.

    Args:
        who: the person, or what switches by itself, such as `run 7`.

    Raises:
        NotFoundError: the project is not connected.
        ConflictError: the version is retired.
    """
    before = projects.get(conn, project_id, lock=True).active_version
    refuse_retired(conn, project_id, to_version)
    if before == to_version:
        return before
    told = f"{to_version} came to serve: {reason}"
    trials.stop(conn, project_id, who=who, reason=told, now=now)
    conn.execute(
        insert(switches).values(
            project_id=project_id,
            from_version=before,
            to_version=to_version,
            reason=reason,
            who=who,
            switched_at=now,
        )
    )
    served = projects_table.c.project_id == project_id
    conn.execute(update(projects_table).where(served).values(active_version=to_version))
    return before


def switched(conn: Connection, project_id: int) -> list[Switch]:
    """Every switch of the project, oldest first."""
    rows = conn.execute(
        select(switches).where(switches.c.project_id == project_id).order_by(switches.c.switch_id)
    )
    return [Switch(r.from_version, r.to_version, r.who, r.reason, r.switched_at) for r in rows]


def previous_version(conn: Connection, project_id: int) -> str | None:
    """The version that was active before the active one came to serve, or None.

    Retired versions are passed over.
    """
    active = projects.get(conn, project_id).active_version
    gone = retired(conn, project_id)
    # Replay the log as a stack: going back to the version below is a pop, everything else a push.
    stack = [BASE_VERSION]
    for one in switched(conn, project_id):
        if one.to_version in gone or one.to_version == stack[-1]:
            continue
        if len(stack) > 1 and stack[-2] == one.to_version:
            stack.pop()
        else:
            stack.append(one.to_version)
    return stack[-2] if len(stack) > 1 and stack[-1] == active else None


def retire(
    conn: Connection, project_id: int, version: str, *, who: str, reason: str, now: float
) -> Retirement:
    """Let a version never serve again; retiring it once more keeps the first reason.

    If it is on trial, the trial ends.

    Raises:
        ConflictError: it serves now, or it is the base model.
        NotFoundError: the project is not connected.
    """
    if version == projects.get(conn, project_id, lock=True).active_version:
        raise ConflictError(
            f"{version} serves project {project_id}; it cannot be retired.",
            todo="Promote another version first, or go back: illume rollback",
        )
    if version == BASE_VERSION:
        raise ConflictError(
            f"{BASE_VERSION} is the base model; it cannot be retired.",
            why="It is what is left to go back to when every adapter is gone.",
        )
    on_trial = trials.open_trial(conn, project_id)
    if on_trial is not None and on_trial.challenger == version:
        trials.stop(conn, project_id, who=who, reason=f"{version} was retired: {reason}", now=now)
    conn.execute(
        insert_or_ignore(conn, retirements).values(
            project_id=project_id, version=version, who=who, reason=reason, retired_at=now
        )
    )
    return retired(conn, project_id)[version]


def reinstate(conn: Connection, project_id: int, version: str) -> bool:
    """Take a retirement back; returns whether there was one."""
    key = {"project_id": project_id, "version": version}
    return bool(conn.execute(sql_delete(retirements).filter_by(**key)).rowcount)


def retired(conn: Connection, project_id: int) -> dict[str, Retirement]:
    """Version -> by whom and why it was retired."""
    rows = conn.execute(select(retirements).filter_by(project_id=project_id).order_by(retirements.c.version))
    return {r.version: Retirement(r.version, r.who, r.reason, r.retired_at) for r in rows}


def refuse_retired(conn: Connection, project_id: int, version: str) -> None:
    """Say no to a version that is retired.

    Raises:
        ConflictError: it is.
    """
    found = retired(conn, project_id).get(version)
    if found is not None:
        raise ConflictError(
            f"{version} of project {project_id} is retired.",
            why=f"{found.who or 'Somebody'} retired it: {found.reason}.",
            todo=f"Take that back with: illume retire {version} --undo",
        )
