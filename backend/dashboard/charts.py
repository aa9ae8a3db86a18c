"""Charts as inline SVG: no library, no script; colours come from the page's style sheet, by class.

Each has a title and a description for screen readers; the page shows the same figures in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from illume_plugin.types import Metric

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
#: More labels below an axis than this would run into each other.
LABELS = 7


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from `low` to `high` with marks at `ticks`."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        return (value - self.low) / (self.high - self.low)


SHARES = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def axis(values: Iterable[float], *, from_zero: bool = False) -> Axis:
    """A linear axis around the values, its marks at multiples of 1, 2 or 5 times a power of ten."""
    found = [value for value in values if math.isfinite(value)]
    low = min(found, default=0.0)
    high = max(found, default=1.0)
    low = min(0.0, low) if from_zero else low
    if high <= low:
        low, high = (0.0, 1.0) if high == low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    step = _step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(k * step for k in range(first, last + 1)))


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)


def intervals(name: str, title: str, points: Sequence[tuple[str, Metric]]) -> Markup:
    """Shares with their intervals, one beside the other.

    Args:
        name: names the picture on its page; letters only.
        title: what it shows.
        points: label and share of each.
    """
    places = [(k + 0.5) / max(1, len(points)) for k in range(len(points))]
    every = math.ceil(len(points) / LABELS)
    labels = [
        (place, label)
        for k, (place, (label, _)) in enumerate(zip(places, points, strict=True))
        if k % every == 0
    ]
    parts = [_grid(SHARES, percent=True), _labels(labels)]
    for place, (label, metric) in zip(places, points, strict=True):
        parts.append(_whisker(place, metric, f"{label}: {told(metric)}"))
    description = "; ".join(f"{label} {told(metric)}" for label, metric in points)
    return _svg(name, title, description, parts)


def learning_curve(
    name: str,
    title: str,
    points: Sequence[tuple[int, Metric]],
    curve: Sequence[tuple[int, Metric]],
    *,
    x_title: str,
) -> Markup:
    """Shares over a number, with a fitted curve and its band where there is one."""
    x = axis([float(at) for at, _ in (*points, *curve)], from_zero=True)
    parts = [
        _grid(SHARES, percent=True),
        _labels([(x.share(t), _short(t)) for t in x.ticks]),
        _x_title(x_title),
    ]
    if curve:
        upper = [_point(x.share(at), metric.high) for at, metric in curve]
        lower = [_point(x.share(at), metric.low) for at, metric in reversed(curve)]
        parts.append(f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>')
        middle = " ".join(_point(x.share(at), metric.value) for at, metric in curve)
        parts.append(f'<polyline class="line" points="{middle}"/>')
    parts += [_whisker(x.share(at), metric, f"{at}: {told(metric)}") for at, metric in points]
    return _svg(name, title, "; ".join(f"{at}: {told(metric)}" for at, metric in points), parts)


def line(name: str, title: str, points: Sequence[tuple[int, float]], *, x_title: str) -> Markup:
    """A value over steps."""
    x = axis([float(at) for at, _ in points], from_zero=True)
    y = axis([value for _, value in points])
    drawn = " ".join(_point(x.share(at), y.share(value)) for at, value in points)
    parts = [
        _grid(y),
        _labels([(x.share(t), _short(t)) for t in x.ticks]),
        _x_title(x_title),
        f'<polyline class="line" points="{drawn}"/>',
    ]
    described = ""
    if points:
        (first, start), (last, end) = points[0], points[-1]
        described = f"from {start:.3f} at {first} to {end:.3f} at {last}"
        parts.append(_dot(x.share(last), y.share(end)))
    return _svg(name, title, described, parts)


def told(metric: Metric) -> str:
    """A share with its interval in words."""
    return f"{100 * metric.value:.0f} % ({100 * metric.low:.0f} to {100 * metric.high:.0f}, n = {metric.n})"


def _svg(name: str, title: str, description: str, parts: Sequence[str]) -> Markup:
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{escape(name)}-title {escape(name)}-desc">'
        f'<title id="{escape(name)}-title">{escape(title)}</title>'
        f'<desc id="{escape(name)}-desc">{escape(description)}</desc>'
    )
    # every part is our own: numbers, or text that went through escape()
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704


def _across(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _point(x: float, y: float) -> str:
    return f"{_across(x):.1f},{_up(y):.1f}"


def _grid(y: Axis, *, percent: bool = False) -> str:
    lines = []
    for tick in y.ticks:
        height = _up(y.share(tick))
        label = f"{100 * tick:.0f} %" if percent else _short(tick)
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text class="y" x="{LEFT - 6}" y="{height + 4:.1f}">{label}</text>'
        )
    return "".join(lines)


def _labels(labels: Iterable[tuple[float, str]]) -> str:
    return "".join(
        f'<text class="x" x="{_across(share):.1f}" y="{HEIGHT - BOTTOM + 17}">{escape(label)}</text>'
        for share, label in labels
    )


def _x_title(text: str) -> str:
    return f'<text class="x" x="{_across(0.5):.1f}" y="{HEIGHT - 5}">{escape(text)}</text>'


def _whisker(x: float, metric: Metric, label: str) -> str:
    across = f"{_across(x):.1f}"
    return (
        f'<g class="point"><title>{escape(label)}</title>'
        f'<line class="whisker" x1="{across}" x2="{across}" '
        f'y1="{_up(metric.low):.1f}" y2="{_up(metric.high):.1f}"/>{_dot(x, metric.value)}</g>'
    )


def _dot(x: float, y: float) -> str:
    return f'<circle class="dot" cx="{_across(x):.1f}" cy="{_up(y):.1f}" r="4"/>'


def _short(value: float) -> str:
    """A mark of an axis in as few characters as tell it apart from its neighbours."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 6):g}"
