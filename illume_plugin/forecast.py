"""Is more labelling worth it? The learning curve fitted, and drawn out to twice the labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from illume_plugin.types import Metric

#: Fewer versions than this say nothing of a curve with three unknowns.
MIN_VERSIONS = 4
#: A version counts when so many of its candidates were judged.
MIN_JUDGED = 30
#: A smaller gain of the fit rate from twice the labels is hardly worth them (share: two points).
WORTH = 0.02
DRAWS = 300

_Z95 = NormalDist().inv_cdf(0.975)
_EXPONENTS = (0.1, 0.3, 0.6, 1.0, 2.0)


class Worth(StrEnum):
    """What twice the labels would bring."""

    TOO_LITTLE = "too little data"
    YES = "yes"
    HARDLY = "hardly"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One version: the number of ticked rationales it learnt from, and how its candidates fared."""

    learnt_from: int
    rate: Metric


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the curve says.

    Attributes:
        why: one sentence for people.
        target: number of ticked rationales that is looked at, twice the present one; 0 without a forecast.
        gain: gain of the fit rate between now and then, with its 95 % interval; `n` counts the versions.
        curve: (ticked rationales, fitted rate) of points along the way, the rate with its 95 % interval.
    """

    worth: Worth
    why: str
    target: int = 0
    gain: Metric | None = None
    curve: tuple[tuple[int, Metric], ...] = ()


@dataclass(frozen=True, slots=True)
class _Fit:
    """rate(x) = limit - drop * (1 + x / scale) ** -exponent"""

    limit: float
    drop: float
    exponent: float
    scale: float

    def at(self, x: float) -> float:
        return min(1.0, max(0.0, self.limit - self.drop * float((1 + x / self.scale) ** -self.exponent)))


def forecast(points: Sequence[CurvePoint], *, seed: int = 0) -> Forecast:
    """Fit a power law that levels off (arXiv 1712.00409) by weighted least squares, and draw it out.

    The interval is a parametric bootstrap's around the fit, with the points' own standard errors, made wider
    where the points lie further from the curve than these explain (versions differ by more than what people
    happened to judge). Not covered: annotators who grow stricter, tasks that grow harder.
    """
    used = sorted((p for p in points if p.rate.n >= MIN_JUDGED), key=lambda p: p.learnt_from)
    lack = _lack(used)
    if lack:
        return Forecast(Worth.TOO_LITTLE, lack)
    xs = [float(p.learnt_from) for p in used]
    ys = [p.rate.value for p in used]
    errors = [max(1e-3, (p.rate.high - p.rate.low) / (2 * _Z95)) for p in used]
    fitter = _Fitter(xs, errors)
    best = fitter.fit(ys)
    wider = fitter.excess(best, ys)
    rng = random.Random(seed)
    drawn = [
        fitter.fit([best.at(x) + rng.gauss(0.0, wider * e) for x, e in zip(xs, errors, strict=True)])
        for _ in range(DRAWS)
    ]
    now, target = xs[-1], 2 * xs[-1]
    gain = _metric(best.at(target) - best.at(now), [fit.at(target) - fit.at(now) for fit in drawn], len(used))
    steps = [round(target * k / 40) for k in range(41)]
    curve = tuple((x, _metric(best.at(x), [fit.at(x) for fit in drawn], len(used))) for x in steps)
    worth = _worth(gain)
    return Forecast(worth, _sentence(worth, gain, int(now)), int(target), gain, curve)


def _lack(used: Sequence[CurvePoint]) -> str:
    distinct = sorted({point.learnt_from for point in used})
    if len(distinct) < MIN_VERSIONS:
        return (
            f"{len(distinct)} of the {MIN_VERSIONS} versions that a curve needs have at "
            f"least {MIN_JUDGED} judged candidates each and learnt from different numbers of rationales."
        )
    positive = [x for x in distinct if x > 0]
    if positive[-1] < 2 * positive[0]:
        return (
            "The versions learnt from nearly the same number of rationales "
            f"({positive[0]} to {positive[-1]}); the largest must be twice the smallest."
        )
    return ""


def _worth(gain: Metric) -> Worth:
    if gain.low >= WORTH:
        return Worth.YES
    return Worth.HARDLY if gain.high < WORTH else Worth.UNCLEAR


def _sentence(worth: Worth, gain: Metric, now: int) -> str:
    points = (
        f"{100 * gain.value:.1f} points (95\u00a0% interval {100 * gain.low:.1f} to {100 * gain.high:.1f})"
    )
    head = f"Twice the {now} ticked rationales of today would raise the fit rate by {points}"
    tail = {
        Worth.YES: "it is worth going on.",
        Worth.HARDLY: f"less than {100 * WORTH:.0f} points, so more of the same hardly pays.",
        Worth.UNCLEAR: "that may be worth it or not; more judged candidates per version would tell.",
    }[worth]
    return f"{head}: {tail}"


def _metric(value: float, drawn: Sequence[float], n: int) -> Metric:
    ordered = sorted(drawn)
    low = ordered[round(0.025 * (len(ordered) - 1))]
    high = ordered[round(0.975 * (len(ordered) - 1))]
    return Metric(value, min(low, value), max(high, value), n)


class _Fitter:
    """Weighted least squares for one set of x: for each shape two unknowns; the shape that fits best wins."""

    def __init__(self, xs: Sequence[float], errors: Sequence[float]) -> None:
        self.xs = xs
        self.weights = [error**-2 for error in errors]
        smallest = min(x for x in xs if x > 0)
        # a bend before the first points, among the points, or beyond them
        scales = sorted({smallest / 8, (smallest * xs[-1]) ** 0.5, 2 * xs[-1]})
        self.shapes = [
            (c, scale, [(1 + x / scale) ** -c for x in xs]) for c in _EXPONENTS for scale in scales
        ]

    def fit(self, ys: Sequence[float]) -> _Fit:
        fits = (self._of_shape(c, scale, basis, ys) for c, scale, basis in self.shapes)
        return min(fits, key=lambda fit: self._error(fit, ys))

    def _of_shape(self, exponent: float, scale: float, basis: Sequence[float], ys: Sequence[float]) -> _Fit:
        """More labels never harm (drop at least 0), and no rate passes 1."""
        w = self.weights
        total = sum(w)
        mean_g = sum(a * g for a, g in zip(w, basis, strict=True)) / total
        mean_y = sum(a * y for a, y in zip(w, ys, strict=True)) / total
        triples = list(zip(w, basis, ys, strict=True))
        spread = sum(a * (g - mean_g) ** 2 for a, g, _ in triples)
        drop = max(0.0, -sum(a * (g - mean_g) * (y - mean_y) for a, g, y in triples) / spread)
        limit = mean_y + drop * mean_g
        if limit > 1.0:
            limit = 1.0
            drop = max(
                0.0, sum(a * g * (1 - y) for a, g, y in triples) / sum(a * g * g for a, g, _ in triples)
            )
        return _Fit(limit, drop, exponent, scale)

    def _error(self, fit: _Fit, ys: Sequence[float]) -> float:
        return sum(a * (y - fit.at(x)) ** 2 for a, x, y in zip(self.weights, self.xs, ys, strict=True))

    def excess(self, fit: _Fit, ys: Sequence[float]) -> float:
        """How many times further off the points are than their standard errors explain; at least 1."""
        degrees = len(ys) - 3
        return max(1.0, float((self._error(fit, ys) / degrees) ** 0.5)) if degrees > 0 else 1.0
