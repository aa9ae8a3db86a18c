"""Projects and their tasks, and which adapter version serves each project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, select, update

from illume_plugin.errors import NotFoundError
from illume_plugin.identity import content_hash
from illume_plugin.preferences import ConfigSeen, TaskSeen
from illume_plugin.store.dialect import alone, insert_or_ignore
from illume_plugin.store.tables import projects, tasks, trials
from illume_plugin.types import BASE_VERSION, Project


def put(conn: Connection, project_id: int, *, title: str, label_config: str, now: float) -> None:
    """Create the project, or bring its title and labelling configuration up to date."""
    conn.execute(
        insert_or_ignore(conn, projects).values(
            project_id=project_id,
            title=title,
            label_config=label_config,
            config_updated_at="",
            active_version=BASE_VERSION,
            created_at=now,
        )
    )
    update_config(conn, project_id, label_config, title)


def update_config(conn: Connection, project_id: int, label_config: str, title: str | None) -> None:
    """Bring a known project up to date with what Label Studio says now; an unknown one stays unknown."""
    values = {"label_config": label_config} | ({"title": title} if title else {})
    conn.execute(update(projects).filter_by(project_id=project_id).values(**values))


def see_config(conn: Connection, seen: ConfigSeen) -> None:
    """Take in the configuration of an event, unless a later event's is here already."""
    values = {"label_config": seen.label_config, "config_updated_at": seen.updated_at}
    values |= {"title": seen.title} if seen.title else {}
    conn.execute(
        update(projects)
        .filter_by(project_id=seen.project_id)
        .where(projects.c.config_updated_at <= seen.updated_at)
        .values(**values)
    )


def get(conn: Connection, project_id: int, *, lock: bool = False) -> Project:
    """The project.

    Args:
        lock: nobody else changes its row, its active version above all, before the transaction ends.

    Raises:
        NotFoundError: the project was never connected.
    """
    query = _ONE.with_for_update(of=projects) if lock else _ONE
    row = conn.execute(query, {"project_id": project_id}).one_or_none()
    if row is None:
        raise NotFoundError(
            f"Project {project_id} is not connected.",
            why="Nothing is known of its labelling configuration.",
            todo=f"Run: illume connect --project {project_id}",
        )
    return _read(row)


def find(conn: Connection, project_id: int) -> Project | None:
    """The project, or None when it was never connected."""
    try:
        return get(conn, project_id)
    except NotFoundError:
        return None


def every(conn: Connection) -> list[Project]:
    """All connected projects, oldest first."""
    return [_read(row) for row in conn.execute(_known().order_by(projects.c.project_id))]


def _known() -> Select[Any]:
    """Projects, each with the version on trial in it."""
    on_trial = and_(trials.c.project_id == projects.c.project_id, trials.c.ended_at.is_(None))
    return select(projects, trials.c.challenger).outerjoin(trials, on_trial)


#: Every call asks for its project: a statement that is made once takes half the time.
_ONE = _known().where(projects.c.project_id == bindparam("project_id"))


def _read(row: Row[Any]) -> Project:
    return Project(row.project_id, row.title, row.label_config, row.active_version, row.challenger)


def see_task(conn: Connection, seen: TaskSeen, *, sure: bool = False) -> None:
    """Take in a task's data: the newest wins, a deleted task stays deleted.

    Args:
        sure: Label Studio shows it at this moment: then it is not deleted, and of two states of one time this
            one is right. An event is no such proof.
    """
    row = _row(seen)
    if conn.execute(insert_or_ignore(conn, tasks).values(**row, deleted=False)).rowcount:
        return
    digest, known = row["digest"], update(tasks).filter_by(project_id=seen.project_id, task_id=seen.task_id)
    same_time = tasks.c.updated_at == seen.updated_at
    older = tasks.c.updated_at < seen.updated_at
    if sure:
        replaces = older | (same_time & ((tasks.c.digest != digest) | tasks.c.deleted.is_(True)))
        conn.execute(known.where(replaces).values(**row, deleted=False))
    else:
        replaces = older | (same_time & (tasks.c.digest < digest))
        conn.execute(known.where(tasks.c.deleted.is_(False), replaces).values(**row))


def add_tasks(conn: Connection, seen: Sequence[TaskSeen]) -> None:
    """Take in tasks that are not known, many at once; one that came to be known meanwhile stays as it is."""
    if seen:
        conn.execute(insert_or_ignore(conn, tasks), [{**_row(one), "deleted": False} for one in seen])


def _row(seen: TaskSeen) -> dict[str, Any]:
    key = {"project_id": seen.project_id, "task_id": seen.task_id}
    return key | {
        "data": dict(seen.data),
        "updated_at": seen.updated_at,
        "digest": content_hash(asdict(seen)),
    }


def put_tasks(conn: Connection, project_id: int, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Take in many tasks' data as Label Studio has it at this moment."""
    for task_id, data in rows:
        key = {"project_id": project_id, "task_id": task_id}
        known = update(tasks).filter_by(**key, deleted=False).values(data=dict(data))
        if not conn.execute(known).rowcount:
            conn.execute(
                insert_or_ignore(conn, tasks).values(
                    **key, data=dict(data), updated_at="", digest="", deleted=False
                )
            )


def delete_task(conn: Connection, project_id: int, task_id: int) -> None:
    """Remember that a task is gone, whether or not it was known."""
    alone(conn, f"annotations of project {project_id}")
    key = {"project_id": project_id, "task_id": task_id}
    gone = {"data": {}, "deleted": True}
    conn.execute(insert_or_ignore(conn, tasks).values(**key, **gone, updated_at="", digest=""))
    conn.execute(update(tasks).filter_by(**key).values(**gone))


def task_data(conn: Connection, project_id: int) -> dict[int, dict[str, Any]]:
    """task id -> task data of every task that is not deleted, by id."""
    rows = conn.execute(
        select(tasks.c.task_id, tasks.c.data)
        .where(tasks.c.project_id == project_id, tasks.c.deleted.is_(False))
        .order_by(tasks.c.task_id)
    )
    return {row.task_id: row.data for row in rows}


def count_tasks(conn: Connection, project_id: int) -> int:
    """How many tasks of the project are known and not deleted."""
    query = (
        select(func.count())
        .select_from(tasks)
        .where(tasks.c.project_id == project_id, tasks.c.deleted.is_(False))
    )
    return int(conn.execute(query).scalar_one())
