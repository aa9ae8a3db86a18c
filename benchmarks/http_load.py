"""Clients of an HTTP server on loopback, all in one thread: what they take themselves is hardly to be seen.

Each keeps its connection and sends its next request as soon as it has the answer, or in a rhythm.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.settings import SECRET_HEADER

#: Without a word for so long the server is taken for dead, seconds.
SILENT_S = 30.0
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    Attributes:
        begin, end: on the monotonic clock.
        status: of HTTP.
    """

    begin: float
    end: float
    status: int

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""
        return 1000 * (self.end - self.begin)


@dataclass
class Client:
    """One client.

    Attributes:
        name: what its requests have in common.
        requests: whole requests, head and body; when they are used up the client is done.
        every_s: rhythm of its requests; 0: one after the other.
    """

    name: str
    requests: Iterator[bytes]
    every_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)


def request(method: str, path: str, body: Mapping[str, Any] | None = None, *, secret: str = "") -> bytes:
    """One request as it goes over the wire."""
    sent = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(sent)}"]
    lines += ["Content-Type: application/json"] if sent else []
    lines += [f"{SECRET_HEADER}: {secret}"] if secret else []
    return "\r\n".join([*lines, "", ""]).encode() + sent


def under_load(port: int, clients: Sequence[Client], *, seconds: float) -> dict[str, list[Answer]]:
    """Let the clients ask for so long, or until they are done; the answers by client's name.

    Raises:
        RuntimeError: the server closes a connection, says nothing for SILENT_S, or does not speak HTTP.
    """
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as ready:
        links = [_Link(client, port, until) for client in clients]
        try:
            for link in links:
                ready.register(link.socket, selectors.EVENT_READ, link)
            _serve(ready, links)
        finally:
            for link in links:
                link.socket.close()
    found: dict[str, list[Answer]] = defaultdict(list)
    for client in clients:
        found[client.name] += client.answers
    return dict(found)


def _serve(ready: selectors.BaseSelector, links: Sequence[_Link]) -> None:
    while True:
        now = time.monotonic()
        for link in links:
            link.send_if_due(now)
        if all(link.done for link in links):
            return
        due = [link.due for link in links if not (link.waits or link.done)]
        for key, _ in ready.select(max(0.0, min([*due, now + SILENT_S]) - now)):
            key.data.receive()
        if any(link.waits and time.monotonic() - link.begin > SILENT_S for link in links):
            raise RuntimeError(f"A client had no answer for {SILENT_S:g} s.")


class _Link:
    """One client's connection, and where it is."""

    def __init__(self, client: Client, port: int, until: float) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SILENT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = time.monotonic()
        self.waits = self.done = False
        self._client, self._until = client, until
        self._came = bytearray()
        self.begin = 0.0

    def send_if_due(self, now: float) -> None:
        """Send the next request, if it is time for one and there is one."""
        if self.waits or self.done or now < self.due:
            return
        following = next(self._client.requests, None) if now < self._until else None
        if following is None:
            self.done = True
            return
        self.begin, self.waits = time.monotonic(), True
        self.due = self.begin + self._client.every_s
        self.socket.sendall(following)

    def receive(self) -> None:
        """Take what came; note the answer if that was all of it."""
        came = self.socket.recv(65536)
        if not came:
            raise RuntimeError(f"The server closed a connection of {self._client.name}.")
        self._came += came
        head_end = self._came.find(_END)
        if head_end < 0 or len(self._came) < head_end + len(_END) + _length(self._came[:head_end]):
            return
        status = int(self._came.split(b" ", 2)[1])
        self._client.answers.append(Answer(self.begin, time.monotonic(), status))
        self._came.clear()
        self.waits = False


def _length(head: bytes | bytearray) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError(f"An answer does not say how long it is: {bytes(head[:200])!r}")
