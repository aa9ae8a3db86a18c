"""Ends a waitress server that runs in a thread of the test's own process."""

from __future__ import annotations

import threading
from typing import Any


def end(server: Any, thread: threading.Thread) -> None:
    """Close the server and its connections, and wait for its thread.

    It is done by the thread itself, between two of its looks: closed from another one, sockets would vanish
    from under the look that is going on.
    """

    def close() -> None:
        for one in list(server._map.values()):
            if one is not server.trigger:
                one.close()
        server.close()

    server.trigger.pull_trigger(close)
    thread.join(30)
    server.task_dispatcher.shutdown()
    assert not thread.is_alive()
