"""create_app: wires service and blueprints, checks the secret, maps errors to HTTP."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from backend import dashboard, protocol, webhook
from backend.model import IllumeBackend
from backend.service import Service
from backend.settings import BASIC_USER, SECRET_HEADER, Settings
from illume_plugin.errors import IllumeError, UnauthorizedError

log = logging.getLogger(__name__)

#: Paths anybody may ask: they say nothing beyond "up".
OPEN_PATHS = frozenset({"/", "/health"})
#: Set in the WSGI environment when the secret stood in the path.
PATH_SECRET_SHOWN = "illume.path_secret_shown"  # noqa: S105 - a name


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
    secret = settings.shared_secret()
    app.wsgi_app = SecretPath(app.wsgi_app, secret)  # type: ignore[method-assign]

    @app.before_request
    def identify() -> None:
        g.request_id = uuid.uuid4().hex[:12]
        # the status page has a lock of its own: Label Studio's secret does not open it, nor it the others
        if request.path not in OPEN_PATHS and dashboard.NAME not in request.blueprints:
            _check_secret(secret)

    app.register_error_handler(IllumeError, _problem_of_illume)
    app.register_error_handler(HTTPException, _problem_of_http)
    app.register_error_handler(Exception, _problem_of_anything)
    app.register_blueprint(protocol.blueprint)
    app.register_blueprint(webhook.blueprint)
    dashboard.install(app, IllumeBackend.service)
    return app


class SecretPath:
    """Lets /s/SECRET/predict stand for /predict with the secret shown, where no header can be set."""

    def __init__(self, app: Callable[..., Iterable[bytes]], secret: str) -> None:
        self.app = app
        self.secret = secret

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        parts = environ.get("PATH_INFO", "").split("/", 3)
        if len(parts) >= 3 and parts[1] == "s":
            # The secret leaves the path whether it is right or wrong, so that it reaches no log.
            environ = {
                **environ,
                "PATH_INFO": "/" + (parts[3] if len(parts) > 3 else ""),
                PATH_SECRET_SHOWN: same(parts[2], self.secret),
            }
        return self.app(environ, start_response)


def same(shown: str, secret: str) -> bool:
    """Whether two strings are equal, in time that tells nothing about where they differ."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), secret.encode())


def _check_secret(secret: str) -> None:
    shown = [request.headers.get(SECRET_HEADER, ""), _basic_password()]
    if request.environ.get(PATH_SECRET_SHOWN) or any(same(one, secret) for one in shown):
        return
    raise UnauthorizedError(
        "The secret is missing or wrong.",
        why="Anybody who can reach this port could otherwise write into your training data.",
        todo="Connect with `illume connect --project N`: it gives Label Studio the secret for its calls "
        f"(Basic, user {BASIC_USER}) and for its webhook (header {SECRET_HEADER}).",
    )


def _basic_password() -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password if user == BASIC_USER else ""


def _problem(status: int, title: str, detail: str, **more: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body |= {"request_id": g.get("request_id", ""), **{k: v for k, v in more.items() if v}}
    response = jsonify(body)
    response.status_code = status
    response.content_type = "application/problem+json"
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="illume"'
    return response


def _problem_of_illume(error: IllumeError) -> Response:
    level = logging.ERROR if error.status >= 500 else logging.WARNING
    log.log(level, "%s %s: %d %s", request.method, request.path, error.status, error)
    return _problem(error.status, error.title, error.what, why=error.why, todo=error.todo)


def _problem_of_http(error: HTTPException) -> Response:
    return _problem(error.code or 500, error.name.lower(), error.description or "")


def _problem_of_anything(error: Exception) -> Response:
    # The one place where everything is caught: the caller gets an id, the log gets the traceback.
    log.error("request %s failed", g.get("request_id", ""), exc_info=error)
    return _problem(500, "internal error", "Something went wrong here; the log has it under the request id.")
