"""DPO and KTO as objectives of a run: both measure against what the reference made of each rationale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.logps import RowLogps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import weights_of
from illume_plugin.training.objectives.dpo import dpo_loss
from illume_plugin.training.objectives.kto import kl_baseline, kto_loss
from illume_plugin.training.objectives.shares import Statistics

#: Sum of log-ratios of mismatched rows and their number, shape (2,), for the KTO terms of a micro-batch.
KlSums = Callable[[MicroBatch], torch.Tensor]


@dataclass(frozen=True, slots=True)
class DpoObjective:
    """DPO on the preference pairs (arXiv 2305.18290); see `objectives.dpo`.

    Attributes:
        reference: log-probability of the rationale of each of the run's texts by the reference, nats, shape
            (texts,); see `reference_logps`.
        beta: how strongly the reference holds.
    """

    reference: torch.Tensor
    beta: float
    weight: float = 1.0
    name: str = ObjectiveName.DPO
    wants_hidden: bool = False

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """The pairs' weights; shape ()."""
        return weights_of(batch.of(ObjectiveName.DPO), batch.own.row.device).sum()

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in nats."""
        terms = batch.of(ObjectiveName.DPO)
        chosen, rejected = (batch.places([term.rows[side] for term in terms]) for side in (0, 1))
        return dpo_loss(
            found.values,
            batch.rationale_mask,
            self.reference[list(batch.numbers)].to(found.values.device),
            chosen,
            rejected,
            weights_of(terms, found.values.device),
            total=totals,
            beta=self.beta,
        )


@dataclass(frozen=True, slots=True)
class KtoObjective:
    """KTO on single labelled rationales (arXiv 2402.01306); see `objectives.kto`.

    Attributes:
        reference, beta: as in `DpoObjective`.
        kl_sums: what the mismatched rows of a micro-batch's terms add to the baseline.
        desirable_weight, undesirable_weight: lambda_D and lambda_U.
    """

    reference: torch.Tensor
    beta: float
    kl_sums: KlSums
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    weight: float = 1.0
    name: str = ObjectiveName.KTO
    wants_hidden: bool = False

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """The labels' weights, then the two sums that the baseline is made of; shape (3,)."""
        weights = weights_of(batch.of(ObjectiveName.KTO), batch.own.row.device)
        return torch.cat([weights.sum()[None], self.kl_sums(batch).to(weights)])

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in [0, lambda]."""
        terms = batch.of(ObjectiveName.KTO)
        rows = [term.rows[0] for term in terms]
        places = batch.places(rows)
        device = found.values.device
        return kto_loss(
            found.values[places],
            batch.rationale_mask[places],
            self.reference[rows].to(device),
            torch.tensor([term.desirable for term in terms], dtype=torch.bool, device=device),
            weights_of(terms, device),
            total=totals[0],
            baseline=kl_baseline(totals[1:]),
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
