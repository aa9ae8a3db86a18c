"""Label Studio's calls to an ML backend: /health /setup /predict /versions /train and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from backend.clients import gone
from backend.listener import Usual
from backend.model import IllumeBackend, project_number
from backend.service import Service
from illume_plugin import __version__
from illume_plugin.errors import BadRequestError, in_words
from illume_plugin.label_config import parse_label_config
from illume_plugin.preferences.secrets import MAX_DEPTH
from illume_plugin.store import runs

blueprint = Blueprint("protocol", __name__)


def service() -> Service:
    """The app's engine."""
    engine: Service = current_app.extensions["illume"]
    return engine


def json_object() -> dict[str, Any]:
    """The request body.

    Raises:
        BadRequestError: it is not a JSON object, or nests deeper than any call of Label Studio.
    """
    try:
        body = request.get_json(force=True, silent=True)
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(body, dict):
        # nothing of it is told: what was cut on its way may begin with a token
        raise BadRequestError(
            f"The body ({len(request.get_data())} bytes) is not a JSON object.",
            why="Label Studio's calls all carry one.",
        )
    refuse_deep(body)
    return body


def refuse_deep(body: dict[str, Any]) -> None:
    """Look at it level by level, never by recursion.

    Raises:
        BadRequestError: it nests deeper than any call of Label Studio.
    """
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> BadRequestError:
    return BadRequestError(
        f"The body nests more than {MAX_DEPTH} levels deep.", why="Label Studio's calls nest about ten."
    )


def _project_id(body: dict[str, Any]) -> int:
    project = body.get("project")
    number = project_number(project.get("id") if isinstance(project, dict) else project)
    if number is None:
        raise BadRequestError(
            f"project={in_words(project)} names no project.", why='Label Studio sends "ID.CREATION_TIME".'
        )
    return number


def _text(body: dict[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = body.get(key)
        if value is not None and not isinstance(value, str):
            raise BadRequestError(f"{key} must be a string, not {type(value).__name__}.")
        if value:
            return value
    return None


@blueprint.get("/")
@blueprint.get("/health")
def health() -> Response:
    """Up, always from memory: Label Studio asks before every other call and waits 1 s."""
    return jsonify(status="UP", model_class=IllumeBackend.__name__, version=__version__)


@blueprint.post("/setup")
def setup() -> Response:
    """Which version serves the project. Never loads a model; ignores access_token and extra_params."""
    body = json_object()
    version = service().setup(_project_id(body), _text(body, "schema", "label_config"))
    return jsonify(model_version=version)


@lru_cache(maxsize=64)
def _backend(project_id: int, label_config: str | None) -> IllumeBackend:
    return IllumeBackend.for_project(project_id, label_config)


@blueprint.post("/predict")
def predict() -> Response:
    """Predictions of the same length and order as the tasks."""
    return jsonify(_predictions(json_object(), request.environ))


def usual_predict() -> Usual:
    """The same past Flask."""

    def work(body: dict[str, Any], environ: dict[str, Any]) -> dict[str, Any]:
        refuse_deep(body)
        return _predictions(body, environ)

    return Usual("protocol.predict", "200 OK", work)


def _predictions(body: dict[str, Any], environ: Mapping[str, Any]) -> dict[str, Any]:
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise BadRequestError("tasks must be a list of at least one task.")
    params = body.get("params") or {}
    if not isinstance(params, dict):
        raise BadRequestError("params must be an object.")
    context = params.get("context")
    if context is not None and not isinstance(context, dict):
        raise BadRequestError("params.context must be an object or null.")
    backend = _backend(_project_id(body), _text(body, "label_config"))
    return {"results": backend.predict(tasks, context=context, gone=gone(environ))}


@blueprint.route("/versions", methods=["GET", "POST"])
def versions() -> Response:
    """Every version that can serve. Label Studio's GET names no project; the POST of older ones does."""
    body = json_object() if request.method == "POST" and request.get_data() else {}
    project_id = _project_id(body) if body.get("project") is not None else None
    return jsonify(versions=service().versions(project_id))


@blueprint.post("/train")
def train() -> tuple[Response, int]:
    """Start Training of Label Studio versions that do not send it as an event."""
    run, _ = service().request_training(_project_id(json_object()), trigger="label studio")
    return jsonify(job=str(run.run_id)), 201


@blueprint.post("/job_status")
def job_status() -> Response:
    """State of the run that /train or Start Training named."""
    job = json_object().get("job")
    number = project_number(job)
    if number is None:
        return jsonify({})
    with service().store.read() as conn:
        run = runs.get(conn, number)
    return jsonify(job=str(run.run_id), job_status=run.state.value, error=run.error, progress=run.progress)


@blueprint.post("/validate")
def validate() -> Response:
    """Whether a labelling configuration has the tags we need; 422 names what is missing."""
    config = _text(json_object(), "config", "label_config", "schema")
    if config:
        question, answer = service().keys
        parse_label_config(config, question_key=question, answer_key=answer)
    return jsonify({})


@blueprint.post("/delete")
@blueprint.post("/duplicate_model")
def acknowledge() -> Response:
    """Nothing to do: adapters and preferences stay until a person removes them."""
    json_object()
    return jsonify({})
