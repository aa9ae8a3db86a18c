"""CSR's automatic choice (arXiv 2405.14622) on tasks nobody has judged, and whether people would choose so.

A candidate's calibrated rank says what the model and the image-text encoder make of it. The choice between a
task's best and worst rank becomes a pair only while it agrees with people where they have judged (ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from illume_plugin.identity import wording
from illume_plugin.types import CandidateSet
from illume_plugin.votes import TaskVotes, Votes

#: Share of judged automatic choices that must agree with people.
AGREEMENT_GATE = 0.65
#: Fewer judged choices say too little: with 20, a coin passes the gate one time in seven.
GATE_MINIMUM = 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often automatic and human choice agree.

    Attributes:
        agreeing: automatic choices that people made, too.
        compared: automatic choices where people prefer one of the two.
    """

    agreeing: int
    compared: int

    @property
    def share(self) -> float:
        """In [0, 1]; 0 where nothing was compared."""
        return self.agreeing / self.compared if self.compared else 0.0

    def passes(self, gate: float = AGREEMENT_GATE, minimum: int = GATE_MINIMUM) -> bool:
        """Whether automatic choices may be trusted where nobody has judged."""
        return self.compared >= minimum and self.share >= gate


def extremes(candidate_set: CandidateSet) -> tuple[str, str] | None:
    """The texts of best and worst calibrated rank; None where not two candidates have different ranks.

    Of a trial's set only what its own version wrote competes: the ranks of two adapters have no common scale.
    """
    ranked = [(each.rank, each.text) for each in candidate_set.own if each.rank is not None]
    if not ranked:
        return None
    best = min(ranked, key=lambda each: (-each[0], each[1]))
    worst = min(ranked)
    return (best[1], worst[1]) if best[0] > worst[0] else None


def agreement(candidate_sets: Iterable[CandidateSet], votes: Mapping[int, TaskVotes]) -> Agreement:
    """Compare the automatic choice on each judged candidate set with what people said of the same two.

    A choice between two that both fit, or both do not, or that were not judged, is no comparison.

    Args:
        candidate_sets: the latest batch that people have judged, and any others.
        votes: task id -> wording -> votes.
    """
    agreeing = compared = 0
    for each in candidate_sets:
        ends = extremes(each)
        of_task = votes.get(each.task_id, {})
        if ends is None:
            continue
        best, worst = (of_task.get(wording(text), Votes()) for text in ends)
        compared += (best.accepted and worst.refused) or (best.refused and worst.accepted)
        agreeing += best.accepted and worst.refused
    return Agreement(agreeing, compared)
