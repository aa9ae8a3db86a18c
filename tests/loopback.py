"""A small HTTP server on loopback for tests: routes are functions, requests are remembered."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request that the server got."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What to answer. `body` that is not bytes is sent as JSON; `announce` lies about the length."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    announce: int | None = None

    def encoded(self) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        return json.dumps(self.body).encode(), "application/json"


Route = Callable[[Asked], Answer]


class Loopback:
    """Routes by (method, path). `requests` holds what was asked, in order of arrival."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Route] = {}
        self.requests: list[Asked] = []
        self.closing = threading.Event()  # a route may wait for it to answer never
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def answer(self, method: str, path: str, status: int = 200, body: Any = None, **more: Any) -> None:
        """Always answer the same to a path."""
        fixed = Answer(status, {} if body is None else body, **more)
        self.routes[method, path] = lambda _asked: fixed

    def asked(self, method: str, path: str) -> list[Asked]:
        """The requests to one path."""
        return [each for each in self.requests if (each.method, each.path) == (method, path)]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                split = urlsplit(self.path)
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(
                    self.command,
                    split.path,
                    {key: values[0] for key, values in parse_qs(split.query).items()},
                    dict(self.headers),
                    json.loads(raw) if raw else None,
                )
                loopback.requests.append(asked)
                route = loopback.routes.get((asked.method, asked.path))
                answer = route(asked) if route else Answer(404, {"detail": "Not found."})
                body, kind = answer.encoded()
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Type": kind, **answer.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(answer.announce or len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has hung up, which some tests are about

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
