"""The losses of a run so far, few enough to be written into its row every second."""

from __future__ import annotations

from typing import Any

#: Points kept at most; then every second one goes and only every second step is noted from there on.
POINTS = 200


class LossCurve:
    """(step, loss) at steps that are equally far apart, and of the newest step. For one writer thread."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, float]] = []
        self._last: tuple[int, float] | None = None
        self._every = 1

    def note(self, step: Any, loss: Any) -> None:
        """Take in the loss of a step; what is no such thing is passed over."""
        if not isinstance(step, int) or not isinstance(loss, int | float):
            return
        if self._last is not None and step <= self._last[0]:
            return  # told again
        self._last = (step, float(loss))
        if (step - 1) % self._every == 0:
            kept = [*self._kept, self._last]
            if len(kept) > POINTS:
                self._every *= 2
                kept = [point for point in kept if (point[0] - 1) % self._every == 0]
            self._kept = kept

    def points(self) -> list[list[float]]:
        """[[step, loss], ...] as JSON takes it, by step."""
        kept, last = self._kept, self._last
        points = kept if last is None or (kept and kept[-1] == last) else [*kept, last]
        return [[step, round(loss, 5)] for step, loss in points]
