"""How much evidence a new adapter needs before it may serve, and how much worse is too much; from TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from typing import Any

from illume_plugin.errors import SettingsError


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """The limits of the gate; a policy file names those that differ from these defaults.

    Attributes:
        alpha: level of every test: a metric is worse where chance alone would do this with a probability
            below `alpha`, and better than chance likewise.
        least_items: held-out tasks with judged rationales of both kinds that preference accuracy must have
            been measured on. The default is the smallest number from which the sign test can object at all:
            five changes, all for the worse, have p = 1/32. 0: none are needed.
        above_chance: the new adapter must score what people ticked above what they did not in more held-out
            tasks than a coin would. An adapter that learnt from ticks without a meaning cannot.
        answer_drop: largest fall of answer accuracy (share, 0.01 = one point) that is let through, judged by
            the two measured shares, not by their intervals,
        answer_drop_items: from this many held-out tasks on; below, one task is too much of a share, and the
            sign test alone decides.
        diversity_kept: the samples of one task have collapsed where the share of different ones is below
            this part of the active adapter's, and the fall is beyond chance.
    """

    alpha: float = 0.05
    least_items: int = 5
    above_chance: bool = True
    answer_drop: float = 0.01
    answer_drop_items: int = 100
    diversity_kept: float = 0.5


def parse_policy(text: str) -> GatePolicy:
    """The policy in a TOML document.

    Raises:
        SettingsError: it is not TOML, or names every limit that is unknown or has a value it cannot have.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The gate policy is not TOML: {error}.", todo="Correct that line.") from error
    problems = [problem for name, value in given.items() if (problem := _problem(name, value))]
    if problems:
        raise SettingsError(
            " ".join(problems), todo="Correct the gate policy; docs/evidence.md lists its limits."
        )
    return GatePolicy(**given)


def _problem(name: str, value: Any) -> str:
    """What is wrong with one line of a policy; empty where nothing is."""
    defaults = {each.name: each.default for each in fields(GatePolicy)}
    if name not in defaults:
        return f"The gate has no limit {name!r}."
    wanted = _wanted(defaults[name], value)
    return f"{name} of the gate policy is {value!r}; it must be {wanted}." if wanted else ""


def _wanted(default: Any, value: Any) -> str:
    """What a value in the place of `default` must be; empty where it is."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, int):
        return "" if number and isinstance(value, int) and value >= 0 else "a whole number, at least 0"
    return "" if number and 0 <= value <= 1 else "a number from 0 to 1"
