"""Candidate sets per (task, version, plan), and what has been pushed to Label Studio."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from illume_plugin.store.dialect import alone, insert_or_ignore, insert_or_replace
from illume_plugin.store.tables import annotations, candidate_sets, sampling_problems, tasks
from illume_plugin.types import Blind, Candidate, CandidateSet, Searched, Side

#: Wait before sampling a task again that could not be sampled, seconds; doubled each time.
FIRST_RETRY_S = 30.0
LONGEST_RETRY_S = 3600.0

#: The sets of some tasks, and those of them that Label Studio has not been given. Every /predict call asks
#: for them: statements that are made once take half the time. Values: `_those`.
_THOSE = and_(
    candidate_sets.c.project_id == bindparam("of_project"),
    candidate_sets.c.version == bindparam("of_version"),
    candidate_sets.c.plan == bindparam("of_plan"),
    candidate_sets.c.task_id.in_(bindparam("of_tasks", expanding=True)),
)
_NOT_GIVEN = and_(_THOSE, candidate_sets.c.pushed_at.is_(None))
_SETS = select(candidate_sets).where(_THOSE)
_ANY_NOT_GIVEN = select(exists().where(_NOT_GIVEN))


def put(conn: Connection, candidate_set: CandidateSet, *, now: float) -> CandidateSet:
    """Keep a candidate set; the first one of an identity stays, and is what comes back."""
    c = candidate_set
    _alone_with(conn, c.project_id)
    key = {"project_id": c.project_id, "task_id": c.task_id, "version": c.version}
    conn.execute(
        insert_or_ignore(conn, candidate_sets).values(
            **key,
            plan=c.plan,
            order_seed=c.order_seed,
            score=c.score,
            candidates=[asdict(candidate) for candidate in c.candidates],
            dropped=dict(c.dropped),
            created_at=now,
        )
    )
    conn.execute(delete(sampling_problems).filter_by(**key))
    return get(conn, c.project_id, [c.task_id], version=c.version, plan=c.plan)[c.task_id]


def _alone_with(conn: Connection, project_id: int) -> None:
    """Two processes may write sets of the same tasks in another order; neither must wait for the other."""
    alone(conn, f"candidates of project {project_id}")


def get(
    conn: Connection, project_id: int, task_ids: Sequence[int], *, version: str, plan: str
) -> dict[int, CandidateSet]:
    """task id -> candidate set, for those of `task_ids` that have one."""
    return look_up(conn, project_id, task_ids, version=version, plan=plan)[0]


def look_up(
    conn: Connection, project_id: int, task_ids: Sequence[int], *, version: str, plan: str
) -> tuple[dict[int, CandidateSet], bool]:
    """As `get`, and whether Label Studio has all of these sets, as far as we know."""
    found: dict[int, CandidateSet] = {}
    given = True
    for some in _slices(list(task_ids)):
        for row in conn.execute(_SETS, _those(project_id, some, version, plan)):
            found[row.task_id] = _read(row)
            given = given and row.pushed_at is not None
    return found, given


def of_tasks(conn: Connection, project_id: int, task_ids: Sequence[int]) -> dict[int, list[CandidateSet]]:
    """task id -> all its candidate sets, oldest first, for each of the (few) `task_ids`."""
    found: dict[int, list[CandidateSet]] = {task_id: [] for task_id in task_ids}
    key = (candidate_sets.c.created_at, candidate_sets.c.version, candidate_sets.c.plan)
    for some in _slices(list(task_ids)):
        query = select(candidate_sets).filter_by(project_id=project_id).order_by(*key)
        for row in conn.execute(query.where(candidate_sets.c.task_id.in_(some))):
            found[row.task_id].append(_read(row))
    return found


def newest(conn: Connection, project_id: int) -> list[CandidateSet]:
    """The candidate set of each task that was made last, by task."""
    query = select(candidate_sets).filter_by(project_id=project_id).order_by(candidate_sets.c.created_at)
    last = {row.task_id: row for row in conn.execute(query)}
    return [_read(row) for _, row in sorted(last.items())]


def waiting(
    conn: Connection, project_id: int, *, version: str, plan: str, now: float, limit: int | None = None
) -> dict[int, dict[str, Any]]:
    """Data of the tasks that nobody has judged and that lack candidates of the version, by task id.

    That is the order in which Label Studio's label stream opens them, too (docs/adr/0013).

    Tasks that could not be sampled wait until their time to be tried again has come.
    """
    sampled = _sampled(version, plan)
    blocked = exists().where(
        sampling_problems.c.project_id == tasks.c.project_id,
        sampling_problems.c.task_id == tasks.c.task_id,
        sampling_problems.c.version == version,
        sampling_problems.c.retry_at > now,
    )
    query = (
        select(tasks.c.task_id, tasks.c.data)
        .where(tasks.c.project_id == project_id, tasks.c.deleted.is_(False))
        .where(~sampled, ~_judged(tasks), ~blocked)
        .order_by(tasks.c.task_id)
        .limit(limit)
    )
    return {row.task_id: row.data for row in conn.execute(query)}


def count_unready(conn: Connection, project_id: int, *, version: str, plan: str) -> int:
    """How many tasks nobody has judged that lack candidates of the version, for whatever reason."""
    query = select(func.count()).select_from(tasks).filter_by(project_id=project_id, deleted=False)
    return int(conn.execute(query.where(~_sampled(version, plan), ~_judged(tasks))).scalar_one())


def _sampled(version: str, plan: str) -> ColumnElement[bool]:
    """Whether a row of the tasks has candidates."""
    return exists().where(
        candidate_sets.c.project_id == tasks.c.project_id,
        candidate_sets.c.task_id == tasks.c.task_id,
        candidate_sets.c.version == version,
        candidate_sets.c.plan == plan,
    )


def _judged(table: Table) -> ColumnElement[bool]:
    """Whether the row's task has a live annotation."""
    return exists().where(
        annotations.c.project_id == table.c.project_id,
        annotations.c.task_id == table.c.task_id,
        annotations.c.deleted.is_(False),
    )


