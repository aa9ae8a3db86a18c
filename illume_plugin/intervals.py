"""Means of outcomes with their 95 % intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from illume_plugin.types import Metric

_Z95 = NormalDist().inv_cdf(0.975)
#: Student's 97.5 % quantile for 1, 2, ... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def wilson(outcomes: Sequence[float]) -> Metric:
    """A share of yes/no outcomes with Wilson's 95 % interval, which stays sane near 0 and 1."""
    n, share = len(outcomes), fmean(outcomes)
    middle = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * (share * (1 - share) / n + _Z95**2 / (4 * n**2)) ** 0.5
    return Metric(share, max(0.0, middle - half), min(1.0, middle + half), n)


def bootstrap(outcomes: Sequence[float], *, draws: int = 2000, seed: int = 0) -> Metric:
    """A mean over tasks with the 95 % percentile interval of the bootstrap over tasks."""
    rng, n = random.Random(seed), len(outcomes)
    means = sorted(fmean(rng.choices(outcomes, k=n)) for _ in range(draws))
    return Metric(fmean(outcomes), means[round(0.025 * (draws - 1))], means[round(0.975 * (draws - 1))], n)


def of_mean(values: Sequence[float]) -> Metric:
    """The mean of a few repeats, such as seeds, with Student's 95 % interval; one alone has none."""
    n, mean = len(values), fmean(values)
    if n == 1:
        return Metric(mean, float("-inf"), float("inf"), n)
    half = student_t95(n - 1) * stdev(values) / n**0.5
    return Metric(mean, mean - half, mean + half, n)


def student_t95(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution: from the table, beyond it by Cornish and Fisher."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
