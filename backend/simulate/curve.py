"""A learning curve with interval bands as SVG text: no plotting library, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from illume_plugin.types import Metric

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 58, 150, 52, 50

_STYLE = """
  svg { --paper: #ffffff; --ink: #1f2328; --faint: #d8dee4; --a: #0969da; --b: #9a6700; --c: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --ink: #e6edf3; --faint: #30363d; --a: #58a6ff; --b: #d29922; --c: #bc8cff; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 15px; font-weight: 600; }
  .grid { stroke: var(--faint); stroke-width: 1; }
  .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
  .band { opacity: .16; stroke: none; }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name and its value, from 0 to 1, at each tick of the x axis."""

    name: str
    metrics: Sequence[Metric]


def curve(title: str, ticks: Sequence[str], series: Sequence[Series], *, note: str = "") -> str:
    """An SVG document; at most three series, each with one metric per tick; `note` is a line below the title.

    Raises:
        ValueError: a series is of another length than the ticks, or there are more than three.
    """
    if len(series) > 3 or any(len(one.metrics) != len(ticks) for one in series):
        raise ValueError(f"{len(series)} series do not fit {len(ticks)} ticks.")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>',
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
        f'<text x="{LEFT}" y="43">{escape(note)}</text>',
        *_axes(ticks),
    ]
    heights = _label_heights([one.metrics[-1].value for one in series])
    drawn = list(zip(series, ("var(--a)", "var(--b)", "var(--c)"), heights, strict=False))
    parts += [_band(one, color) for one, color, _ in drawn]
    for one, color, height in reversed(drawn):  # the first one lies on top
        parts += _line(one, color, height)
    return "\n".join([*parts, "</svg>", ""])


def _axes(ticks: Sequence[str]) -> list[str]:
    end = WIDTH - RIGHT
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for place, tick in enumerate(ticks):
        x = _x(place, len(ticks))
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(tick)}</text>'
        )
    middle = (LEFT + end) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">iteration</text>')
    return parts


def _band(series: Series, color: str) -> str:
    points = _points(series)
    upper = [f"{x:.1f},{_y(metric.high):.1f}" for x, metric in points]
    lower = [f"{x:.1f},{_y(metric.low):.1f}" for x, metric in reversed(points)]
    return f'<polygon class="band" points="{" ".join([*upper, *lower])}" fill="{color}"/>'


def _line(series: Series, color: str, label_y: float) -> list[str]:
    points = _points(series)
    middle = " ".join(f"{x:.1f},{_y(metric.value):.1f}" for x, metric in points)
    dots = [
        f'<circle cx="{x:.1f}" cy="{_y(metric.value):.1f}" r="3.5" fill="{color}">'
        f"<title>{escape(series.name)}: {_in_words(metric)}</title></circle>"
        for x, metric in points
    ]
    return [
        f'<polyline class="line" points="{middle}" stroke="{color}"/>',
        *dots,
        f'<text x="{WIDTH - RIGHT + 12}" y="{label_y + 4:.1f}" style="fill: {color}">'
        f"{escape(series.name)} {100 * series.metrics[-1].value:.0f} %</text>",
    ]


def _points(series: Series) -> list[tuple[float, Metric]]:
    return [(_x(place, len(series.metrics)), metric) for place, metric in enumerate(series.metrics)]


def _in_words(metric: Metric) -> str:
    return f"{metric.value:.1%} ({metric.low:.1%} to {metric.high:.1%}, n = {metric.n})"


def _label_heights(values: Sequence[float]) -> list[float]:
    """Where the names stand: at the lines' ends, moved apart where they would touch."""
    order = sorted(range(len(values)), key=lambda place: _y(values[place]))
    heights, free = [0.0] * len(values), 0.0
    for place in order:
        heights[place] = max(_y(values[place]), free)
        free = heights[place] + 18
    return heights


def _x(place: int, n: int) -> float:
    return LEFT + 24 + (WIDTH - LEFT - RIGHT - 48) * (place / (n - 1) if n > 1 else 0.5)


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value)
