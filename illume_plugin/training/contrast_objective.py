"""C3L's contrast as an objective of a run, with the projection head that is trained along and thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.logps import RowLogps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import weights_of
from illume_plugin.training.objectives.contrast import (
    ProjectionHead,
    contrast_loss,
    mean_pooled,
    term_weights,
)
from illume_plugin.training.objectives.shares import Statistics
from illume_plugin.training.terms import Term
from illume_plugin.training.traits import bare

#: Name of the head among the model's parts, so that it is trained, checkpointed and synchronised with it.
HEAD = "contrast_head"


@contextmanager
def projection_head(model: Any, device: torch.device, *, wanted: bool = True) -> Iterator[None]:
    """A fresh head on the model, gone again afterwards.

    Args:
        model: with the adapter that is trained.
        wanted: no: nothing is done, for runs without contrast.
    """
    if not wanted:
        yield
        return
    width = int(bare(model).config.get_text_config().hidden_size)
    model.add_module(HEAD, ProjectionHead(width).to(device))
    try:
        yield
    finally:
        delattr(model, HEAD)


@dataclass(frozen=True, slots=True)
class ContrastObjective:
    """C3L's contrast (arXiv 2405.12752); see `objectives.contrast`.

    Attributes:
        head: see `projection_head`.
        tau: temperature.
    """

    head: torch.nn.Module
    tau: float
    weight: float = 1.0
    name: str = ObjectiveName.CONTRAST
    wants_hidden: bool = True

    def counts(self, batch: MicroBatch) -> torch.Tensor:
        """The terms' weights; shape ()."""
        terms = batch.of(ObjectiveName.CONTRAST)
        _, real = _negatives(batch, terms)
        return term_weights(real, weights_of(terms, real.device)).sum()

    def share(
        self, batch: MicroBatch, found: RowLogps, totals: torch.Tensor
    ) -> tuple[torch.Tensor, Statistics]:
        """The micro-batch's share, in nats."""
        if found.hidden is None:
            raise TypeError("contrast needs hidden states; see wants_hidden")
        terms = batch.of(ObjectiveName.CONTRAST)
        negatives, real = _negatives(batch, terms)
        return contrast_loss(
            self.head(mean_pooled(found.hidden.float(), batch.rationale_mask)),
            batch.places([term.rows[0] for term in terms]),
            batch.places([term.rows[1] for term in terms]),
            negatives,
            real,
            weights_of(terms, real.device),
            total=totals,
            tau=self.tau,
        )


def _negatives(batch: MicroBatch, terms: Sequence[Term]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of each term's negatives, padded with its anchor's, and which are real; shape (terms, most)."""
    most = max((len(term.rows) - 2 for term in terms), default=0)
    places = [batch.places([*term.rows[2:], *[term.rows[0]] * (most + 2 - len(term.rows))]) for term in terms]
    device = batch.own.row.device
    counts = torch.tensor([len(term.rows) - 2 for term in terms], dtype=torch.long, device=device)
    empty = torch.zeros(0, most, dtype=torch.long, device=device)
    real = torch.arange(most, device=device) < counts[:, None]
    return (torch.stack(places) if places else empty), real
