"""What a run minimises: objectives, each given the rows' log-probabilities; two of them, and what all are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.logps import RowLogps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objectives.dress import dress_loss
from illume_plugin.training.objectives.illume import illume_loss, token_counts
from illume_plugin.training.objectives.shares import Statistics
from illume_plugin.training.terms import Term


class Objective(Protocol):
    """One part of the loss.

    Means run over the whole optimiser step, not over a micro-batch, so that how a step is split changes
    nothing, and a micro-batch with nothing to count is no division by zero.

    Attributes:
        name: as it is told in the progress.
        weight: of its loss in the sum.
        wants_hidden: whether `RowLogps.hidden` is needed.
    """

    @property
    def name(self) -> str:
        """As it is told in the progress."""
        ...

    @property
    def weight(self) -> float:
        """Of its loss in the sum."""
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
        """The micro-batch's share of the step's loss, not weighted, and of its statistics.

        Args:
            totals: `counts` summed over the step, all processes together.
        """
        ...


@dataclass(frozen=True, slots=True)
class IllumeObjective:
    """ILLUME's mixed loss (arXiv 2208.08241); see `objectives.illume`.

    Attributes:
        w: weight of the rationale loss against the answer loss, as `TrainConfig.w` gives it.
    """

    w: float
    weight: float = 1.0
    name: str = ObjectiveName.ILLUME
    wants_hidden: bool = False

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """Answer tokens and weighted rationale tokens; shape (2,)."""
        times, weights = self._of_rows(batch)
        return token_counts(batch.answer_mask * times[:, None], batch.rationale_mask, weights)

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in nats."""
        times, weights = self._of_rows(batch)
        answers = batch.answer_mask * times[:, None]
        return illume_loss(found.values, answers, batch.rationale_mask, weights, totals=totals, w=self.w)

    def _of_rows(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """How many records each row stands for, and their weight together; 0 for rows of other objectives."""
        terms = batch.of(ObjectiveName.ILLUME)
        places = batch.places([term.rows[0] for term in terms])
        weights = weights_of(terms, places.device)
        empty = torch.zeros(len(batch.rows), device=places.device)
        return empty.index_add(0, places, torch.ones_like(weights)), empty.index_add(0, places, weights)


@dataclass(frozen=True, slots=True)
class DressObjective:
    """DRESS's conditional loss (arXiv 2311.10081); see `objectives.dress`."""

    weight: float = 1.0
    name: str = ObjectiveName.DRESS
    wants_hidden: bool = False

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """The examples' weights; shape ()."""
        return weights_of(batch.of(ObjectiveName.DRESS), batch.own.row.device).sum()

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in nats."""
        terms = batch.of(ObjectiveName.DRESS)
        places = batch.places([term.rows[0] for term in terms])
        weights = weights_of(terms, places.device)
        return dress_loss(found.values[places], batch.rationale_mask[places], weights, total=totals)


def weights_of(terms: Sequence[Term], device: torch.device) -> torch.Tensor:
    """The weights of some terms, shape (terms,)."""
    return torch.tensor([term.weight for term in terms], dtype=torch.float32, device=device)
