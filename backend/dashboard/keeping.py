"""Keeps what is dear to count for a moment, so that any number of viewers costs as much as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: A kept value is used for so long, seconds ...
AT_LEAST_S = 1.0
#: ... or for so many times as long as it took to count: counting takes at most 5 % of a core.
TIMES = 20.0
#: Kept values in all; above that the oldest go.
AT_MOST = 500


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    made: bool = False
    until: float = 0.0


class Kept:
    """Values by key. While one thread counts anew, the others get what was kept before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The kept value of `key`, or `make()` where there is none or it is too old."""
        entry = self._entry(key)
        if entry.made and self._clock() < entry.until:
            return entry.value  # type: ignore[no-any-return]
        if not entry.lock.acquire(blocking=not entry.made):
            return entry.value  # type: ignore[no-any-return]
        try:
            if not entry.made or self._clock() >= entry.until:  # nobody was faster
                self._make(entry, make)
            return entry.value  # type: ignore[no-any-return]
        finally:
            entry.lock.release()

    def _make(self, entry: _Entry, make: Callable[[], Any]) -> None:
        started = self._clock()
        entry.value = make()
        ended = self._clock()
        entry.until = ended + max(AT_LEAST_S, TIMES * (ended - started))
        entry.made = True

    def _entry(self, key: Hashable) -> _Entry:
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry  # the last one used stands last
            while len(self._entries) > AT_MOST:
                self._entries.pop(next(iter(self._entries)))
            return entry

    def forget(self) -> None:
        """Count everything anew: somebody changed something here."""
        with self._lock:
            self._entries.clear()
