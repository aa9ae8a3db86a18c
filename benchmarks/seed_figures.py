"""Figures over seeds, in the form in which they are written, and their tables for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from illume_plugin.intervals import of_mean


def over_seeds(values: Mapping[int, float], *, goal: float, what: str) -> dict[str, Any]:
    """One figure from its value with each seed; more is better."""
    mean = of_mean(list(values.values()))
    known = mean.n > 1  # one seed has no interval, and JSON has no infinity
    detail = {
        "what": what,
        "seeds": dict(values),
        "mean": mean.value,
        "low": mean.low if known else None,
        "high": mean.high if known else None,
    }
    return {
        "median": median(values.values()),
        "min": min(values.values()),
        "max": max(values.values()),
        "n": len(values),
        "goal": goal,
        "higher_is_better": True,
        "detail": detail,
    }


def goals(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a table."""
    rows = [
        (
            name,
            one["detail"]["what"],
            _mean(one),
            f"{one['min']:.3f} to {one['max']:.3f}",
            f"{one['goal']:.2f}",
            _verdict(one),
        )
        for name, one in figures.items()
    ]
    return table(("", "what", "mean", "range over seeds", "goal", "reached"), rows)


def _verdict(figure: Mapping[str, Any]) -> str:
    """Whether the median seed meets the goal, and whether other seeds might say otherwise."""
    said = "yes" if reached(figure) else "**no**"
    low, high = figure["detail"]["low"], figure["detail"]["high"]
    open_ = low is not None and low < figure["goal"] <= high
    return f"{said}, not surely" if open_ else said


def losses(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures that miss their goals, in a sentence."""
    lost = [f"{one['detail']['what']} ({name})" for name, one in figures.items() if not reached(one)]
    return f"Not reached: {'; '.join(lost)}." if lost else "All goals are reached by the median seed."


def reached(figure: Mapping[str, Any]) -> bool:
    """Whether the median seed meets the goal."""
    return bool(figure["median"] >= figure["goal"])


def mean_of(values: Iterable[float]) -> str:
    """A mean over seeds with its interval."""
    mean = of_mean(list(values))
    if mean.n == 1:
        return f"{mean.value:.3f}"
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def _mean(figure: Mapping[str, Any]) -> str:
    detail = figure["detail"]
    if detail["low"] is None:
        return f"{detail['mean']:.3f}"
    return f"{detail['mean']:.3f} [{detail['low']:.3f}, {detail['high']:.3f}]"
