"""Keeping the epoch whose adapter is best on held-out tasks; those tasks are then not reported on.

Choosing among epochs by the tasks that the gate compares on would favour the new adapter: of several noisy
figures the highest is too high. So the choice has tasks of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from illume_plugin.errors import RunError
from illume_plugin.identity import content_bits
from illume_plugin.types import EvaluationReport, JudgedTask

#: One in so many held-out tasks is for choosing the epoch.
ONE_IN = 3
#: Judged tasks that a choice needs.
JUDGED_NEEDED = 5
#: What an epoch is judged by; each breaks the ties of those before it.
BY = ("preference_accuracy", "fit_logprob", "answer_accuracy")


@dataclass
class BestEpoch:
    """The best epoch so far.

    Attributes:
        epoch: counted from 1; 0: there was none yet.
        score: see `score_of`.
        weights: what was trained, as it was then.
    """

    epoch: int = 0
    score: list[float] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, score: Sequence[float], weights: dict[str, torch.Tensor]) -> None:
        """Take an epoch that is better than those before it."""
        if not self.epoch or list(score) > self.score:
            self.epoch, self.score = epoch, list(score)
            self.weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def facts(self) -> dict[str, Any]:
        """Epoch and score as JSON."""
        return {"epoch": self.epoch, "score": self.score}


def score_of(report: EvaluationReport) -> list[float]:
    """The figures that epochs are compared by, the first that counts first."""
    return [report.metrics[name].value for name in BY if name in report.metrics]


def split_held_out(held_out: Sequence[JudgedTask]) -> tuple[list[JudgedTask], list[JudgedTask]]:
    """(tasks for choosing the epoch, tasks for the report), the same in every run.

    Raises:
        RunError: too few of the first are judged.
    """
    choosing = [task for task in held_out if _chooses(task)]
    judged = sum(bool(task.fits or task.unfits) for task in choosing)
    if judged < JUDGED_NEEDED:
        raise RunError(
            f"best_epoch is on, and {judged} of the {len(choosing)} held-out tasks for choosing are judged.",
            why=f"With fewer than {JUDGED_NEEDED} the choice would be chance.",
            todo="Judge more tasks, or train without best_epoch.",
        )
    return choosing, [task for task in held_out if not _chooses(task)]


def _chooses(task: JudgedTask) -> bool:
    return content_bits(["best epoch", task.image, task.question, task.answer]) % ONE_IN == 0
