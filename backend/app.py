"""create_app: wires service and blueprints, checks the secret, maps errors to HTTP."""

from __future__ import annotations

import logging
import uuid

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import IntegerConverter

from backend import dashboard, protocol, webhook
from backend.admission import Admission, SecretPath
from backend.credentials import WINDOW_S
from backend.dashboard.traffic import traffic_of
from backend.listener import HEADERS, PROBLEM, Listener
from backend.model import IllumeBackend
from backend.service import Service
from backend.settings import Settings
from illume_plugin.errors import IllumeError

log = logging.getLogger(__name__)

#: Paths anybody may ask: they say nothing beyond "up".
OPEN_PATHS = frozenset({"/", "/health"})
#: Of a path no more than this is logged.
_LOGGED = 200


class Number(IntegerConverter):
    """A whole number in a path that every database can hold; with other digits there is no such page."""

    regex = "[0-9]{1,18}"


def create_app(settings: Settings, *, service: Service | None = None) -> Flask:
    """The backend as a WSGI app.

    Args:
        settings: as loaded by backend.settings.load_settings.
        service: an existing engine to use instead of a new one.
    """
    app = Flask("illume")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    IllumeBackend.service = service or Service(settings)
    app.extensions["illume"] = IllumeBackend.service
    app.url_map.converters["int"] = Number
    secret = settings.shared_secret()
    admission = Admission(secret, proxies=settings.trusted_proxies)

    @app.before_request
    def identify() -> None:
        g.request_id = uuid.uuid4().hex[:12]
        # the status page has a lock of its own: Label Studio's secret does not open it, nor it the others
        if request.path not in OPEN_PATHS and dashboard.NAME not in request.blueprints:
            admission.check(request)
        if PROBLEM in request.environ:  # it failed on the shorter way, and is not tried twice
            raise request.environ[PROBLEM]

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.register_error_handler(IllumeError, _problem_of_illume)
    app.register_error_handler(HTTPException, _problem_of_http)
    app.register_error_handler(Exception, _problem_of_anything)
    app.register_blueprint(protocol.blueprint)
    app.register_blueprint(webhook.blueprint)
    dashboard.install(app, IllumeBackend.service)
    usual = {"/webhook": webhook.usual_event(IllumeBackend.service), "/predict": protocol.usual_predict()}
    traffic, limit = traffic_of(app), settings.max_body_bytes
    listener = Listener(app.wsgi_app, usual, admission, traffic, limit=limit)
    app.wsgi_app = SecretPath(listener, secret)  # type: ignore[method-assign]
    return app


def _problem(status: int, title: str, detail: str, **more: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body |= {"request_id": g.get("request_id", ""), **{k: v for k, v in more.items() if v}}
    response = jsonify(body)
    response.status_code = status
    response.content_type = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="illume"'
    if status == 429:
        response.headers["Retry-After"] = f"{WINDOW_S:.0f}"
    return response


def _problem_of_illume(error: IllumeError) -> Response:
    level = logging.ERROR if error.status >= 500 else logging.WARNING
    log.log(level, "%s %s: %d %s", request.method, _loggable(request.path), error.status, error)
    return _problem(error.status, error.title, error.what, why=error.why, todo=error.todo)


def _loggable(path: str) -> str:
    """A path on one line, whatever stands in it: nobody writes lines of their own into the log."""
    return ascii(path[:_LOGGED])[1:-1]


def _problem_of_http(error: HTTPException) -> Response:
    return _problem(error.code or 500, error.name.lower(), error.description or "")


def _problem_of_anything(error: Exception) -> Response:
    # The one place where everything is caught: the caller gets an id, the log gets the traceback.
    log.error("request %s failed", g.get("request_id", ""), exc_info=error)
    return _problem(500, "internal error", "Something went wrong here; the log has it under the request id.")
