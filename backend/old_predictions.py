"""Predictions in Label Studio of versions that do not serve any more: which may go, and removing them."""

from __future__ import annotations

import logging

from backend.presample import unpushed, waiting
from backend.service import Service
from illume_plugin.store import versions
from illume_plugin.types import Project

log = logging.getLogger(__name__)


def old_predictions(service: Service, project: Project) -> dict[str, int]:
    """Version -> predictions of it that may be removed from Label Studio, oldest switch first.

    A submit names the prediction that the page showed, and Label Studio refuses it when that one is gone. So
    nothing goes within `keep_predictions_h` of the switch, and nothing while an unjudged task has no
    candidates of the version that serves: it would open without any.
    """
    label_studio = service.label_studio
    versions_gone = _switched_away(service, project)
    if label_studio is None or not versions_gone or _unready(service, project):
        return {}
    held = label_studio.predictions_by_version(project.project_id)
    return {version: held[version] for version in versions_gone if version in held}


def remove_old_predictions(service: Service, project: Project) -> dict[str, int]:
    """Remove what `old_predictions` names, version by version; returns version -> predictions removed."""
    removed: dict[str, int] = {}
    for version in old_predictions(service, project):
        if service.label_studio is not None:
            removed[version] = service.label_studio.delete_predictions(project.project_id, version)
            log.info(
                "project %d: removed %d predictions of %s", project.project_id, removed[version], version
            )
    return removed


def _switched_away(service: Service, project: Project) -> list[str]:
    """Versions that served before and were last switched away from long enough ago."""
    with service.store.read() as conn:
        switches = versions.switched(conn, project.project_id)
    last = {one.from_version: one.switched_at for one in switches}
    limit = service.clock() - 3600 * service.settings.keep_predictions_h
    return [version for version, at in last.items() if at <= limit and version != project.active_version]


def _unready(service: Service, project: Project) -> bool:
    return bool(waiting(service, project, limit=1)) or bool(unpushed(service, project))
