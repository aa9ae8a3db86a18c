"""Renews a lease in a thread of its own, so that no stage of the work, however long, lets it run out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from illume_plugin.errors import UnavailableError

log = logging.getLogger(__name__)


class Pulse:
    """Calls `beat` every `every_s` seconds while the block runs, until it says no.

    A database that does not answer is waited for: the lease then runs out by itself, and whoever writes under
    it finds so.

    Args:
        beat: renews the lease; false when it is somebody else's by now.
        every_s: a small part of the lease's time.
    """

    def __init__(self, beat: Callable[[], bool], *, every_s: float, name: str = "pulse") -> None:
        self._beat = beat
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._every_s):
            try:
                if not self._beat():
                    return
            except UnavailableError as error:
                log.warning("a lease could not be renewed: %s", error)
