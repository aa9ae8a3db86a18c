"""Means of outcomes with their 95 % intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import NormalDist, fmean

from illume_plugin.types import Metric

_Z95 = NormalDist().inv_cdf(0.975)


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
