"""The pages. All of them can be read without a script."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from backend.dashboard import charts, live, words
from backend.dashboard.board import board
from backend.dashboard.browsing import Which
from backend.dashboard.pictures import CONTENT_TYPE
from backend.dashboard.views import CurveView, RunView
from illume_plugin.errors import BadRequestError, IllumeError, in_words
from illume_plugin.fit_rate import wilson_interval
from illume_plugin.position_bias import PositionTest
from illume_plugin.registry import is_version
from illume_plugin.types import BASE_VERSION, Metric

blueprint = Blueprint("pages", __name__)
words.install(blueprint)
blueprint.after_request(live.only_if_changed)

#: Versions on the chart of fit rates, the newest ones.
CHARTED = 12
#: Figures of a version that stand out: those that the gate weighs.
WEIGHED = ("preference_accuracy", "answer_accuracy")
#: Runs on the overview.
FEW = 3


def show(template: str, project_id: int | None = None, **context: Any) -> str:
    """Render a page; `project_id` is the project that its menu leads to."""
    known = board().projects()
    title = next((one.title for one in known if one.project_id == project_id), "")
    return render_template(
        template,
        project_id=project_id,
        project_title=title,
        projects=known,
        live=live.asked(),
        label_studio=board().service.settings.label_studio_url,
        **context,
    )


@blueprint.get("/status")
def index() -> AnyResponse | str:
    """The projects; with one project at once its overview."""
    known = board().projects()
    if len(known) == 1:
        return redirect(url_for("dashboard.pages.overview", project_id=known[0].project_id))
    return show("index.html", glances=[board().glance(one.project_id) for one in known])


@blueprint.get("/status/<int:project_id>")
def overview(project_id: int) -> str:
    """The loop at a glance."""
    glance, curve = board().glance(project_id), board().curve(project_id)
    return show(
        "overview.html",
        project_id,
        glance=glance,
        curve=curve,
        trial=board().trial(project_id),
        charts=_curve_charts(curve),
        runs=board().runs(project_id)[:FEW],
    )


def _curve_charts(curve: CurveView) -> dict[str, Any]:
    newest = curve.versions[-CHARTED:]
    points = [(one.version, one.rate) for one in newest]
    learning = [(one.learnt_from, one.rate) for one in curve.versions]
    return {
        "versions": charts.intervals("fit", "Fit rate of each version", points) if points else "",
        "learning": charts.learning_curve(
            "learning",
            "Fit rate over ticked rationales learnt from",
            learning,
            curve.forecast.curve,
            x_title="ticked rationales learnt from",
        )
        if len(learning) > 1
        else "",
    }


@blueprint.get("/status/<int:project_id>/runs")
def runs(project_id: int) -> str:
    """The newest runs."""
    return show("runs.html", project_id, runs=board().runs(project_id))


@blueprint.get("/status/<int:project_id>/runs/<int:run_id>")
def run(project_id: int, run_id: int) -> str:
    """One run: progress, loss, what the gate said."""
    found = board().run(project_id, run_id)
    return show("run.html", project_id, run=found, chart=_loss_chart(found))


def _loss_chart(found: RunView) -> Any:
    if len(found.losses) < 2:
        return ""
    return charts.line("loss", f"Loss of run {found.run_id}", found.losses, x_title="step")


@blueprint.get("/status/<int:project_id>/versions")
def versions(project_id: int) -> str:
    """Every version, and what can be done with it."""
    return show(
        "versions.html",
        project_id,
        glance=board().glance(project_id),
        versions=board().versions(project_id),
        switches=board().switches(project_id),
        trial=board().trial(project_id),
        base=BASE_VERSION,
        weighed=WEIGHED,
    )


@blueprint.get("/status/<int:project_id>/candidates")
def candidates(project_id: int) -> str:
    """Tasks with their candidates."""
    asked = task_query()
    return show(
        "candidates.html",
        project_id,
        page=board().tasks(project_id, **asked),
        asked=asked,
        whiches=list(Which),
        trial=board().trial(project_id),
        versions=[one.version for one in board().versions(project_id)],
    )


def task_query() -> dict[str, Any]:
    """What the address asks of the candidate browser.

    Raises:
        BadRequestError: a value makes no sense.
    """
    which, version = request.args.get("which", Which.ALL.value), request.args.get("version") or None
    if which not in list(Which):
        raise BadRequestError(f"which={in_words(which)}: it is one of {', '.join(Which)}.")
    if version and not is_version(version):
        raise BadRequestError(f"version={in_words(version)} is no version: they are v0001, v0002, ...")
    return {
        "version": version,
        "which": Which(which),
        "after": _whole("after"),
        "before": _whole("before"),
    }


def _whole(name: str) -> int | None:
    value = request.args.get(name)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise BadRequestError(f"{name}={in_words(value)} is no task number.")
    return int(value)


@blueprint.get("/status/<int:project_id>/pictures/<int:task_id>")
def picture(project_id: int, task_id: int) -> Response:
    """A task's picture."""
    response = Response(board().picture(project_id, task_id), content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "private, max-age=86400"
    return response


@blueprint.get("/status/<int:project_id>/annotators")
def annotators(project_id: int) -> str:
    """The annotators."""
    view = board().annotators(project_id)
    return show("annotators.html", project_id, view=view, chart=_position_chart(view.position))


def _position_chart(test: PositionTest) -> Any:
    rows = [row for row in test.rows if row.shown]
    if not rows:
        return ""
    points = [
        (str(row.position), Metric(row.rate, *wilson_interval(row.rate, row.shown), row.shown))
        for row in rows
    ]
    return charts.intervals("position", "Share of candidates ticked, by row on the screen", points)


@blueprint.get("/status/health")
def health() -> str:
    """Health of every piece."""
    return show("health.html", None, health=board().health())


@blueprint.errorhandler(IllumeError)
def refused(error: IllumeError) -> AnyResponse:
    """An error as a page."""
    # g.who is missing where the visitor was not let in: then nothing about the projects is told either
    page = show("error.html", error=error) if "who" in g else render_template("error.html", error=error)
    response = Response(page, status=error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="ILLUME status page", charset="UTF-8"'
    return response
