"""The candidate browser: which tasks stand on a page, by key, never by offset, and what is known of them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, select

from backend.dashboard.task_cards import card, which_set
from backend.dashboard.views import TaskPage
from backend.service import Service
from illume_plugin.label_config import parse_label_config
from illume_plugin.store import candidates, trials
from illume_plugin.store.tables import annotations, preferences, sampling_problems, tasks
from illume_plugin.trials import verdict
from illume_plugin.types import Origin, Preference, Project, Verdict

PAGE = 12


class Which(StrEnum):
    """Which tasks are listed."""

    ALL = "all"
    JUDGED = "judged"
    TRIAL = "trial"
    PROBLEMS = "problems"


def page(
    conn: Connection,
    service: Service,
    project: Project,
    *,
    version: str | None = None,
    which: Which = Which.ALL,
    after: int | None = None,
    before: int | None = None,
) -> TaskPage:
    """A page of tasks with their candidates.

    Args:
        version: whose candidates, and what was judged where it has none; None: what people saw or would see.
        after, before: the page behind, or in front of, the task of this id; the first page without them.
    """
    drew = version or project.active_version
    ids, earlier, later = _ids(conn, project, drew, which, after, before)
    question, answer = service.keys
    config = parse_label_config(project.label_config, question_key=question, answer_key=answer)
    keys = [(project.active_version, plan) for plan in (service.sampler.key(project), service.plan.hash)]
    data, said = _data(conn, project, ids), _said(conn, project, ids)
    sets = candidates.of_tasks(conn, project.project_id, ids)
    failed = _problems(conn, project, ids, drew)
    shown = tuple(
        card(
            config,
            project,
            task_id,
            data.get(task_id, {}),
            which_set(sets[task_id], said[task_id], project, version, keys),
            said[task_id],
            failed.get(task_id, ""),
        )
        for task_id in ids
    )
    return TaskPage(
        shown, before=ids[0] if ids and earlier else None, after=ids[-1] if ids and later else None
    )


def _ids(
    conn: Connection, project: Project, version: str, which: Which, after: int | None, before: int | None
) -> tuple[list[int], bool, bool]:
    """(ids of the page, whether there are earlier ones, whether there are later ones)."""
    if which is Which.TRIAL:
        return _slice(_on_trial(conn, project), after, before)
    query, key = _query(project, version, which)
    if before is not None:
        found = list(conn.execute(query.where(key < before).order_by(key.desc()).limit(PAGE + 1)).scalars())
        return sorted(found[:PAGE]), len(found) > PAGE, True
    query = query.where(key > after) if after is not None else query
    found = list(conn.execute(query.order_by(key).limit(PAGE + 1)).scalars())
    return found[:PAGE], after is not None, len(found) > PAGE


def _on_trial(conn: Connection, project: Project) -> list[int]:
    """Ids of the tasks that count in the newest trial."""
    trial = trials.newest(conn, project.project_id)
    if trial is None:
        return []
    judged = trials.judged(conn, trial)
    return sorted(one.task_id for one in judged[: verdict(judged, trial.limits).tasks])


def _slice(ids: list[int], after: int | None, before: int | None) -> tuple[list[int], bool, bool]:
    if before is not None:
        found = [each for each in ids if each < before]
        return found[-PAGE:], len(found) > PAGE, True
    found = [each for each in ids if after is None or each > after]
    return found[:PAGE], after is not None, len(found) > PAGE


def _query(project: Project, version: str, which: Which) -> tuple[Select[Any], Any]:
    if which is Which.JUDGED:
        key = annotations.c.task_id
        return select(key).filter_by(project_id=project.project_id, deleted=False).distinct(), key
    if which is Which.PROBLEMS:
        key = sampling_problems.c.task_id
        return select(key).filter_by(project_id=project.project_id, version=version), key
    key = tasks.c.task_id
    return select(key).filter_by(project_id=project.project_id, deleted=False), key


def _data(conn: Connection, project: Project, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    query = select(tasks.c.task_id, tasks.c.data).filter_by(project_id=project.project_id)
    return {row.task_id: row.data for row in conn.execute(query.where(tasks.c.task_id.in_(ids)))}


def _problems(conn: Connection, project: Project, ids: Sequence[int], version: str) -> dict[int, str]:
    query = select(sampling_problems.c.task_id, sampling_problems.c.problem)
    query = query.filter_by(project_id=project.project_id, version=version)
    return {
        row.task_id: row.problem for row in conn.execute(query.where(sampling_problems.c.task_id.in_(ids)))
    }


def _said(conn: Connection, project: Project, ids: Sequence[int]) -> dict[int, list[list[Preference]]]:
    """task id -> the preferences of each of its live annotations."""
    found: dict[int, dict[int, list[Preference]]] = {task_id: {} for task_id in ids}
    known = (
        select(annotations.c.task_id, annotations.c.annotation_id)
        .filter_by(project_id=project.project_id, deleted=False)
        .where(annotations.c.task_id.in_(ids))
    )
    owner = {row.annotation_id: row.task_id for row in conn.execute(known)}
    for annotation_id, task_id in owner.items():
        found[task_id][annotation_id] = []
    rows = (
        select(preferences)
        .filter_by(project_id=project.project_id)
        .where(preferences.c.annotation_id.in_(list(owner)))
        .order_by(preferences.c.annotation_id, preferences.c.turn, preferences.c.position)
    )
    for row in conn.execute(rows):
        found[owner[row.annotation_id]][row.annotation_id].append(_preference(row))
    return {task_id: list(each.values()) for task_id, each in found.items()}


def _preference(row: Any) -> Preference:
    return Preference(
        project_id=row.project_id,
        task_id=row.task_id,
        annotation_id=row.annotation_id,
        annotator=row.annotator,
        text=row.text,
        verdict=Verdict(row.verdict),
        origin=Origin(row.origin),
        position=row.position,
        version=row.version,
        best=row.best,
        original=row.original,
        shared_with=row.shared_with,
    )
