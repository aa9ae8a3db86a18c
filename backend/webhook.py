"""The listener: check the secret (app.py), append the event durably, answer. No model work in here."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from backend.listener import Usual
from backend.protocol import json_object, service
from backend.service import Service

blueprint = Blueprint("webhook", __name__)


@blueprint.post("/webhook")
def receive() -> tuple[Response, int]:
    """Take one event of Label Studio, which hangs up after 1 s and never sends it again."""
    return jsonify(service().receive(json_object())), 201


def usual_event(engine: Service) -> Usual:
    """The same past Flask."""

    def work(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        return engine.receive(body)

    return Usual("webhook.receive", "201 CREATED", work)
