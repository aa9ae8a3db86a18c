"""Does memory grow? A line through its course, the slope's interval, and the rule that gives the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import fmean
from typing import TypeVar

from illume_plugin.intervals import student_t95

#: A process that grows faster than this is said to grow: 2.6 GiB in a week.
LIMIT_MIB_PER_HOUR = 16.0
#: Share of the run that is not looked at: models load, adapters and caches fill.
WARM_UP = 1 / 3
FEWEST = 10

T = TypeVar("T")


class Verdict(StrEnum):
    """What is said of a run."""

    FLAT = "flat"
    GROWS = "grows"
    OPEN = "not decided: run longer"


@dataclass(frozen=True)
class Line:
    """A straight line through measured values; its slope has a 95 % interval."""

    start: float
    slope: float
    low: float
    high: float

    def at(self, x: float) -> float:
        """Its height."""
        return self.start + self.slope * x


def after_warm_up(values: Sequence[T]) -> Sequence[T]:
    """What is looked at of a run."""
    return values[int(len(values) * WARM_UP) :]


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares.

    Memory that is high now is high ten seconds later, so neighbours tell less than as many independent
    values: the interval is wider by the square root of (1 + r) / (1 - r), where r is the correlation of
    neighbouring residuals (never taken as below 0).

    Raises:
        ValueError: fewer than 3 points, or all at one x.
    """
    n = len(x)
    if n < 3 or len(set(x)) == 1:
        raise ValueError(f"{n} points at {len(set(x))} places make no line.")
    x_mean, y_mean = fmean(x), fmean(y)
    spread = sum((one - x_mean) ** 2 for one in x)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / spread
    start = y_mean - slope * x_mean
    residuals = [b - start - slope * a for a, b in zip(x, y, strict=True)]
    variance = sum(r * r for r in residuals) / (n - 2)
    half = student_t95(n - 2) * (variance / spread * _inflation(residuals)) ** 0.5
    return Line(start, slope, slope - half, slope + half)


def verdict(line: Line, limit: float = LIMIT_MIB_PER_HOUR) -> Verdict:
    """Flat: the whole interval is below the limit. Grows: all of it is above. Else the run was too short."""
    if line.high <= limit:
        return Verdict.FLAT
    return Verdict.GROWS if line.low > limit else Verdict.OPEN


def _inflation(residuals: Sequence[float]) -> float:
    total = sum(r * r for r in residuals)
    if not total:
        return 1.0
    r = sum(a * b for a, b in pairwise(residuals)) / total
    r = min(max(r, 0.0), 0.99)
    return (1 + r) / (1 - r)
