"""Events that listener.py does not take: those it could not keep, and whatever is unusual about a call."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from backend.listener import PROBLEM
from backend.protocol import json_object, service

blueprint = Blueprint("webhook", __name__)


@blueprint.post("/webhook")
def receive() -> tuple[Response, int]:
    """Take one event of Label Studio, which hangs up after 1 s and never sends it again.

    Raises:
        IllumeError: it is not kept; where that was found on the shorter way, it is not tried a second time.
    """
    problem: Exception | None = request.environ.get(PROBLEM)
    if problem is not None:
        raise problem
    return jsonify(service().receive(json_object())), 201
