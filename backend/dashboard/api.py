"""The same records as JSON, to be read by programs; docs/api.md describes them."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from backend.dashboard.board import board
from backend.dashboard.pages import task_query
from illume_plugin import __version__

blueprint = Blueprint("api", __name__, url_prefix="/api")


@blueprint.get("")
def index() -> Response:
    """What there is."""
    prefix = f"dashboard.{blueprint.name}."
    rules = [rule for rule in current_app.url_map.iter_rules() if rule.endpoint.startswith(prefix)]
    return jsonify(illume=__version__, paths=sorted(rule.rule for rule in rules))


@blueprint.get("/projects")
def projects() -> Response:
    """Every connected project."""
    return jsonify(projects=[board().glance(one.project_id) for one in board().projects()])


@blueprint.get("/projects/<int:project_id>")
def project(project_id: int) -> Response:
    """One project at a glance."""
    return jsonify(board().glance(project_id))


@blueprint.get("/projects/<int:project_id>/curve")
def curve(project_id: int) -> Response:
    """Fit rates of the versions, and the forecast."""
    return jsonify(board().curve(project_id))


@blueprint.get("/projects/<int:project_id>/runs")
def runs(project_id: int) -> Response:
    """The newest runs, newest first."""
    return jsonify(runs=board().runs(project_id))


@blueprint.get("/projects/<int:project_id>/runs/<int:run_id>")
def run(project_id: int, run_id: int) -> Response:
    """One run."""
    return jsonify(board().run(project_id, run_id))


@blueprint.get("/projects/<int:project_id>/versions")
def versions(project_id: int) -> Response:
    """Every version, newest first, and the newest changes of the serving one."""
    return jsonify(versions=board().versions(project_id), switches=board().switches(project_id))


@blueprint.get("/projects/<int:project_id>/trial")
def trial(project_id: int) -> Response:
    """The trial that goes on, or the last one, with its figures; null where there was none."""
    return jsonify(trial=board().trial(project_id))


@blueprint.get("/projects/<int:project_id>/tasks")
def tasks(project_id: int) -> Response:
    """A page of tasks with candidates, scores and verdicts."""
    return jsonify(board().tasks(project_id, **task_query()))


@blueprint.get("/projects/<int:project_id>/annotators")
def annotators(project_id: int) -> Response:
    """The annotators of the newest annotations."""
    return jsonify(board().annotators(project_id))


@blueprint.get("/health")
def health() -> Response:
    """Health of every piece."""
    return jsonify(board().health())