def _deleted(table: Table) -> ColumnElement[bool]:
    """Whether the row's task is known to be deleted."""
    return exists().where(
        tasks.c.project_id == table.c.project_id,
        tasks.c.task_id == table.c.task_id,
        tasks.c.deleted.is_(True),
    )


def sampled_tasks(conn: Connection, project_id: int, *, version: str, plan: str) -> set[int]:
    """Ids of the tasks that have a candidate set of this version and plan."""
    query = select(candidate_sets.c.task_id).filter_by(project_id=project_id, version=version, plan=plan)
    return set(conn.execute(query).scalars())


def unpushed(conn: Connection, project_id: int, *, version: str, plan: str, limit: int) -> list[CandidateSet]:
    """Candidate sets of unjudged tasks that Label Studio has not been given, oldest task first.

    Those of deleted tasks are left out: Label Studio refuses them, and what is pushed with them.
    """
    query = (
        select(candidate_sets)
        .filter_by(project_id=project_id, version=version, plan=plan, pushed_at=None)
        .where(~_judged(candidate_sets), ~_deleted(candidate_sets))
        .order_by(candidate_sets.c.task_id)
        .limit(limit)
    )
    return [_read(row) for row in conn.execute(query)]


def mark_pushed(
    conn: Connection, project_id: int, task_ids: Iterable[int], *, version: str, plan: str, now: float
) -> None:
    """Note that Label Studio has these sets (by our push or as the answer to a /predict call)."""
    _alone_with(conn, project_id)
    for some in _slices(list(task_ids)):
        statement = update(candidate_sets).where(_NOT_GIVEN).values(pushed_at=now)
        conn.execute(statement, _those(project_id, some, version, plan))


