"""Runs asynchronous work for threads that wait for it, and stops it when they no longer do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

from illume_plugin.generation.stopping import SamplingStopped, never

Result = TypeVar("Result")

#: Seconds between two questions whether the work is still wanted.
ASKED_EVERY_S = 0.1


class BackgroundLoop:
    """One event loop in a thread of its own, so that all callers share its connections and limits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], *, stop: Callable[[], bool] = never) -> Result:
        """Wait for `work`; whatever ends the waiting ends the work too.

        Args:
            stop: asked every tenth of a second; true cancels the work.

        Raises:
            SamplingStopped: `stop` said so.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], timeout=ASKED_EVERY_S).done:
                if stop():
                    raise SamplingStopped(
                        "Sampling was stopped.", why="Nobody waits for its result any more."
                    )
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the thread; nothing may be running any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
