"""How much evidence a new adapter needs before it may serve, and how much worse is too much; from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from illume_plugin.errors import SettingsError
from illume_plugin.sequential import Limits
from illume_plugin.types import GateDecision, GateVerdict


@dataclass(frozen=True, slots=True)
class BlindPolicy:
    """Whether people have the last word: the table `[blind]` of a policy file.

    Attributes:
        enabled: what the gate lets through goes on trial instead of serving at once.
        held: so does what the gate holds back for nothing but a lack of evidence.
        alpha, most_tasks: when a trial ends; see `sequential.Limits`.
    """

    enabled: bool = False
    held: bool = False
    alpha: float = 0.05
    most_tasks: int = 1000

    @property
    def limits(self) -> Limits:
        """When a trial ends.

        Raises:
            ValueError: they cannot be.
        """
        return Limits(self.alpha, self.most_tasks)

    def tries(self, decision: GateDecision) -> bool:
        """Whether a version of which the gate said this goes on trial."""
        let_through = decision.verdict is GateVerdict.PROMOTE
        return self.enabled and (let_through or (self.held and decision.thin))


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
        blind: whether people have the last word.
    """

    alpha: float = 0.05
    least_items: int = 5
    above_chance: bool = True
    answer_drop: float = 0.01
    answer_drop_items: int = 100
    diversity_kept: float = 0.5
    blind: BlindPolicy = field(default_factory=BlindPolicy)


def parse_policy(text: str) -> GatePolicy:
    """The policy in a TOML document.

    Raises:
        SettingsError: it is not TOML, or names every limit that is unknown or has a value it cannot have.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The gate policy is not TOML: {error}.", todo="Correct that line.") from error
    blind = given.pop("blind", {})
    problems = _problems(GatePolicy, given)
    problems += _problems(BlindPolicy, blind) if isinstance(blind, dict) else [_no_table(blind)]
    problems += [] if problems else _contradictions(blind)
    if problems:
        raise SettingsError(
            " ".join(problems), todo="Correct the gate policy; docs/evidence.md lists its limits."
        )
    return GatePolicy(**given, blind=BlindPolicy(**blind))


def _no_table(blind: Any) -> str:
    return f"blind of the gate policy is {blind!r}; it must be a table: [blind]."


def _contradictions(blind: Mapping[str, Any]) -> list[str]:
    """Values of the table [blind] that are numbers of the right kind and still cannot be."""
    try:
        _ = BlindPolicy(**blind).limits
    except ValueError as error:
        return [f"[blind] of the gate policy: {error}"]
    return []


def _problems(policy: type[GatePolicy | BlindPolicy], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the lines of a policy or of its table."""
    defaults = {each.name: each.default for each in fields(policy) if each.name != "blind"}
    return [problem for name, value in given.items() if (problem := _problem(defaults, name, value))]


def _problem(defaults: Mapping[str, Any], name: str, value: Any) -> str:
    """What is wrong with one line of a policy; empty where nothing is."""
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
