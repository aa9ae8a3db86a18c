"""The usual event's way into the store, past Flask: the check of the secret, one parse, one commit.

Label Studio hangs up after a second and sends an event once, so what a storm of them costs decides what
arrives (docs/adr/0023). Whatever is not usual goes to the app, which answers it: another path, no secret or a
wrong one, a body too large or not JSON, and an event that could not be kept, with the reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from backend.admission import Admission
from backend.dashboard.traffic import Traffic
from backend.service import Service

PATH = "/webhook"
ENDPOINT = "webhook.receive"
#: In the WSGI environment: why an event was not kept, for the app to answer.
PROBLEM = "illume.event_problem"
#: Of every answer that no browser is to show.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_JSON = json.JSONEncoder(separators=(",", ":")).encode
_WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Listener:
    """Takes usual events, and passes all other calls on.

    Args:
        limit: bytes of a body; a larger one is for the app to refuse.
    """

    def __init__(
        self, app: _WSGI, service: Service, admission: Admission, traffic: Traffic, *, limit: int
    ) -> None:
        self._app = app
        self._service = service
        self._admission = admission
        self._traffic = traffic
        self._limit = limit

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begin = time.perf_counter()
        if environ.get("PATH_INFO") != PATH or environ.get("REQUEST_METHOD") != "POST":
            return self._app(environ, start_response)
        event = self._event(environ) if self._admission.knows(environ) else None
        answer = None if event is None else self._keep(event, environ)
        if answer is None:
            return self._app(environ, start_response)
        length = ("Content-Length", str(len(answer)))
        start_response("201 CREATED", [("Content-Type", "application/json"), length, *HEADERS.items()])
        self._traffic.note(ENDPOINT, 201, time.perf_counter() - begin)
        return [answer]

    def _event(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """The body, which the app can still read; None: it is for the app to say what is wrong with it."""
        told = environ.get("CONTENT_LENGTH", "")
        if not (told.isascii() and told.isdecimal()) or int(told) > self._limit:
            return None
        body = environ["wsgi.input"].read(int(told))
        environ["wsgi.input"] = BytesIO(body)
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return event if isinstance(event, dict) else None

    def _keep(self, event: dict[str, Any], environ: dict[str, Any]) -> bytes | None:
        try:
            return _JSON(self._service.receive(event)).encode() + b"\n"
        except Exception as error:  # noqa: BLE001 - raised again in the app, which answers all errors
            environ[PROBLEM] = error
            return None
