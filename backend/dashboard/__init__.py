"""The status page: HTML under /status, JSON under /api, Prometheus' text under /metrics.

views are the records that are shown; queries, tallies, browsing with task_cards, and health make them; board
holds what a process keeps; charts and words draw and write them. access says who may look, forms who may
press a button, deeds how it is confirmed. The routes are in pages, actions, trial_actions, api and metrics;
live lets pages renew themselves.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Response, g, request

from backend.dashboard import actions, api, forms, metrics, pages, traffic, trial_actions
from backend.dashboard.board import EXTENSION, Board, board
from backend.service import Service

NAME = "dashboard"

_HERE = Path(__file__).resolve().parents[1]
#: Everything comes from us; nothing inline runs; nobody may frame us.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def install(app: Flask, service: Service) -> None:
    """Add the status page to the app. It asks for its own password, never for Label Studio's secret."""
    app.extensions[EXTENSION] = Board(service)
    settings = service.settings
    forms.install(app, settings.shared_secret(), tls=settings.backend_url.startswith("https://"))
    traffic.install(app)
    app.register_blueprint(_blueprint())


def _blueprint() -> Blueprint:
    parent = Blueprint(
        NAME,
        __name__,
        template_folder=str(_HERE / "templates"),
        static_folder=str(_HERE / "static"),
        static_url_path="/status/static",
    )
    parent.before_request(_admit)
    parent.after_request(_with_headers)
    for part in (pages, actions, trial_actions, api, metrics):
        parent.register_blueprint(part.blueprint)
    return parent


def _admit() -> None:
    g.who = board().gatekeeper.admit(request, forms.visitor())
    if board().service.settings.dashboard_password is not None:
        forms.remember_visitor()


def _with_headers(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = (
        "same-origin"  # "no-referrer" would hide the origin of our own forms
    )
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    return response
