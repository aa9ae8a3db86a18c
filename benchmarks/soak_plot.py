"""The course of the memory as SVG text, with the line through it; readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from memory_line import WARM_UP, Line

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 44

_STYLE = """
  svg { --paper: #ffffff; --ink: #1f2328; --faint: #d8dee4; --a: #0969da; --b: #9a6700; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --ink: #e6edf3; --faint: #30363d; --a: #58a6ff; --b: #d29922; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); }
"""


def plot(points: Sequence[tuple[float, float]], line: Line, title: str) -> str:
    """An SVG document.

    Args:
        points: (minutes, MiB) of every look.
        line: through those after the warm-up, in MiB over hours.
    """
    last, top = points[-1][0], 1.15 * max(memory for _, memory in points)

    def at(minutes: float, memory: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * minutes / last
        return f"{x:.1f},{TOP + (HEIGHT - TOP - BOTTOM) * (1 - memory / top):.1f}"

    def stroke(ends: Sequence[tuple[float, float]], color: str, width: float) -> str:
        path = " ".join(at(*end) for end in ends)
        return f'<polyline points="{path}" fill="none" stroke="var(--{color})" stroke-width="{width}"/>'

    first = points[int(len(points) * WARM_UP)][0]
    fit = [(minutes, line.at(minutes / 60)) for minutes in (first, last)]
    rows = [stroke([(0, share * top), (last, share * top)], "faint", 1) for share in (0, 0.25, 0.5, 0.75)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>',
            f'<text x="{LEFT}" y="24" font-weight="600">{escape(title)}</text>',
            *rows,
            *(_label(share * top, top) for share in (0, 0.25, 0.5, 0.75)),
            stroke(points, "a", 1.5),
            stroke(fit, "b", 2.5),
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{last:.0f} minutes</text>',
            "</svg>",
            "",
        ]
    )


def _label(memory: float, top: float) -> str:
    y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - memory / top)
    return f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{memory:.0f} MiB</text>'
