"""The buttons of the blind gate: put a version on trial, end the trial. Confirmed like every other."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, g, url_for
from werkzeug.wrappers import Response

from backend import presample, trials
from backend.dashboard import forms
from backend.dashboard.board import board
from backend.dashboard.deeds import Deed, check_expected, confirm, done, why
from backend.dashboard.pages import refused
from backend.dashboard.words import plural
from illume_plugin.errors import IllumeError

blueprint = Blueprint("trial_actions", __name__)
blueprint.register_error_handler(IllumeError, refused)


@blueprint.get("/status/<int:project_id>/versions/<version>/try")
def confirm_begin(project_id: int, version: str) -> str:
    """What putting a version on trial would do."""
    service = board().service
    project = trials.refuse(service, project_id, version)
    waiting = len(presample.waiting(service, replace(project, challenger=version)))
    limits = service.settings.gate_limits().blind.limits
    effects = (
        f"{plural(waiting, 'task')} that nobody has judged will show candidates of {project.active_version} "
        f"and {version}, equally many, and nobody who ticks sees whose they are.",
        f"It ends as soon as the ticks decide it, after {limits.most_tasks} judged tasks at the latest: "
        f"where {version} is better it serves, where it is worse it is retired.",
        "Sampling ahead takes twice as long meanwhile, and no run begins by itself.",
    )
    deed = Deed(
        f"Let people decide between {project.active_version} and {version}?",
        effects,
        f"Put {version} on trial",
        url_for("dashboard.trial_actions.begin", project_id=project_id, version=version),
        url_for("dashboard.pages.versions", project_id=project_id),
        {"expected": project.active_version},
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/versions/<version>/try")
def begin(project_id: int, version: str) -> Response:
    """Put a version on trial."""
    forms.check()
    check_expected(project_id)
    begun = trials.begin(board().service, project_id, version, who=g.who)
    return done(project_id, "versions", f"{version} is on trial beside {begun.active}.")


@blueprint.get("/status/<int:project_id>/trial/stop")
def confirm_stop(project_id: int) -> str:
    """What ending the trial would do."""
    trial = trials.must_be_open(board().service, project_id)
    effects = (
        f"The trial of {trial.challenger} beside {trial.active} ends undecided; its figures are kept.",
        f"{trial.active} goes on alone: tasks that nobody has judged show its own candidates again.",
        f"{trial.challenger} stays and can be promoted or tried again.",
    )
    deed = Deed(
        f"End the trial of {trial.challenger}?",
        effects,
        "End the trial",
        url_for("dashboard.trial_actions.stop", project_id=project_id),
        url_for("dashboard.pages.versions", project_id=project_id),
        why="optional",
    )
    return confirm(project_id, deed)


@blueprint.post("/status/<int:project_id>/trial/stop")
def stop(project_id: int) -> Response:
    """End the trial without a verdict."""
    forms.check()
    ended = trials.stop(board().service, project_id, who=g.who, reason=why() or "no reason given")
    return done(
        project_id,
        "versions",
        f"The trial of {ended.challenger} is over; {ended.active} goes on alone.",
    )
