"""What the reference makes of a run's rationales: computed once, before the first step changes anything.

The reference of DPO and KTO is the adapter that the run starts from, or the base model (CSR, arXiv
2405.14622). That is the model itself before its first step: an adapter that starts anew changes nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.logps import row_logps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objectives.kto import kl_sums
from illume_plugin.training.objectives.shares import masked_sum
from illume_plugin.training.packing import Packing
from illume_plugin.training.sharing import Share
from illume_plugin.training.terms import Term
from illume_plugin.training.traits import Traits

#: Objectives that measure against the reference.
REFERRING = frozenset({ObjectiveName.DPO, ObjectiveName.KTO})
#: Terms whose rows are computed at a time; micro-batches bound the memory of the forward passes.
_AT_A_TIME = 64


def referred(terms: Iterable[Term]) -> list[int]:
    """Numbers of the texts that some objective measures against the reference, in order."""
    rows: set[int] = set()
    for term in terms:
        if term.objective in REFERRING:
            rows.update(term.rows)
            rows.update(() if term.mismatch is None else [term.mismatch])
    return sorted(rows)


def reference_logps(
    model: Any, packing: Packing, terms: Sequence[Term], texts: int, share: Share | None = None
) -> torch.Tensor:
    """Log-probability of each rationale that has a reference, 0 for other texts; nats, shape (texts,).

    Dropout is off meanwhile.

    Args:
        model: with the adapter that is about to be trained, before its first step.
        texts: how many the run has.
        share: where several processes work on the run: each computes its part of the rows, however many it
            has memory for at a time, and all of them get the whole.
    """
    share = share or Share()
    found, rows, was_training = torch.zeros(texts), share.part(referred(terms)), model.training
    model.eval()
    try:
        for start in range(0, len(rows), _AT_A_TIME):
            for batch in packing.packed(_alone(rows[start : start + _AT_A_TIME])):
                found[list(batch.numbers)] = rationale_logps(model, packing, batch).cpu()
    finally:
        model.train(was_training)
    return share.summed(found)


@torch.no_grad()
def rationale_logps(model: Any, packing: Packing, batch: MicroBatch) -> torch.Tensor:
    """Log-probability of each row's whole rationale, without gradient; nats, shape (rows,)."""
    device = next(model.parameters()).device
    here = batch.to(device)
    values = row_logps(model, here, Traits.of(model), pictures=packing.pictures(batch, device)).values
    return masked_sum(values, here.rationale_mask)


@dataclass(frozen=True)
class MismatchedRows:
    """KTO's baseline: what the model makes of tasks with other tasks' rationales while it is trained.

    Attributes:
        model: that is trained, not wrapped for several processes.
        reference: see `reference_logps`.
    """

    model: Any
    packing: Packing
    reference: torch.Tensor

    def __call__(self, batch: MicroBatch) -> torch.Tensor:
        """Sum of log-ratios and number of the mismatched rows of the batch's KTO terms; shape (2,)."""
        terms = batch.of(ObjectiveName.KTO)
        rows = [term.mismatch for term in terms if term.mismatch is not None]
        total = torch.zeros(2)
        for part in self.packing.packed(_alone(rows)):
            logps = rationale_logps(self.model, self.packing, part).cpu()
            whole = torch.ones(len(logps), 1, dtype=torch.bool)
            total += kl_sums(logps[:, None], whole, self.reference[list(part.numbers)])
        return total


def _alone(rows: Sequence[int]) -> list[Term]:
    return [Term(ObjectiveName.KTO, (row,)) for row in rows]
