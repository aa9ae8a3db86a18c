"""Whether rationales are ticked for where they stand on the screen.

Candidates are shown in a shuffled order, so without bias every row of a task is ticked as often as any
other. What is tested is that, given how many of its rows were ticked in each annotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Pivots below this are rounding.
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Blocks:
    """Annotations alike in size: each had `rows` candidates, of which `ticked` were ticked.

    Attributes:
        annotations: how many there are.
        ticks: how often the first, second, ... row was ticked, all of them together; `rows` numbers.
    """

    rows: int
    ticked: int
    annotations: int
    ticks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the screen: how often it was shown and ticked."""

    position: int
    shown: int
    ticked: int

    @property
    def rate(self) -> float:
        """Share of times it was ticked."""
        return self.ticked / self.shown if self.shown else 0.0


@dataclass(frozen=True, slots=True)
class PositionTest:
    """Tick rates by row and the test of their equality.

    Attributes:
        annotations: how many were looked at.
        statistic: chi-squared distributed with `degrees` degrees of freedom where there is no bias.
        p: probability of a statistic at least as large without bias; None where nothing can be tested.
    """

    rows: tuple[Row, ...]
    annotations: int
    statistic: float
    degrees: int
    p: float | None


def position_test(blocks: Sequence[Blocks]) -> PositionTest:
    """Test whether the row matters, by the stratified (generalised Cochran-Mantel-Haenszel) test.

    Each annotation is a stratum; where all have the same number of rows this is Cochran's Q
    (Biometrika 37, 1950).
    """
    width = max((block.rows for block in blocks), default=0)
    surplus = [0.0] * width
    covariance = [[0.0] * width for _ in range(width)]
    for block in blocks:
        _add(block, surplus, covariance)
    statistic, degrees = _quadratic_form(surplus, covariance)
    return PositionTest(
        rows=tuple(_row(position, blocks) for position in range(1, width + 1)),
        annotations=sum(block.annotations for block in blocks),
        statistic=statistic,
        degrees=degrees,
        p=chi_squared_tail(statistic, degrees) if degrees else None,
    )


def _row(position: int, blocks: Sequence[Blocks]) -> Row:
    reaching = [block for block in blocks if block.rows >= position]
    return Row(
        position,
        sum(block.annotations for block in reaching),
        sum(block.ticks[position - 1] for block in reaching),
    )


def _add(block: Blocks, surplus: list[float], covariance: list[list[float]]) -> None:
    """Ticks beyond the expected ones, and their covariance when `ticked` rows are drawn at random."""
    m, t = block.rows, block.ticked
    if m < 2:
        return
    scale = block.annotations * t * (m - t) / (m * m * (m - 1))
    for i in range(m):
        surplus[i] += block.ticks[i] - block.annotations * t / m
        for j in range(m):
            covariance[i][j] += scale * (m * (i == j) - 1)


def _quadratic_form(surplus: Sequence[float], covariance: Sequence[Sequence[float]]) -> tuple[float, int]:
    """d' C^- d and the rank of C, by elimination that leaves out rows which say nothing new."""
    n = len(surplus)
    rows = [[*covariance[i], surplus[i]] for i in range(n)]
    largest = max((abs(rows[i][i]) for i in range(n)), default=0.0)
    statistic, rank = 0.0, 0
    for i in range(n):
        pivot = rows[i][i]
        if pivot <= _TINY * largest or not largest:
            continue
        statistic += rows[i][n] ** 2 / pivot
        rank += 1
        for k in range(i + 1, n):
            factor = rows[k][i] / pivot
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return statistic, rank


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """Probability that a chi-squared variable with `degrees` degrees of freedom is at least `statistic`.

    Exact for whole degrees: the regularised upper incomplete gamma function by its recurrence.
    """
    x = max(0.0, statistic) / 2
    if x == 0.0:
        return 1.0
    odd = degrees % 2
    tail = math.erfc(math.sqrt(x)) if odd else math.exp(-x)
    a = 0.5 if odd else 1.0
    while a < degrees / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, tail)
