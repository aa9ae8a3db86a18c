"""Progress lines with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between two lines of one stage.
EVERY_S = 10.0

Say = Callable[[str], None]


class Stage:
    """One stage of an iteration; tells at most one line in `EVERY_S` seconds.

    Args:
        name: such as "iteration 2/5: sampling".
        total: units of work.
        unit: their name.
    """

    def __init__(
        self, say: Say, name: str, total: int, unit: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._name, self._total, self._unit = name, total, unit
        self._clock = clock
        self._started = self._told = clock()

    def at(self, done: int) -> None:
        """Tell how much is done, if it is time."""
        now = self._clock()
        if now - self._told < EVERY_S or not 0 < done < self._total:
            return
        self._told = now
        left = (now - self._started) / done * (self._total - done)
        self._say(f"{self._name} {done}/{self._total} {self._unit}, about {duration(left)} left")

    def tell(self, what: str) -> None:
        """Tell something else, if it is time."""
        now = self._clock()
        if now - self._told >= EVERY_S:
            self._told = now
            self._say(f"{self._name} {what}")

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return self._clock() - self._started


def duration(seconds: float) -> str:
    """Such as `42 s`, `3 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
