"""Whether the client of a call is still there: what nobody waits for need not be sampled."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from illume_plugin.generation.stopping import never


def gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A question that may be asked at any time during a call: has its client hung up?

    Args:
        environ: of WSGI. waitress answers itself (with `channel_request_lookahead`); gunicorn and werkzeug
            show their socket. Elsewhere, and behind TLS of our own, the answer is always no.
    """
    told = environ.get("waitress.client_disconnected")
    if callable(told):
        return lambda: bool(told())
    shown = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if isinstance(shown, socket.socket) and not isinstance(shown, ssl.SSLSocket):
        return partial(_has_hung_up, shown)
    return never


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether there is something to read, and it is the end."""
    try:
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        return bool(waiting.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):  # closed on our side: reset, or its number is gone
        return True
