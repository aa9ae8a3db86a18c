"""Label Studio's usual calls, answered past Flask: the check of the secret, one parse, the work, one answer.

Label Studio hangs up on an event after a second and sends it once, and annotators wait for candidates: what
each call costs decides how many come through (docs/adr/0023). Whatever is not usual goes to the app, which
answers it: another path, no secret or a wrong one, a body too large or not JSON, and a call that failed, with
the reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from backend.admission import Admission
from backend.dashboard.traffic import Traffic

#: In the WSGI environment: why a call failed, for the app to answer.
PROBLEM = "illume.problem"
#: Of every answer that no browser is to show.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_JSON = json.JSONEncoder(separators=(",", ":")).encode
_DIGITS = 20
_WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Usual:
    """A call with POST that carries a JSON object and is answered by one.

    Attributes:
        endpoint: as Flask names it, for the metrics.
        status: of the answer.
        work: body and WSGI environment -> answer.
    """

    endpoint: str
    status: str
    work: Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]


class Listener:
    """Answers usual calls, and passes all others on.

    Args:
        app: answers the others.
        calls: path -> the usual call.
        limit: bytes of a body; a larger one is for the app to refuse.
    """

    def __init__(
        self, app: _WSGI, calls: Mapping[str, Usual], admission: Admission, traffic: Traffic, *, limit: int
    ) -> None:
        self._app = app
        self._calls = calls
        self._admission = admission
        self._traffic = traffic
        self._limit = limit

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begin = time.perf_counter()
        call = self._calls.get(environ.get("PATH_INFO", ""))
        if call is None or environ.get("REQUEST_METHOD") != "POST":
            return self._app(environ, start_response)
        body = self._body(environ) if self._admission.knows(environ) else None
        answer = None if body is None else _answer(call, body, environ)
        if answer is None:
            return self._app(environ, start_response)
        length = ("Content-Length", str(len(answer)))
        start_response(call.status, [("Content-Type", "application/json"), length, *HEADERS.items()])
        self._traffic.note(call.endpoint, int(call.status[:3]), time.perf_counter() - begin)
        return [answer]

    def _body(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """The body, which the app can still read; None: it is for the app to say what is wrong with it."""
        told = environ.get("CONTENT_LENGTH", "")
        # more digits than any length has: Python refuses to make a number of some thousands
        if not (told.isascii() and told.isdecimal() and len(told) < _DIGITS) or int(told) > self._limit:
            return None
        sent = environ["wsgi.input"].read(int(told))
        environ["wsgi.input"] = BytesIO(sent)
        try:
            body = json.loads(sent)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None


def _answer(call: Usual, body: dict[str, Any], environ: dict[str, Any]) -> bytes | None:
    try:
        return _JSON(call.work(body, environ)).encode() + b"\n"
    except Exception as error:  # noqa: BLE001 - raised again in the app, which answers all errors
        environ[PROBLEM] = error
        return None
