"""A proxy on loopback that does to requests what networks and servers do."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from faults.patience import rest

#: Longest that a request is left without an answer, seconds.
STALL_S = 12.0
#: Events are delivered late after so many seconds at most.
LATE_S = 6.0
PAGE = b"<html><head><title>Bad gateway</title></head><body>It works!</body></html>"
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "host"})


class Mode(StrEnum):
    """What becomes of a request."""

    PASS = "pass"
    REFUSE = "refuse"  # nobody listens
    STALL = "stall"  # no answer comes
    FAIL = "fail"  # 500
    GARBAGE = "garbage"  # a page with 200
    DROP = "drop"  # 200, and nobody has heard it
    DOUBLE = "double"  # delivered twice
    LATE = "late"  # delivered later, in another order


class Relay:
    """Listens on a port of its own and passes requests on to another one.

    Args:
        only: paths that a mode applies to begin with this; others pass.
        spared: what holds these bytes passes.
    """

    def __init__(
        self, port: int, target: int, *, only: str = "/", spared: bytes = b"", seed: int = 0
    ) -> None:
        self.port = port
        self.target = target
        self.only = only
        self.spared = spared
        self.mode = Mode.PASS
        self.suffered: Counter[str] = Counter()
        self._rng = Random(seed)
        self._server: ThreadingHTTPServer | None = None
        self._late: list[threading.Thread] = []
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: Mode) -> None:
        """From the next request on."""
        self.mode = mode
        if mode is Mode.REFUSE:
            self.suffered[mode] += 1
            self.close()
        else:
            self.open()

    def open(self) -> None:
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), _handler(self))
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def end(self) -> None:
        """Deliver what is late, and stop."""
        self.deliver()
        self.close()

    def deliver(self) -> None:
        """Wait until nothing is late any more."""
        while self._late:
            self._late.pop().join()

    def fate(self, path: str, body: bytes | None) -> Mode:
        """What becomes of a request now."""
        spared = self.spared and self.spared in (body or b"")
        mode = Mode.PASS if spared or not path.startswith(self.only) else self.mode
        if mode is not Mode.PASS:
            self.suffered[mode] += 1
        return mode

    def later(self, request: _Request) -> None:
        """Pass it on after a while."""

        def deliver() -> None:
            time.sleep(self._rng.uniform(0.2, LATE_S))
            with suppress(OSError, http.client.HTTPException):
                self.passed(request)

        self._late.append(threading.Thread(target=deliver, daemon=True))
        self._late[-1].start()

    def passed(self, request: _Request) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the target.

        Raises:
            OSError, HTTPException: it gives no answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=120)
        try:
            connection.request(*request)
            answer = connection.getresponse()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            return answer.status, headers, answer.read()
        finally:
            connection.close()


_Request = tuple[str, str, bytes | None, dict[str, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A client has hung up, which is what this is about."""


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            request = (self.command, self.path, body, headers)
            match relay.fate(self.path, body):
                case Mode.FAIL:
                    return self._answer(500, [("Content-Type", "text/html")], PAGE)
                case Mode.GARBAGE:
                    return self._answer(200, [("Content-Type", "text/html")], PAGE)
                case Mode.DROP:
                    return self._answer(200, [], b"{}")
                case Mode.LATE:
                    relay.later(request)
                    return self._answer(201, [], b"{}")
                case Mode.STALL:
                    rest(STALL_S, until=lambda: relay.mode is not Mode.STALL)
                    return None
                case Mode.DOUBLE:
                    relay.passed(request)
            return self._answer(*relay.passed(request))

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
