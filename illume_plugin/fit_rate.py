"""The share of shown rationales that people ticked, with an interval that knows that tasks differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

from illume_plugin.types import Metric

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class TaskSums:
    """Sums over tasks, of m candidates shown and f of these ticked in each.

    Attributes:
        tasks: number of tasks.
        shown, ticked: sums of m and of f.
        shown_squared, ticked_squared, product: sums of m * m, f * f and f * m.
    """

    tasks: int
    shown: int
    ticked: int
    shown_squared: int
    ticked_squared: int
    product: int

    @classmethod
    def of(cls, tasks: Iterable[tuple[int, int]]) -> TaskSums:
        """From (shown, ticked) of each task."""
        pairs = list(tasks)
        return cls(
            len(pairs),
            sum(m for m, _ in pairs),
            sum(f for _, f in pairs),
            sum(m * m for m, _ in pairs),
            sum(f * f for _, f in pairs),
            sum(m * f for m, f in pairs),
        )


def fit_rate(sums: TaskSums) -> Metric:
    """Ticked / shown with Wilson's 95 % interval; `n` counts the candidates shown.

    The candidates of a task are ticked or not together, so they count for less than independent ones would:
    the interval is for the effective number shown * (1 - shown) / variance, the variance being the
    ratio estimator's over tasks (W. G. Cochran, Sampling Techniques, 1977, 6.3). Where all candidates were
    ticked, or none, or there is one task, each task counts once.

    Raises:
        ValueError: nothing was shown.
    """
    if not sums.shown:
        raise ValueError("There is no fit rate of nothing shown.")
    rate = sums.ticked / sums.shown
    low, high = wilson_interval(rate, effective_number(sums, rate))
    return Metric(rate, low, high, sums.shown)


def effective_number(sums: TaskSums, rate: float) -> float:
    """How many independent candidates would tell as much, from 1 to the number shown."""
    squares = sums.ticked_squared - 2 * rate * sums.product + rate**2 * sums.shown_squared
    if sums.tasks < 2 or squares <= 0 or not 0 < rate < 1:
        return float(sums.tasks)
    variance = squares / sums.shown**2 * sums.tasks / (sums.tasks - 1)
    return max(1.0, min(float(sums.shown), rate * (1 - rate) / variance))


def wilson_interval(rate: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in `n` trials, which need not be a whole number."""
    middle = (rate + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * (rate * (1 - rate) / n + _Z95**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
