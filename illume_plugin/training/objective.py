"""What a run minimises: objectives that are each given the rows' log-probabilities, and ILLUME's as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from illume_plugin.training.logps import RowLogps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objectives.illume import illume_loss, token_counts
from illume_plugin.training.objectives.shares import Statistics


class Objective(Protocol):
    """One term of the loss.

    Means run over the whole optimiser step, not over a micro-batch, so that how a step is split changes
    nothing, and a micro-batch with nothing to count is no division by zero.

    Attributes:
        name: as it is told in the progress.
        wants_hidden: whether `RowLogps.hidden` is needed.
    """

    @property
    def name(self) -> str:
        """As it is told in the progress."""
        ...

    @property
    def wants_hidden(self) -> bool:
        """Whether `RowLogps.hidden` is needed."""
        ...

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """What a micro-batch adds to the step's totals."""
        ...

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share of the step's loss and statistics.

        Args:
            totals: `counts` summed over the step, all processes together.
        """
        ...


@dataclass(frozen=True, slots=True)
class IllumeObjective:
    """ILLUME's mixed loss (arXiv 2208.08241); see `objectives.illume`.

    Attributes:
        w: weight of the rationale loss, as `TrainConfig.w` gives it.
    """

    w: float
    name: str = "illume"
    wants_hidden: bool = False

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """Answer tokens and weighted rationale tokens; shape (2,)."""
        return token_counts(batch.answer_mask, batch.rationale_mask, batch.weights)

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in nats."""
        return illume_loss(
            found.values, batch.answer_mask, batch.rationale_mask, batch.weights, totals=totals, w=self.w
        )
