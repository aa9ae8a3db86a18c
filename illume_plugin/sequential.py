"""Two adapters compared task by task until it is decided: a test that may be looked at at any time. Pure.

For each judged task the outcome is x = share of the challenger's candidates that were ticked minus the active
adapter's share, in [-1, 1]. Somebody who bets on x > 0 with a share l of their wealth on every task has the
wealth W = prod(1 + l x). As long as the mean of x is not above 0, whatever came before, W is a
supermartingale from 1 on, so that it ever reaches 1 / alpha has a probability of at most alpha (J. Ville,
1939). Hence the verdict may fall after any task, without a correction for the looks before it, without a
number of tasks fixed in advance, and without an assumption on how outcomes are distributed. Betting a mixture
of shares makes it unnecessary to know the difference beforehand. (I. Waudby-Smith and A. Ramdas, "Estimating
means of bounded random variables by betting", JRSS-B 86, 2024, arXiv 2010.09686.)

Nothing feeds it yet: candidates of two adapters are not mixed in the stream of tasks so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

#: Shares of the wealth that are bet, each by an equal part of the first wealth: from cautious (small
#: differences, seen late) to bold (large ones, seen soon).
SHARES = tuple(0.01 * 1.5**k for k in range(11))


class Outcome(StrEnum):
    """What is known of the challenger."""

    OPEN = "open"
    BETTER = "better"
    NOT_BETTER = "not better"  # worse, or as many tasks judged as were meant to be


@dataclass(frozen=True, slots=True)
class Limits:
    """When the comparison ends.

    Attributes:
        alpha: largest probability that an adapter that is no better is ever called better; also that one
            that is at least as good is ever called worse.
        most_tasks: judged tasks after which it ends undecided, and the active adapter stays.
    """

    alpha: float = 0.05
    most_tasks: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.most_tasks < 1:
            raise ValueError(f"alpha must be in (0, 1) and most_tasks at least 1, not {self}.")


@dataclass(slots=True)
class Comparison:
    """The comparison so far; the first verdict stays.

    Attributes:
        tasks: tasks judged.
        total: sum of their outcomes.
    """

    limits: Limits = field(default_factory=Limits)
    tasks: int = 0
    total: float = 0.0
    outcome: Outcome = Outcome.OPEN
    _for: list[float] = field(default_factory=lambda: [0.0] * len(SHARES))
    _against: list[float] = field(default_factory=lambda: [0.0] * len(SHARES))

    def add(self, difference: float) -> Outcome:
        """Take in one judged task; returns what is known now. After a verdict nothing changes it.

        Args:
            difference: ticked share of the challenger's candidates minus the active adapter's, of one task.

        Raises:
            ValueError: it is not in [-1, 1].
        """
        if not -1 <= difference <= 1:
            raise ValueError(f"A difference of two shares is in [-1, 1], not {difference!r}.")
        if self.outcome is not Outcome.OPEN:
            return self.outcome
        self.tasks += 1
        self.total += difference
        for k, share in enumerate(SHARES):
            self._for[k] += math.log1p(share * difference)
            self._against[k] += math.log1p(-share * difference)
        enough = math.log(1 / self.limits.alpha)
        if _log_mean(self._for) >= enough:
            self.outcome = Outcome.BETTER
        elif _log_mean(self._against) >= enough or self.tasks >= self.limits.most_tasks:
            self.outcome = Outcome.NOT_BETTER
        return self.outcome

    @property
    def mean(self) -> float:
        """Mean difference of the tick rates so far; 0 before the first task."""
        return self.total / self.tasks if self.tasks else 0.0


def compare(differences: Iterable[float], limits: Limits | None = None) -> Comparison:
    """The comparison of a whole series, in its order; see `Comparison.add`."""
    found = Comparison(limits or Limits())
    for difference in differences:
        found.add(difference)
    return found


def _log_mean(logs: list[float]) -> float:
    """Logarithm of the mean of the exponentials."""
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))
