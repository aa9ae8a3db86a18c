"""Waiting on a machine that may sleep meanwhile: time in which nothing ran is not counted."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Between two looks; of what passed between them no more than MOST_S is counted. Seconds.
LOOK_S, MOST_S = 0.1, 0.5


class Awake:
    """Counts the seconds in which the machine was awake; to be looked at more often than every AWAKE_S."""

    AWAKE_S = 5.0

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        """Seconds so far."""
        now = time.monotonic()
        self.seconds += min(now - self._last, self.AWAKE_S)
        self._last = now
        return self.seconds


def rest(seconds: float, *, until: Callable[[], bool] = lambda: False, look_s: float = LOOK_S) -> bool:
    """Wait until `until()` is true or `seconds` of running time have passed; returns whether it is true."""
    left, last = seconds, time.monotonic()
    while not until():
        if left <= 0:
            return False
        time.sleep(look_s)
        now = time.monotonic()
        left -= min(now - last, max(MOST_S, look_s))
        last = now
    return True
