"""Sampling ahead: unjudged tasks get candidates of the active version, in bulk, before anybody opens them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from backend import trials
from backend.leasing import leased
from backend.scheduling import Priority
from backend.service import Service
from illume_plugin.errors import IllumeError, UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, projects
from illume_plugin.types import CandidateSet, Project

log = logging.getLogger(__name__)

#: Tasks sampled before the loop looks at events and the active version again.
ROUND = 8
#: A bulk push costs Label Studio a count over the whole project, so push many at once ...
PUSH_MANY = 500
PUSH_LIMIT = 2000


def waiting(service: Service, project: Project, *, limit: int | None = None) -> dict[int, dict[str, Any]]:
    """Data of the tasks that nobody has judged and that lack candidates of the active version, by id.

    During a trial: that lack candidates of both versions.
    """
    with service.store.read() as conn:
        return candidates.waiting(
            conn,
            project.project_id,
            version=project.active_version,
            plan=service.sampler.key(project),
            now=service.clock(),
            limit=limit,
        )


def sample_ahead(
    service: Service, project: Project, *, limit: int = ROUND, stop: Callable[[], bool] = lambda: False
) -> int:
    """Sample up to `limit` waiting tasks; returns how many were tried."""
    data = waiting(service, project, limit=limit)
    if not data:
        return 0
    try:
        for version in project.adapters:
            service.engine.adapters.prepare(project.project_id, version)
        sampled = service.scheduler.sample(project, data, priority=Priority.AHEAD, gone=stop)
    except IllumeError:
        trials.stop_if_broken(service, project)  # the next round goes on without it
        raise
    tried = {i: p for i, p in sampled.problems.items() if not isinstance(p, UnavailableError)}
    for task_id, problem in tried.items():
        log.warning("project %d, task %d: %s", project.project_id, task_id, problem)
    return len(sampled.sets) + len(tried)


def unpushed(service: Service, project: Project) -> list[CandidateSet]:
    """Candidate sets of unjudged tasks that Label Studio has not been given, at most PUSH_LIMIT."""
    key = {"version": project.active_version, "plan": service.sampler.key(project)}
    with service.store.read() as conn:
        return candidates.unpushed(conn, project.project_id, limit=PUSH_LIMIT, **key)


def push_ahead(service: Service, project: Project, *, everything: bool) -> int:
    """Push candidate sets that Label Studio does not have; returns how many.

    One process at a time pushes for a project: Label Studio keeps what it is given twice.

    Args:
        everything: push what there is, however little; else only from PUSH_MANY on.
    """
    if service.label_studio is None:
        return 0
    count = len(unpushed(service, project))
    if not count or (count < PUSH_MANY and not everything):
        return 0
    with leased(service, f"push {project.project_id}") as ours:
        # who waited for the lease may know a trial that is over by now
        return _push(service, service.label_studio, project) if ours and _is_so(service, project) else 0


def push_again(service: Service, project: Project) -> int:
    """Have those sets pushed again that another one has overtaken in Label Studio; returns how many.

    A push that was under way while a trial began or ended, or whose process died, may have left tasks with
    the candidates of before.
    """
    with service.store.write() as conn:
        return candidates.unmark_overtaken(conn, project.project_id, version=project.active_version)


def _is_so(service: Service, project: Project) -> bool:
    """Whether the same versions draw for the project at this moment."""
    with service.store.read() as conn:
        return projects.get(conn, project.project_id).adapters == project.adapters


def _push(service: Service, label_studio: LabelStudio, project: Project) -> int:
    key = {"version": project.active_version, "plan": service.sampler.key(project)}
    sets = unpushed(service, project)
    predictions = []
    for one in sets:
        prediction = service.predictor.prediction(project, one)
        if isinstance(prediction, IllumeError):
            log.error("not pushed: %s", prediction)
            continue
        predictions.append({"task": one.task_id, **prediction})
    started = time.monotonic()
    point("push.before")
    label_studio.push_predictions(project.project_id, predictions)
    point("push.sent")
    with service.store.write() as conn:
        candidates.mark_pushed(
            conn, project.project_id, [one.task_id for one in sets], now=service.clock(), **key
        )
        if projects.get(conn, project.project_id).adapters != project.adapters:  # a trial began or ended
            candidates.unmark_overtaken(conn, project.project_id, version=project.active_version)
    point("push.noted")
    log.info(
        "project %d: pushed %d candidate sets of %s in %.1f s",
        project.project_id,
        len(predictions),
        project.active_version,
        time.monotonic() - started,
    )
    return len(sets)
