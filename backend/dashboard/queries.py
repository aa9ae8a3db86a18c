"""Projects, runs and versions: from the store and the registry to view records. Indexed and bounded."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from backend.dashboard.views import Comparison, Counts, FitRate, RunView, VersionView
from backend.service import Service
from backend.versions import Standing, State, run_of, standings
from illume_plugin.store import candidates, judgements, projects, runs, versions
from illume_plugin.store.tables import annotations, candidate_sets, leases, sampling_problems
from illume_plugin.types import BASE_VERSION, Metric, Project, Run, RunState, Switch


def counts(conn: Connection, project: Project, plan: str) -> Counts:
    """How far the project is. Takes time in proportion to its tasks: to be kept (keeping.py)."""
    key = {"project_id": project.project_id, "version": project.active_version, "plan": plan}
    sampled = _count(conn, select(func.count()).select_from(candidate_sets).filter_by(**key))
    # By the small index of unpushed sets: the rows themselves are long, and reading pushed_at reads them all.
    missing = _count(conn, select(func.count()).select_from(candidate_sets).filter_by(**key, pushed_at=None))
    since = runs.last_created_at(conn, project.project_id)
    failed = select(func.count()).select_from(sampling_problems)
    return Counts(
        tasks=projects.count_tasks(conn, project.project_id),
        sampled=sampled,
        pushed=sampled - missing,
        unready=candidates.count_unready(conn, project.project_id, version=project.active_version, plan=plan),
        judged=_count(
            conn,
            select(func.count(annotations.c.task_id.distinct())).filter_by(
                project_id=project.project_id, deleted=False
            ),
        ),
        verdicts=judgements.count_preferences(conn, project.project_id),
        waiting=judgements.count_preferences(conn, project.project_id, since=since),
        problems=_count(
            conn, failed.filter_by(project_id=project.project_id, version=project.active_version)
        ),
    )


def _count(conn: Connection, query: Any) -> int:
    return int(conn.execute(query).scalar_one())


def worker_until(conn: Connection, project_id: int) -> float | None:
    """Until when a worker holds the project's lease (seconds since the epoch); None where nobody does."""
    query = select(leases.c.until).filter_by(name=f"project {project_id}")
    return conn.execute(query).scalar_one_or_none()


def run_view(run: Run) -> RunView:
    """A run for people; what its progress or its report lack is left out."""
    progress, report = run.progress, run.report
    live = run.state in (RunState.QUEUED, RunState.RUNNING)
    step, steps = _whole(progress.get("step")), _whole(progress.get("steps"))
    return RunView(
        run_id=run.run_id,
        project_id=run.project_id,
        trigger=run.trigger,
        state=run.state.value,
        live=live,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        parent=run.parent,
        version=run.version,
        error=run.error,
        stage=str(progress.get("stage", "")),
        step=step,
        steps=steps,
        done=min(1.0, step / steps) if step is not None and steps else None,
        loss=_number(progress.get("loss")),
        eta_s=_number(progress.get("eta_s")) if live else None,
        losses=_losses(progress.get("losses")),
        reasons=tuple(str(reason) for reason in _list(report.get("reasons"))),
        comparisons=_comparisons(report),
    )


def _comparisons(report: Mapping[str, Any]) -> tuple[Comparison, ...]:
    active, challenger = metrics_of(report.get("active")), metrics_of(report.get("challenger"))
    names = dict.fromkeys([*challenger, *active])
    return tuple(Comparison(name, active.get(name), challenger.get(name)) for name in names)


def metrics_of(found: Any) -> dict[str, Metric]:
    """name -> metric, of what a report or meta.json holds; what is no metric is left out."""
    if not isinstance(found, Mapping):
        return {}
    read = {str(name): _metric(fields) for name, fields in found.items()}
    return {name: metric for name, metric in read.items() if metric is not None}


def _metric(fields: Any) -> Metric | None:
    if not isinstance(fields, Mapping):
        return None
    value, low, high = (_number(fields.get(name)) for name in ("value", "low", "high"))
    n = _whole(fields.get("n"))
    if value is None or low is None or high is None or n is None:
        return None
    return Metric(value, low, high, n, fields.get("higher_is_better") is not False)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _losses(found: Any) -> tuple[tuple[int, float], ...]:
    pairs = [pair for pair in _list(found) if isinstance(pair, list | tuple) and len(pair) == 2]
    read = [(_whole(step), _number(loss)) for step, loss in pairs]
    return tuple((step, loss) for step, loss in read if step is not None and loss is not None)


def recent_runs(conn: Connection, project_id: int, *, limit: int) -> list[RunView]:
    """The newest runs, newest first."""
    return [run_view(run) for run in runs.recent(conn, project_id, limit=limit)]


def version_views(
    service: Service, project: Project, fit_rates: Mapping[str, FitRate]
) -> tuple[VersionView, ...]:
    """Every version of the project, newest first, the base model last."""
    found = [
        _version(one, fit_rates.get(one.version)) for one in reversed(standings(service, project.project_id))
    ]
    base = VersionView(
        BASE_VERSION,
        (State.SERVES if project.active_version == BASE_VERSION else State.READY).value,
        base_model=service.settings.base_model,
        fit_rate=fit_rates.get(BASE_VERSION),
    )
    return (*found, base)


def _version(one: Standing, fit_rate: FitRate | None) -> VersionView:
    meta, gone = one.meta, one.retirement
    return VersionView(
        one.version,
        one.state.value,
        parent=meta.parent,
        created_at=meta.created_at,
        run_id=run_of(meta),
        gate=one.gate,
        training_set=meta.training_set,
        base_model=meta.base_model,
        metrics=metrics_of(meta.metrics.get("challenger")),
        fit_rate=fit_rate,
        retired=f"{gone.who or 'somebody'}: {gone.reason}" if gone else "",
        departed=len(one.departed),
    )


def recent_switches(conn: Connection, project_id: int, *, limit: int = 20) -> tuple[Switch, ...]:
    """The newest changes of the serving version, newest first."""
    return tuple(reversed(versions.switched(conn, project_id)[-limit:]))
