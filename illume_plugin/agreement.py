"""How well annotators agree on the rationales that several of them judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from illume_plugin.intervals import student_t95
from illume_plugin.types import Metric

#: (annotators who judged a rationale, how many of them ticked it)
Votes = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Sums:
    """What Krippendorff's alpha of yes/no verdicts is made of; sums over tasks can be taken away."""

    verdicts: int = 0
    ticks: int = 0
    disagreement: float = 0.0

    def without(self, other: _Sums) -> _Sums:
        return _Sums(
            self.verdicts - other.verdicts, self.ticks - other.ticks, self.disagreement - other.disagreement
        )

    def alpha(self) -> float | None:
        expected = 2.0 * self.ticks * (self.verdicts - self.ticks)
        if not expected:
            return None  # everybody said the same of everything: there was nothing to disagree about
        return 1.0 - self.disagreement * (self.verdicts - 1) / expected


def _sums(votes: Sequence[Votes]) -> _Sums:
    several = [(m, t) for m, t in votes if m > 1]
    return _Sums(
        verdicts=sum(m for m, _ in several),
        ticks=sum(t for _, t in several),
        disagreement=sum(2.0 * t * (m - t) / (m - 1) for m, t in several),
    )


def krippendorff_alpha(tasks: Sequence[Sequence[Votes]]) -> Metric | None:
    """Krippendorff's alpha of ticks (nominal; Content Analysis, 2004), with its 95 % interval.

    1 is full agreement, 0 is what chance gives, less is disagreement in kind. The interval is the
    delete-one-task jackknife's, because verdicts on the rationales of one task hang together.

    Args:
        tasks: of each task, the votes on each of its rationales; those of one annotator alone do not count.

    Returns:
        None where no rationale was judged by two people, or where nobody ever differed in anything.
        `n` counts the tasks; with one task alone the interval is [-1, 1].
    """
    each = [sums for votes in tasks if (sums := _sums(votes)).verdicts]
    total = _Sums(
        sum(s.verdicts for s in each), sum(s.ticks for s in each), sum(s.disagreement for s in each)
    )
    value = total.alpha()
    if value is None:
        return None
    left_out = [alpha for sums in each if (alpha := total.without(sums).alpha()) is not None]
    half = _jackknife_half(left_out)
    return Metric(value, max(min(-1.0, value), value - half), min(1.0, value + half), len(each))


def _jackknife_half(left_out: Sequence[float]) -> float:
    n = len(left_out)
    if n < 2:
        return 2.0
    mean = sum(left_out) / n
    return float(student_t95(n - 1) * ((n - 1) / n * sum((a - mean) ** 2 for a in left_out)) ** 0.5)


def pairwise_agreement(tasks: Sequence[Sequence[Votes]]) -> float | None:
    """Share of pairs of annotators who said the same of the same rationale; None where there is no pair."""
    pairs = agreed = 0
    for votes in tasks:
        for m, t in votes:
            pairs += m * (m - 1) // 2
            agreed += (t * (t - 1) + (m - t) * (m - t - 1)) // 2
    return agreed / pairs if pairs else None
