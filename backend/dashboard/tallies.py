"""What people said, added up: fit rates of versions, and annotators with their agreement.

Fit rates take time in proportion to all verdicts of a project, the annotators' panel looks at the newest
annotations only: both are to be kept (keeping.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select, union_all

from backend.dashboard.views import AnnotatorsView, AnnotatorView, CurveView, FitRate
from illume_plugin.agreement import Votes, krippendorff_alpha, pairwise_agreement
from illume_plugin.fit_rate import TaskSums, fit_rate
from illume_plugin.forecast import CurvePoint, forecast
from illume_plugin.position_bias import Blocks, position_test
from illume_plugin.store.tables import annotations, preferences, runs
from illume_plugin.types import MAX_CANDIDATES, Metric, Origin, Verdict

#: Annotations that the annotators' panel looks at, the newest ones.
NEWEST = 5_000
#: Tasks judged by several people that agreement is measured on, the newest ones.
SHARED_TASKS = 2_000

#: An edited rationale did not fit as it was drawn.
_TICKED = case(
    (and_(preferences.c.verdict == Verdict.FITS.value, preferences.c.origin == Origin.CANDIDATE.value), 1),
    else_=0,
)
_FITS = case((preferences.c.verdict == Verdict.FITS.value, 1), else_=0)
_SHOWN = preferences.c.origin != Origin.OWN.value


def curve(conn: Connection, project_id: int) -> CurveView:
    """Fit rate of every version whose candidates were judged, and the learning curve through them."""
    learnt_from = _learnt_from(conn, project_id)
    found = tuple(
        FitRate(version, fit_rate(sums), sums.tasks, learnt_from.get(version, 0))
        for version, sums in _sums_by_version(conn, project_id)
    )
    return CurveView(found, forecast([CurvePoint(one.learnt_from, one.rate) for one in found]))


def _sums_by_version(conn: Connection, project_id: int) -> list[tuple[str, TaskSums]]:
    # a text that two versions wrote during a trial counts for both
    drawn = union_all(
        *(
            select(wrote.label("version"), preferences.c.task_id, _TICKED.label("ticked")).where(
                preferences.c.project_id == project_id, _SHOWN, wrote.is_not(None)
            )
            for wrote in (preferences.c.version, preferences.c.shared_with)
        )
    ).subquery()
    per_task = (
        select(drawn.c.version, func.count().label("m"), func.sum(drawn.c.ticked).label("f"))
        .group_by(drawn.c.version, drawn.c.task_id)
        .subquery()
    )
    m, f = per_task.c.m, per_task.c.f
    sums = [func.sum(each) for each in (m, f, m * m, f * f, m * f)]
    query = (
        select(per_task.c.version, func.count(), *sums)
        .group_by(per_task.c.version)
        .order_by(per_task.c.version)
    )
    return [(version, TaskSums(*(int(each) for each in rest))) for version, *rest in conn.execute(query)]


def _learnt_from(conn: Connection, project_id: int) -> dict[str, int]:
    """version -> ticked rationales that were there when the run that made it began.

    A verdict that changed later counts from its change on, so this is a lower bound.
    """
    made = select(runs.c.version, runs.c.started_at).where(
        runs.c.project_id == project_id, runs.c.version.is_not(None), runs.c.started_at.is_not(None)
    )
    found: dict[str, int] = {}
    total, since = 0, -1.0
    for version, started_at in conn.execute(made.order_by(runs.c.started_at)).all():
        between = (preferences.c.noted_at > since) & (preferences.c.noted_at <= started_at)
        query = select(func.coalesce(func.sum(_FITS), 0)).where(
            preferences.c.project_id == project_id, between
        )
        total, since = total + int(conn.execute(query).scalar_one()), started_at
        found[version] = total
    return found


def annotators(conn: Connection, project_id: int) -> AnnotatorsView:
    """The annotators of the newest annotations: counts, pace, agreement, position bias."""
    newest = _newest(conn, project_id)
    people = _people(conn, newest)
    blocks = _blocks(conn, project_id, newest)
    rates = _rates(conn, project_id, newest)
    shared = _shared(conn, newest)
    agreed = _agreed(shared)
    votes = _votes(shared)
    each = tuple(
        AnnotatorView(
            annotator,
            annotations=len(kept),
            skipped=skipped,
            seconds=median(times) if (times := [t for t in kept if t is not None]) else None,
            fit_rate=rates.get(annotator),
            agreement=agreed[annotator][0] / agreed[annotator][1] if annotator in agreed else None,
            pairs=agreed[annotator][1] if annotator in agreed else 0,
            position=position_test([block for who, block in blocks if who == annotator]),
        )
        for annotator, (kept, skipped) in sorted(people.items(), key=lambda one: -len(one[1][0]))
    )
    return AnnotatorsView(
        annotations=sum(one.annotations + one.skipped for one in each),
        annotators=each,
        alpha=krippendorff_alpha(votes),
        pairwise=pairwise_agreement(votes),
        position=position_test(_together([block for _, block in blocks])),
    )


def _newest(conn: Connection, project_id: int) -> ColumnElement[bool]:
    """Which annotations count as the newest ones."""
    query = (
        select(annotations.c.annotation_id)
        .filter_by(project_id=project_id)
        .order_by(annotations.c.annotation_id.desc())
        .offset(NEWEST)
        .limit(1)
    )
    last = conn.execute(query).scalar_one_or_none() or 0
    return and_(annotations.c.project_id == project_id, annotations.c.annotation_id > last)


def _people(
    conn: Connection, newest: ColumnElement[bool]
) -> dict[int | None, tuple[list[float | None], int]]:
    """annotator -> (lead time of each annotation in seconds, number of skipped ones)."""
    query = select(annotations.c.annotator, annotations.c.was_cancelled, annotations.c.lead_time)
    found: dict[int | None, tuple[list[float | None], int]] = {}
    for annotator, skipped, lead_time in conn.execute(query.where(newest, annotations.c.deleted.is_(False))):
        times, count = found.get(annotator, ([], 0))
        if not skipped:
            times.append(lead_time)
        found[annotator] = (times, count + bool(skipped))
    return found


def _judged(project_id: int, newest: ColumnElement[bool]) -> ColumnElement[bool]:
    """Verdicts on shown rationales of the newest annotations."""
    ids = select(annotations.c.annotation_id).where(newest)
    return and_(preferences.c.project_id == project_id, preferences.c.annotation_id.in_(ids), _SHOWN)


def _rates(conn: Connection, project_id: int, newest: ColumnElement[bool]) -> dict[int | None, Metric]:
    per_task = (
        select(preferences.c.annotator, func.count().label("m"), func.sum(_TICKED).label("f"))
        .where(_judged(project_id, newest))
        .group_by(preferences.c.annotator, preferences.c.task_id)
        .subquery()
    )
    m, f = per_task.c.m, per_task.c.f
    sums = [func.sum(each) for each in (m, f, m * m, f * f, m * f)]
    query = select(per_task.c.annotator, func.count(), *sums).group_by(per_task.c.annotator)
    return {who: fit_rate(TaskSums(*(int(each) for each in rest))) for who, *rest in conn.execute(query)}


def _blocks(
    conn: Connection, project_id: int, newest: ColumnElement[bool]
) -> list[tuple[int | None, Blocks]]:
    """Annotations whose rows stand at 1, 2, ... without a gap, by annotator, size and number of ticks."""
    first_round = and_(
        _judged(project_id, newest),
        preferences.c.turn == 1,
        preferences.c.position.between(1, MAX_CANDIDATES),
    )
    position = preferences.c.position
    block = (
        select(preferences.c.annotation_id, func.count().label("m"), func.sum(_FITS).label("t"))
        .where(first_round)
        .group_by(preferences.c.annotation_id)
        .having(func.max(position) == func.count(), func.count(position.distinct()) == func.count())
        .subquery()
    )
    key = (preferences.c.annotator, block.c.m, block.c.t)
    query = (
        select(*key, position, func.count(), func.sum(_FITS))
        .join_from(preferences, block, block.c.annotation_id == preferences.c.annotation_id)
        .where(first_round)
        .group_by(*key, position)
    )
    ticks: dict[tuple[int | None, int, int], list[int]] = {}
    number: dict[tuple[int | None, int, int], int] = {}
    for who, m, t, row, shown, ticked in conn.execute(query):
        ticks.setdefault((who, m, t), [0] * m)[row - 1] = int(ticked)
        number[who, m, t] = shown
    return [
        (who, Blocks(m, t, number[who, m, t], tuple(rows)))
        for (who, m, t), rows in sorted(ticks.items(), key=str)
    ]


def _together(blocks: Sequence[Blocks]) -> list[Blocks]:
    """Blocks of the same kind of all annotators added up."""
    kinds: dict[tuple[int, int], Blocks] = {}
    for one in blocks:
        held = kinds.get((one.rows, one.ticked))
        ticks = tuple(a + b for a, b in zip(held.ticks, one.ticks, strict=True)) if held else one.ticks
        number = one.annotations + (held.annotations if held else 0)
        kinds[one.rows, one.ticked] = Blocks(one.rows, one.ticked, number, ticks)
    return list(kinds.values())


def _shared(conn: Connection, newest: ColumnElement[bool]) -> dict[int, dict[str, dict[int, bool]]]:
    """task -> rationale -> annotator -> whether ticked, of tasks that several named people judged."""
    several = (
        select(annotations.c.task_id)
        .where(newest, annotations.c.deleted.is_(False), annotations.c.was_cancelled.is_(False))
        .group_by(annotations.c.task_id)
        .having(func.count(annotations.c.annotator.distinct()) > 1)
        .order_by(annotations.c.task_id.desc())
        .limit(SHARED_TASKS)
    )
    query = (
        select(preferences.c.task_id, preferences.c.text, preferences.c.annotator, _FITS)
        .join_from(
            annotations,
            preferences,
            and_(
                preferences.c.project_id == annotations.c.project_id,
                preferences.c.annotation_id == annotations.c.annotation_id,
            ),
        )
        .where(newest, annotations.c.task_id.in_(several))
        .where(preferences.c.origin == Origin.CANDIDATE.value, preferences.c.annotator.is_not(None))
    )
    return _nested(conn.execute(query))


def _nested(rows: Iterable[Any]) -> dict[int, dict[str, dict[int, bool]]]:
    found: dict[int, dict[str, dict[int, bool]]] = defaultdict(lambda: defaultdict(dict))
    for task_id, text, annotator, fits in rows:
        found[task_id][text][annotator] = bool(fits)
    return found


def _votes(shared: dict[int, dict[str, dict[int, bool]]]) -> list[list[Votes]]:
    return [[(len(said), sum(said.values())) for said in texts.values()] for texts in shared.values()]


def _agreed(shared: dict[int, dict[str, dict[int, bool]]]) -> dict[int | None, tuple[int, int]]:
    """annotator -> (pairs with another person that agree, such pairs)."""
    found: dict[int | None, tuple[int, int]] = {}
    for texts in shared.values():
        for said in texts.values():
            for (one, first), (other, second) in combinations(said.items(), 2):
                for who in (one, other):
                    same, pairs = found.get(who, (0, 0))
                    found[who] = (same + (first == second), pairs + 1)
    return found
