"""A figure of a benchmark: timed in turns with its peer, in the form in which it is written and told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

#: Seconds on the wall count; processor seconds tell more where other programs take turns.
CLOCKS = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}
Times = dict[str, float]
#: Does its work once and says what it took.
Timed = Callable[[], Times]
Figure = dict[str, Any]
#: What one repeat tells.
Measured = TypeVar("Measured")


class LeftOutError(Exception):
    """A figure that cannot be measured here; the message says what is missing and how to get it."""


def clocked(work: Callable[[], object]) -> Timed:
    """`work` with a stop watch of each kind."""

    def timed() -> Times:
        before = {name: clock() for name, clock in CLOCKS.items()}
        work()
        return {name: clock() - before[name] for name, clock in CLOCKS.items()}

    return timed


def in_turns(
    peer: Callable[[], Measured], ours: Callable[[], Measured], repeats: int
) -> tuple[list[Measured], list[Measured]]:
    """What each takes in every repeat, after one that is not counted; who goes first changes."""
    times: dict[Callable[[], Measured], list[Measured]] = {peer: [], ours: []}
    for repeat in range(repeats + 1):
        for work in (peer, ours) if repeat % 2 else (ours, peer):
            times[work].append(work())
    return times[peer][1:], times[ours][1:]


def ratio(peers: Sequence[Times], own: Sequence[Times], *, goal: float, detail: dict[str, Any]) -> Figure:
    """The peer's seconds over ours, repeat by repeat, with both clocks' readings in the detail."""
    detail = {**detail}
    for clock in CLOCKS:
        detail[f"peer_{clock}"] = [one[clock] for one in peers]
        detail[f"our_{clock}"] = [one[clock] for one in own]
    pairs = zip(peers, own, strict=True)
    return figure([a["seconds"] / b["seconds"] for a, b in pairs], goal=goal, detail=detail)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed: one of them, never one between two."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figure(
    values: Sequence[float], *, goal: float, detail: dict[str, Any], higher_is_better: bool = True
) -> Figure:
    """One figure as it is written: what was measured, in the unit of its goal."""
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "goal": goal,
        "higher_is_better": higher_is_better,
        "detail": detail,
    }


def reached(one: Figure) -> bool:
    """Whether the median meets the goal."""
    better = one["median"] >= one["goal"] if one["higher_is_better"] else one["median"] <= one["goal"]
    return bool(better)


def line(name: str, one: Figure) -> str:
    """One figure for the terminal, with as much of its detail as there is."""
    detail = one["detail"]
    numbers = " ".join(f"{one[key]:7.2f}" for key in ("median", "min", "max"))
    sign = ">=" if one["higher_is_better"] else "<="
    parts = [f"{name:9} {numbers}  n = {one['n']}  goal {sign} {one['goal']:g}"]
    parts += [
        f"{clock} {median(detail[f'peer_{clock}']):.2f} / {median(detail[f'our_{clock}']):.2f}"
        for clock in CLOCKS
        if f"peer_{clock}" in detail and f"our_{clock}" in detail
    ]
    parts += [str(detail[key]) for key in ("mode", "told") if key in detail]
    return "  ".join(parts)