def unmark_overtaken(conn: Connection, project_id: int, *, version: str) -> int:
    """Forget that Label Studio has sets which another set of the same task and version followed; how many.

    It shows the newest prediction of a version: what was pushed before is to be pushed again when it is
    wanted again, as at the beginning and at the end of a trial. A set that was made later and is not noted as
    pushed may be under way, or have been pushed by a process that died then. Judged tasks stay as they are.
    """
    _alone_with(conn, project_id)
    later = candidate_sets.alias("later")
    overtaken = exists().where(
        later.c.project_id == candidate_sets.c.project_id,
        later.c.task_id == candidate_sets.c.task_id,
        later.c.version == candidate_sets.c.version,
        func.coalesce(later.c.pushed_at, later.c.created_at) > candidate_sets.c.pushed_at,
    )
    statement = update(candidate_sets).filter_by(project_id=project_id, version=version)
    unjudged = ~_judged(candidate_sets)
    return int(conn.execute(statement.where(overtaken, unjudged).values(pushed_at=None)).rowcount)


def all_given(conn: Connection, project_id: int, task_ids: Iterable[int], *, version: str, plan: str) -> bool:
    """Whether Label Studio has all of these sets, as far as we know."""
    return not any(
        conn.execute(_ANY_NOT_GIVEN, _those(project_id, some, version, plan)).scalar_one()
        for some in _slices(list(task_ids))
    )


def _those(project_id: int, task_ids: list[int], version: str, plan: str) -> dict[str, Any]:
    return {"of_project": project_id, "of_tasks": task_ids, "of_version": version, "of_plan": plan}


def _slices(ids: list[int]) -> Iterator[list[int]]:
    """A statement takes a limited number of parameters."""
    return (ids[start : start + 500] for start in range(0, len(ids), 500))


def count(conn: Connection, project_id: int, *, version: str, plan: str) -> tuple[int, int]:
    """(candidate sets, of which pushed) of the version and plan."""
    query = select(func.count(), func.count(candidate_sets.c.pushed_at)).filter_by(
        project_id=project_id, version=version, plan=plan
    )
    total, pushed = conn.execute(query).one()
    return int(total), int(pushed)


def note_problem(
    conn: Connection, project_id: int, task_id: int, *, version: str, problem: str, now: float
) -> None:
    """Remember why a task could not be sampled, and when to try it again."""
    _alone_with(conn, project_id)
    key = {"project_id": project_id, "task_id": task_id, "version": version}
    known = conn.execute(select(sampling_problems.c.attempts).filter_by(**key)).scalar_one_or_none()
    attempts = (known or 0) + 1
    wait = min(FIRST_RETRY_S * 2 ** min(attempts - 1, 20), LONGEST_RETRY_S)
    values = {"problem": problem, "attempts": attempts, "retry_at": now + wait}
    conn.execute(insert_or_replace(conn, sampling_problems, {**key, **values}))


def problems(conn: Connection, project_id: int, *, version: str) -> dict[int, tuple[str, float]]:
    """task id -> (why it could not be sampled, when it may be tried again)."""
    query = select(sampling_problems).filter_by(project_id=project_id, version=version)
    return {row.task_id: (row.problem, row.retry_at) for row in conn.execute(query)}


def _read(row: Row[tuple[object, ...]]) -> CandidateSet:
    return CandidateSet(
        project_id=row.project_id,
        task_id=row.task_id,
        version=row.version,
        plan=row.plan,
        order_seed=row.order_seed,
        score=row.score,
        candidates=tuple(_candidate(fields) for fields in row.candidates),
        dropped=row.dropped or {},
    )


def _candidate(fields: Mapping[str, Any]) -> Candidate:
    """JSON knows neither tuples nor enums; what an older version stored lacks the later fields."""
    blind = fields.get("blind")
    lists = ("sentence_logprobs", "sentence_relevances", "versions")
    tuples = {name: tuple(fields.get(name, ())) for name in lists}
    read = {"blind": Blind(blind) if blind else None, "searched": _searched(fields.get("searched"))}
    return Candidate(**{**fields, **tuples, **read})


def _searched(fields: Mapping[str, Any] | None) -> Searched | None:
    if fields is None:
        return None
    side = fields["side"]
    sentences = {name: tuple(fields[name]) for name in ("ranks", "logprobs", "relevances")}
    return Searched(**{**fields, **sentences, "side": Side(side) if side else None})
