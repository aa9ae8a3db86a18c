"""The buttons: train now, promote, roll back, cancel. Each is confirmed on a page, and says what it did."""

from __future__ import annotations

from flask import Blueprint, g, url_for
from werkzeug.wrappers import Response

from backend import versions
from backend.dashboard import forms
from backend.dashboard.board import board
from backend.dashboard.deeds import Deed, check_expected, confirm, done, why
from backend.dashboard.pages import refused
from illume_plugin.errors import ConflictError, IllumeError
from illume_plugin.store import runs
from illume_plugin.types import GateVerdict, RunState

blueprint = Blueprint("actions", __name__)
blueprint.register_error_handler(IllumeError, refused)


def _while_on_trial(project_id: int, then: str) -> list[str]:
    """A sentence on the trial that goes on, if one does."""
    challenger = board().project(project_id).challenger
    return [f"{challenger} is on trial: {then}."] if challenger else []


@blueprint.get("/status/<int:project_id>/train")
def confirm_train(project_id: int) -> str:
    """What training now would do."""
    glance = board().glance(project_id)
    effects = (
        f"A run is queued that learns from everything said so far ({glance.counts.waiting} verdicts are new "
        "since the last one).",
        f"Its parent is {glance.active_version}, which goes on serving meanwhile. "
        "The new version serves only if the gate lets it.",
        *_while_on_trial(project_id, "the new version waits until that is decided"),
    )
    deed = Deed(
        "Train now?",
        effects,
        "Train now",
        url_for("dashboard.actions.train", project_id=project_id),
        url_for("dashboard.pages.runs", project_id=project_id),
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/train")
def train(project_id: int) -> Response:
    """Queue a run."""
    forms.check()
    run, new = board().service.request_training(project_id, trigger=f"{g.who} (status page)"[:64])
    said = (
        f"Run {run.run_id} is queued."
        if new
        else f"Run {run.run_id} is live already; no second one was made."
    )
    return done(project_id, "runs", said)


@blueprint.get("/status/<int:project_id>/versions/<version>/promote")
def confirm_promote(project_id: int, version: str) -> str:
    """What promoting would do."""
    active = board().project(project_id).active_version
    board().service.check_version(project_id, version)
    held = any(
        one.version == version and one.gate == GateVerdict.HOLD for one in board().versions(project_id)
    )
    effects = (
        f"{version} serves from now on, in place of {active}.",
        *(["The gate holds it back: whoever lets it serve all the same says why."] if held else []),
        *_while_on_trial(project_id, "that trial ends without a verdict"),
        "Tasks that nobody has judged get fresh candidates. What people said stays as it is.",
        "One click on Roll back undoes it.",
    )
    deed = Deed(
        f"Let {version} serve?",
        effects,
        f"Promote {version}",
        url_for("dashboard.actions.promote", project_id=project_id, version=version),
        url_for("dashboard.pages.versions", project_id=project_id),
        {"expected": active},
        why="required" if held else "optional",
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/versions/<version>/promote")
def promote(project_id: int, version: str) -> Response:
    """Let a version serve."""
    forms.check()
    check_expected(project_id)
    before = versions.promote(board().service, project_id, version, who=g.who, reason=why())
    said = f"{version} serves now (before: {before})." if before != version else f"{version} served already."
    return done(project_id, "versions", said)


@blueprint.get("/status/<int:project_id>/rollback")
def confirm_rollback(project_id: int) -> str:
    """What rolling back would do."""
    active, previous = board().service.previous_version(project_id)
    effects = (
        f"{previous} serves again, in place of {active}.",
        *_while_on_trial(project_id, "that trial ends without a verdict"),
        f"Tasks that nobody has judged show candidates of {previous}.",
        f"{active} stays and can be promoted again.",
    )
    deed = Deed(
        f"Roll back to {previous}?",
        effects,
        f"Roll back to {previous}",
        url_for("dashboard.actions.rollback", project_id=project_id),
        url_for("dashboard.pages.versions", project_id=project_id),
        {"expected": active},
        why="optional",
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/rollback")
def rollback(project_id: int) -> Response:
    """Go back to the version that served before."""
    forms.check()
    check_expected(project_id)
    active, previous = board().service.rollback(project_id, reason=why() or "rolled back", who=g.who)
    return done(project_id, "versions", f"{previous} serves again (before: {active}).")


@blueprint.get("/status/<int:project_id>/runs/<int:run_id>/cancel")
def confirm_cancel(project_id: int, run_id: int) -> str:
    """What cancelling would do."""
    run = board().run(project_id, run_id)
    if not run.live:
        raise ConflictError(f"Run {run_id} is over ({run.state}).", why="Only a live run can be cancelled.")
    effects = (
        f"Run {run_id} ends within seconds and makes no version; its work so far is lost.",
        "Nothing else changes: the serving version and what people said stay as they are.",
    )
    deed = Deed(
        f"Cancel run {run_id}?",
        effects,
        f"Cancel run {run_id}",
        url_for("dashboard.actions.cancel", project_id=project_id, run_id=run_id),
        url_for("dashboard.pages.run", project_id=project_id, run_id=run_id),
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/runs/<int:run_id>/cancel")
def cancel(project_id: int, run_id: int) -> Response:
    """Cancel a live run."""
    forms.check()
    board().run(project_id, run_id)  # of this project, or there is none
    service = board().service
    with service.store.write() as conn:
        run = runs.request_cancel(conn, run_id, now=service.clock())
    said = "is cancelled" if run.state is RunState.CANCELLED else "will stop within seconds"
    return done(project_id, "runs", f"Run {run_id} {said}.")
