"""The listener: check the secret (app.py), append the event durably, answer. No model work in here."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backend.protocol import json_object, service

blueprint = Blueprint("webhook", __name__)


@blueprint.post("/webhook")
def receive() -> tuple[Response, int]:
    """Take one event of Label Studio, which hangs up after 1 s and never sends it again."""
    return jsonify(service().receive(json_object())), 201
