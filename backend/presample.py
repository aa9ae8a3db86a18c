"""Sampling ahead: unjudged tasks get candidates of the active version, in bulk, before anybody opens them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from backend.scheduling import Priority
from backend.service import Service
from illume_plugin.errors import IllumeError, UnavailableError
from illume_plugin.store import candidates
from illume_plugin.types import CandidateSet, Project

log = logging.getLogger(__name__)

#: Tasks sampled before the loop looks at events and the active version again.
ROUND = 8
#: A bulk push costs Label Studio a count over the whole project, so push many at once ...
PUSH_MANY = 500
PUSH_LIMIT = 2000


def waiting(service: Service, project: Project, *, limit: int | None = None) -> dict[int, dict[str, Any]]:
    """Data of the tasks that nobody has judged and that have no candidates of the active version, by id."""
    with service.store.read() as conn:
        return candidates.waiting(
            conn,
            project.project_id,
            version=project.active_version,
            plan=service.plan.hash,
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
    sampled = service.scheduler.sample(project, data, priority=Priority.AHEAD, gone=stop)
    tried = {i: p for i, p in sampled.problems.items() if not isinstance(p, UnavailableError)}
    for task_id, problem in tried.items():
        log.warning("project %d, task %d: %s", project.project_id, task_id, problem)
    return len(sampled.sets) + len(tried)


def unpushed(service: Service, project: Project) -> list[CandidateSet]:
    """Candidate sets of unjudged tasks that Label Studio has not been given, at most PUSH_LIMIT."""
    key = {"version": project.active_version, "plan": service.plan.hash}
    with service.store.read() as conn:
        return candidates.unpushed(conn, project.project_id, limit=PUSH_LIMIT, **key)


def push_ahead(service: Service, project: Project, *, everything: bool) -> int:
    """Push candidate sets that Label Studio does not have; returns how many.

    Args:
        everything: push what there is, however little; else only from PUSH_MANY on.
    """
    if service.label_studio is None:
        return 0
    key = {"version": project.active_version, "plan": service.plan.hash}
    sets = unpushed(service, project)
    if not sets or (len(sets) < PUSH_MANY and not everything):
        return 0
    predictions = []
    for one in sets:
        prediction = service.prediction(project, one)
        if isinstance(prediction, IllumeError):
            log.error("not pushed: %s", prediction)
            continue
        predictions.append({"task": one.task_id, **prediction})
    started = time.monotonic()
    service.label_studio.push_predictions(project.project_id, predictions)
    with service.store.write() as conn:
        candidates.mark_pushed(
            conn, project.project_id, [one.task_id for one in sets], now=service.clock(), **key
        )
    log.info(
        "project %d: pushed %d candidate sets of %s in %.1f s",
        project.project_id,
        len(predictions),
        project.active_version,
        time.monotonic() - started,
    )
    return len(sets)
