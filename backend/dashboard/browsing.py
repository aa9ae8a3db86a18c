"""The candidate browser: pages of tasks with candidates, scores and verdicts; by key, never by offset."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, select

from backend.dashboard.views import ShownCandidate, TaskPage, TaskView
from backend.service import Service
from illume_plugin.errors import TaskError
from illume_plugin.label_config import LabelConfig, parse_label_config, read_task
from illume_plugin.store import candidates
from illume_plugin.store.tables import annotations, preferences, sampling_problems, tasks
from illume_plugin.types import CandidateSet, Origin, Preference, Project, Verdict

PAGE = 12


class Which(StrEnum):
    """Which tasks are listed."""

    ALL = "all"
    JUDGED = "judged"
    PROBLEMS = "problems"


def page(
    conn: Connection,
    service: Service,
    project: Project,
    *,
    version: str,
    which: Which = Which.ALL,
    after: int | None = None,
    before: int | None = None,
) -> TaskPage:
    """A page of tasks with the candidates of `version`, or those that were judged where it has none.

    Args:
        after, before: the page behind, or in front of, the task of this id; the first page without them.
    """
    ids, earlier, later = _ids(conn, project, version, which, after, before)
    question, answer = service.keys
    config = parse_label_config(project.label_config, question_key=question, answer_key=answer)
    data = _data(conn, project, ids)
    said = _said(conn, project, ids)
    sets = _sets(conn, service, project, version, said)
    failed = _problems(conn, project, ids, version)
    shown = tuple(
        _task(config, project, task_id, data.get(task_id, {}), sets.get(task_id), said[task_id], failed)
        for task_id in ids
    )
    return TaskPage(
        shown, before=ids[0] if ids and earlier else None, after=ids[-1] if ids and later else None
    )


def _sets(
    conn: Connection,
    service: Service,
    project: Project,
    version: str,
    said: dict[int, list[list[Preference]]],
) -> dict[int, CandidateSet]:
    """The sets of `version`; of tasks that have none, those of the version that was judged."""
    plan = service.plan.hash
    found = candidates.get(conn, project.project_id, list(said), version=version, plan=plan)
    if version == project.active_version and project.challenger is not None:
        on_trial = service.sampler.key(project)
        found |= candidates.get(conn, project.project_id, list(said), version=version, plan=on_trial)
    judged = {task_id: _drawn_by(said[task_id]) for task_id in said if task_id not in found}
    for other in set(judged.values()) - {""}:
        ids = [task_id for task_id, drawn_by in judged.items() if drawn_by == other]
        found |= candidates.get(conn, project.project_id, ids, version=other, plan=plan)
    return found


def _drawn_by(said: Sequence[Sequence[Preference]]) -> str:
    """The version whose candidates were judged; empty where none is known."""
    return next((each.version for annotation in said for each in annotation if each.version), "")


def _ids(
    conn: Connection, project: Project, version: str, which: Which, after: int | None, before: int | None
) -> tuple[list[int], bool, bool]:
    """(ids of the page, whether there are earlier ones, whether there are later ones)."""
    query, key = _query(project, version, which)
    if before is not None:
        found = list(conn.execute(query.where(key < before).order_by(key.desc()).limit(PAGE + 1)).scalars())
        return sorted(found[:PAGE]), len(found) > PAGE, True
    query = query.where(key > after) if after is not None else query
    found = list(conn.execute(query.order_by(key).limit(PAGE + 1)).scalars())
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
    )


def _task(
    config: LabelConfig,
    project: Project,
    task_id: int,
    data: dict[str, Any],
    candidate_set: CandidateSet | None,
    said: Sequence[Sequence[Preference]],
    failed: dict[int, str],
) -> TaskView:
    problem = failed.get(task_id, "")
    try:
        task = read_task(config, project.project_id, task_id, data)
        question, answer = task.question, task.answer
    except TaskError as error:
        question, answer, problem = "", "", error.what
    verdicts = [each for annotation in said for each in annotation]
    return TaskView(
        task_id=task_id,
        question=question,
        answer=answer,
        version=candidate_set.version if candidate_set else _drawn_by(said),
        annotations=len(said),
        candidates=_candidates(candidate_set, verdicts),
        problem="" if candidate_set else problem,
    )


def _candidates(
    candidate_set: CandidateSet | None, verdicts: Sequence[Preference]
) -> tuple[ShownCandidate, ...]:
    """The set's candidates in display order, then what was judged beside them (edited, own, older ones)."""
    drawn = candidate_set.candidates if candidate_set else ()
    shown = {
        each.text.strip(): ShownCandidate(
            position,
            each.text,
            Origin.CANDIDATE.value,
            *_votes(each.text.strip(), verdicts),
            logprob_mean=each.logprob_mean,
            i2c=each.i2c,
            pmi=each.pmi,
            relevance=each.relevance,
            rank=each.rank,
        )
        for position, each in enumerate(drawn, start=1)
    }
    for each in sorted(verdicts, key=lambda one: one.position or 99):
        if each.text not in shown:
            votes = _votes(each.text, verdicts)
            shown[each.text] = ShownCandidate(each.position, each.text, each.origin.value, *votes)
    return tuple(shown.values())


def _votes(text: str, verdicts: Sequence[Preference]) -> tuple[int, int, int]:
    """(fits, does not fit, is the best) of a text."""
    those = [each for each in verdicts if each.text == text]
    fits = sum(each.verdict is Verdict.FITS for each in those)
    return fits, len(those) - fits, sum(each.best for each in those)
