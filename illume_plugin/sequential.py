"""Two adapters compared task by task until it is decided: a test that may be looked at at any time. Pure.

For each judged task the outcome is x = share of the challenger's candidates that were ticked minus the active
adapter's share, in [-1, 1]. Somebody who bets on x > 0 with a share l of their wealth on every task has the
wealth W = prod(1 + l x). As long as the mean of x is not above 0, whatever came before, W is a
supermartingale from 1 on, so that it ever reaches 1 / alpha has a probability of at most alpha (J. Ville,
1939). Hence the verdict may fall after any task, without a correction for the looks before it, without a
number of tasks fixed in advance, and without an assumption on how outcomes are distributed. Betting a mixture
of shares makes it unnecessary to know the difference beforehand. (I. Waudby-Smith and A. Ramdas, "Estimating
means of bounded random variables by betting", JRSS-B 86, 2024, arXiv 2010.09686.)

`trials` feeds it with what people ticked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

#: Shares of the wealth that are bet, each by an equal part of the first wealth: from cautious (small
#: differences, seen late) to bold (large ones, seen soon).
SHARES = tuple(0.01 * 1.5**k for k in range(11))

#: Tasks below which nobody foretells how many more it takes.
_FEW = 10
#: Halvings of the search for an end of the interval: to 2e-6.
_HALVINGS = 20


class Outcome(StrEnum):
    """What is known of the challenger."""

    OPEN = "open"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"  # as many tasks judged as were meant to be, and it is neither


@dataclass(frozen=True, slots=True)
class Limits:
    """When the comparison ends.

    Attributes:
        alpha: largest probability that an adapter that is no better is ever called better; also that one
            that is at least as good is ever called worse.
        most_tasks: judged tasks after which it ends undecided, and the active adapter stays.

    Raises:
        ValueError: they cannot be.
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
        if _log_mean(self._for) >= self._enough:
            self.outcome = Outcome.BETTER
        elif _log_mean(self._against) >= self._enough:
            self.outcome = Outcome.WORSE
        elif self.tasks >= self.limits.most_tasks:
            self.outcome = Outcome.UNDECIDED
        return self.outcome

    @property
    def mean(self) -> float:
        """Mean difference of the tick rates so far; 0 before the first task."""
        return self.total / self.tasks if self.tasks else 0.0

    @property
    def expected(self) -> int | None:
        """Tasks still to be judged if the next ones are like these; None where that is too early to say.

        The wealth of the best bet so far is taken to go on growing at its mean rate.
        """
        if self.outcome is not Outcome.OPEN:
            return 0
        if self.tasks < _FEW:
            return None
        left = self.limits.most_tasks - self.tasks
        rate = max(*self._for, *self._against) / self.tasks
        lacking = self._enough - max(_log_mean(self._for), _log_mean(self._against))
        return left if rate <= 0 else min(left, math.ceil(lacking / rate))

    @property
    def _enough(self) -> float:
        return math.log(1 / self.limits.alpha)


def compare(differences: Iterable[float], limits: Limits | None = None) -> Comparison:
    """The comparison of a whole series, in its order; see `Comparison.add`."""
    found = Comparison(limits or Limits())
    for difference in differences:
        found.add(difference)
    return found


def interval(differences: Sequence[float], alpha: float) -> tuple[float, float]:
    """(low, high) of the mean difference, at level 1 - 2 alpha at all times together.

    Each end is where the same bet, made on a mean of m and not of 0, would have won 1 / alpha: the adapter is
    better exactly where the interval has left 0 below it. However often one looks, all intervals of the
    series hold the true mean with that probability. (-1, 1) before the first task.
    """
    return _lowest(differences, alpha), -_lowest([-each for each in differences], alpha)


def _lowest(differences: Sequence[float], alpha: float) -> float:
    """The largest m of which it is refuted that the mean is no larger, found by halving."""
    low, high, enough = -1.0, 1.0, math.log(1 / alpha)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # (x - m) / (1 + m) is at least -1, like a difference, and falls as m grows
        scaled = [(x - middle) / (1 + middle) for x in differences]
        wealth = _log_mean([sum(math.log1p(share * each) for each in scaled) for share in SHARES])
        low, high = (middle, high) if wealth >= enough else (low, middle)
    return low


def _log_mean(logs: list[float]) -> float:
    """Logarithm of the mean of the exponentials."""
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))
