"""Accepted rationales weighed by what they owe to the picture: content relevance (i2c) against its median.

C3L (arXiv 2405.12752) chooses data by i2c; that it weighs the rationales of ILLUME's loss is ours. A
rationale counts clip(i2c / median, 0.5, 2) times, the median running over the accepted rationales that have
one; the others (a person wrote them, or candidates are not scored blindly) count once. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from illume_plugin.types import TrainingRow

#: Least and most that a rationale counts for what it owes to the picture.
LEAST, MOST = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class ContentWeights:
    """How a training set's accepted rationales are weighed by content.

    Attributes:
        median: i2c in the middle, in nats; 0 where none has one, and nothing is weighed then.
        known: accepted rationales that have an i2c.
        accepted: of so many.
    """

    median: float
    known: int
    accepted: int

    @classmethod
    def of(cls, rows: Sequence[TrainingRow]) -> ContentWeights:
        """Those of these rows."""
        accepted = [row for row in rows if row.rationale is not None]
        found = list(_known(accepted))
        return cls(median(found) if found else 0.0, len(found), len(accepted))

    def weight(self, i2c: float | None) -> float:
        """How often a rationale counts, from 0.5 to 2; 1 where nothing can be said."""
        if i2c is None or not math.isfinite(i2c) or self.median <= 0:
            return 1.0
        return min(max(i2c / self.median, LEAST), MOST)


def weighed_by_content(rows: Sequence[TrainingRow]) -> list[TrainingRow]:
    """The rows, each accepted rationale's weight times what it counts for its content."""
    weights = ContentWeights.of(rows)
    return [
        row if row.rationale is None else replace(row, weight=row.weight * weights.weight(row.i2c))
        for row in rows
    ]


def _known(rows: Iterable[TrainingRow]) -> Iterator[float]:
    return (row.i2c for row in rows if row.i2c is not None and math.isfinite(row.i2c))
