"""The buttons: train now, promote, roll back, cancel. Each is confirmed on a page, and says what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import Blueprint, flash, g, redirect, request, url_for
from werkzeug.wrappers import Response

from backend import versions
from backend.dashboard import forms
from backend.dashboard.board import board
from backend.dashboard.pages import refused, show
from illume_plugin.errors import ConflictError, IllumeError
from illume_plugin.store import runs
from illume_plugin.types import GateVerdict, RunState

blueprint = Blueprint("actions", __name__)
blueprint.register_error_handler(IllumeError, refused)


@dataclass(frozen=True, slots=True)
class Deed:
    """What a page asks to be confirmed.

    Attributes:
        effects: what will happen, a sentence each.
        then: where the form goes.
        fields: what it carries along.
        why: whether a reason is asked for: "", "optional" or "required".
    """

    title: str
    effects: tuple[str, ...]
    button: str
    then: str
    back: str
    fields: dict[str, str] = field(default_factory=dict)
    why: str = ""


def _confirm(project_id: int, deed: Deed) -> str:
    return show("confirm.html", project_id, deed=deed, token_field=forms.FIELD, token=forms.token())


def _done(project_id: int, page: str, said: str) -> Response:
    board().kept.forget()
    flash(said)
    return redirect(url_for(f"dashboard.pages.{page}", project_id=project_id), code=303)


def _why() -> str:
    """The reason that was typed in, one line."""
    return " ".join(request.form.get("why", "").split())[:300]


def _check_expected(project_id: int) -> None:
    """The page that was confirmed told of a state that must still hold."""
    expected, active = request.form.get("expected", ""), board().project(project_id).active_version
    if expected != active:
        raise ConflictError(
            f"{active} serves by now, not {expected or 'what your page said'}.",
            why="Somebody was faster, or a run has ended meanwhile; nothing was changed.",
            todo="Look at the versions again.",
        )


@blueprint.get("/status/<int:project_id>/train")
def confirm_train(project_id: int) -> str:
    """What training now would do."""
    glance = board().glance(project_id)
    effects = (
        f"A run is queued that learns from everything said so far ({glance.counts.waiting} verdicts are new "
        "since the last one).",
        f"Its parent is {glance.active_version}, which goes on serving meanwhile. "
        "The new version serves only if the gate lets it.",
    )
    deed = Deed(
        "Train now?",
        effects,
        "Train now",
        url_for("dashboard.actions.train", project_id=project_id),
        url_for("dashboard.pages.runs", project_id=project_id),
    )
    return _confirm(project_id, deed)


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
    return _done(project_id, "runs", said)


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
    return _confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/versions/<version>/promote")
def promote(project_id: int, version: str) -> Response:
    """Let a version serve."""
    forms.check()
    _check_expected(project_id)
    before = versions.promote(board().service, project_id, version, who=g.who, reason=_why())
    said = f"{version} serves now (before: {before})." if before != version else f"{version} served already."
    return _done(project_id, "versions", said)


@blueprint.get("/status/<int:project_id>/rollback")
def confirm_rollback(project_id: int) -> str:
    """What rolling back would do."""
    active, previous = board().service.previous_version(project_id)
    effects = (
        f"{previous} serves again, in place of {active}.",
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
    return _confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/rollback")
def rollback(project_id: int) -> Response:
    """Go back to the version that served before."""
    forms.check()
    _check_expected(project_id)
    active, previous = board().service.rollback(project_id, reason=_why() or "rolled back", who=g.who)
    return _done(project_id, "versions", f"{previous} serves again (before: {active}).")


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
    return _confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/runs/<int:run_id>/cancel")
def cancel(project_id: int, run_id: int) -> Response:
    """Cancel a live run."""
    forms.check()
    board().run(project_id, run_id)  # of this project, or there is none
    service = board().service
    with service.store.write() as conn:
        run = runs.request_cancel(conn, run_id, now=service.clock())
    said = "is cancelled" if run.state is RunState.CANCELLED else "will stop within seconds"
    return _done(project_id, "runs", f"Run {run_id} {said}.")
