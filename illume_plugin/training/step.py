"""The loss of one optimiser step, micro-batch by micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from illume_plugin.training.logps import row_logps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import Objective
from illume_plugin.training.packing import Packing
from illume_plugin.training.traits import Traits


def step_totals(
    batches: Sequence[MicroBatch], objectives: Sequence[Objective], device: torch.device
) -> list[torch.Tensor]:
    """What each objective normalises by: its counts over all micro-batches of a step."""
    return [
        torch.stack([objective.counts(batch) for batch in batches]).sum(dim=0).to(device)
        for objective in objectives
    ]


def step_share(
    model: Any,
    packing: Packing,
    batch: MicroBatch,
    traits: Traits,
    objectives: Sequence[Objective],
    totals: Sequence[torch.Tensor],
) -> torch.Tensor:
    """A micro-batch's share of the step's loss, all objectives together, with its graph."""
    device = totals[0].device
    hidden = any(objective.wants_hidden for objective in objectives)
    pictures = packing.pictures(batch, device)
    here = batch.to(device)
    found = row_logps(model, here, traits, pictures=pictures, hidden=hidden)
    shares = [
        objective.share(here, found, total)[0] for objective, total in zip(objectives, totals, strict=True)
    ]
    return torch.stack(shares).sum()
