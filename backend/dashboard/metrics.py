"""/metrics: what the pages count, for Prometheus. Every process tells the same of the store."""

from __future__ import annotations

from flask import Blueprint, Response
from sqlalchemy import func, select

from backend.dashboard import traffic
from backend.dashboard.board import Board, board
from backend.dashboard.exposition import CONTENT_TYPE, Family, render
from backend.dashboard.views import ProjectView
from illume_plugin import __version__
from illume_plugin.store import projects, reconciliations
from illume_plugin.store.tables import events, runs, switches
from illume_plugin.types import RunState

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Everything, in Prometheus' text format."""
    build = Family("illume_build_info", "gauge", "The version of ILLUME that answers.")
    build.add(1, version=__version__)
    glances = [board().glance(one.project_id) for one in board().projects()]
    families = [
        build,
        *_counts(glances),
        *_loop(board(), glances),
        *_runs(board(), glances),
        *_events(board()),
        *_in_step(board()),
        *traffic.families(),
    ]
    return Response(render(families), content_type=CONTENT_TYPE)


def _counts(glances: list[ProjectView]) -> list[Family]:
    told = {
        "tasks": ("illume_tasks", "Tasks known and not deleted."),
        "sampled": ("illume_tasks_sampled", "Tasks with candidates of the active version."),
        "pushed": ("illume_tasks_pushed", "Tasks whose candidates of the active version Label Studio has."),
        "unready": (
            "illume_tasks_unready",
            "Unjudged tasks without candidates of the active version.",
        ),
        "judged": ("illume_tasks_judged", "Tasks with at least one annotation."),
        "problems": ("illume_tasks_failed", "Tasks that could not be sampled."),
        "verdicts": ("illume_verdicts", "Verdicts on single rationales."),
        "waiting": ("illume_verdicts_waiting", "Verdicts noted since the last run was asked for."),
    }
    found = []
    for name, (metric, says) in told.items():
        family = Family(metric, "gauge", says)
        for one in glances:
            family.add(getattr(one.counts, name), project=one.project_id)
        found.append(family)
    return found


def _loop(board: Board, glances: list[ProjectView]) -> list[Family]:
    active = Family("illume_active_version_info", "gauge", "The version that serves.")
    worker = Family("illume_worker_up", "gauge", "Whether a worker holds the project's lease.")
    rate = Family("illume_fit_ratio", "gauge", "Share of shown candidates that were ticked, by version.")
    shown = Family("illume_candidates_judged", "gauge", "Candidates that were judged, by version.")
    for one in glances:
        active.add(1, project=one.project_id, version=one.active_version)
        worker.add(one.worker_until is not None, project=one.project_id)
        for each in board.curve(one.project_id).versions:
            rate.add(each.rate.value, project=one.project_id, version=each.version)
            shown.add(each.rate.n, project=one.project_id, version=each.version)
    return [active, worker, rate, shown]


def _runs(board: Board, glances: list[ProjectView]) -> list[Family]:
    ended = Family("illume_runs_finished_total", "counter", "Training runs that ended, by how they ended.")
    live = Family("illume_runs_live", "gauge", "Training runs queued or running.")
    done = Family("illume_run_progress_ratio", "gauge", "Progress of the live run's present stage.")
    loss = Family("illume_run_loss", "gauge", "Loss of the live run's newest step.")
    switched = Family("illume_switches_total", "counter", "Changes of the serving version.")
    with board.service.store.read() as conn:
        states = conn.execute(
            select(runs.c.project_id, runs.c.state, func.count()).group_by(runs.c.project_id, runs.c.state)
        ).all()
        changes = conn.execute(
            select(switches.c.project_id, func.count()).group_by(switches.c.project_id)
        ).all()
    for project_id, state, count in states:
        if state not in (RunState.QUEUED, RunState.RUNNING):
            ended.add(count, project=project_id, state=state)
    for project_id, count in changes:
        switched.add(count, project=project_id)
    for one in glances:
        live.add(one.live_run is not None, project=one.project_id)
        if one.live_run and one.live_run.done is not None:
            done.add(one.live_run.done, project=one.project_id, stage=one.live_run.stage)
        if one.live_run and one.live_run.loss is not None:
            loss.add(one.live_run.loss, project=one.project_id)
    return [ended, live, done, loss, switched]


def _events(board: Board) -> list[Family]:
    pending = Family("illume_events_pending", "gauge", "Events of Label Studio not taken in yet.")
    last = Family("illume_event_last_received_timestamp_seconds", "gauge", "When the newest event came.")
    with board.service.store.read() as conn:
        waiting = select(func.count()).select_from(events).where(events.c.applied_at.is_(None))
        pending.add(int(conn.execute(waiting).scalar_one()))
        newest = select(events.c.received_at).order_by(events.c.event_id.desc()).limit(1)
        received = conn.execute(newest).scalar_one_or_none()
    if received is not None:
        last.add(received)
    return [pending, last]


def _in_step(board: Board) -> list[Family]:
    last = Family("illume_reconciled_timestamp_seconds", "gauge", "When Label Studio was last asked.")
    failed = Family("illume_reconcile_failures", "gauge", "Rounds that failed since the last complete one.")
    found = Family("illume_reconcile_found_total", "counter", "Changes found that no event had told.")
    with board.service.store.read() as conn:
        known = {one.project_id: reconciliations.find(conn, one.project_id) for one in projects.every(conn)}
    for project_id, state in known.items():
        if state is None:
            continue
        failed.add(state.attempts, project=project_id)
        found.add(state.found, project=project_id)
        if state.checked_at is not None:
            last.add(state.checked_at, project=project_id)
    return [last, failed, found]
