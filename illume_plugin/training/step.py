"""The loss of one optimiser step, micro-batch by micro-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from illume_plugin.training.logps import row_logps
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import Objective
from illume_plugin.training.objectives.shares import Statistics
from illume_plugin.training.packing import Packing
from illume_plugin.training.traits import Traits


class Figures:
    """Each objective's loss and statistics over a step, added up from the shares of micro-batches."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, objective: str, loss: torch.Tensor, statistics: Statistics) -> None:
        """Take in a micro-batch's shares; the loss is the objective's own, without its weight in the sum."""
        for name, value in chain([("loss", loss.detach())], statistics.items()):
            key = f"{objective}/{name}"
            self._sums[key] = self._sums.get(key, torch.zeros_like(value)) + value

    def make_zero(self) -> None:
        """Count nothing of what was added, for a process that only took part for the others' sake."""
        self._sums = {name: torch.zeros_like(value) for name, value in self._sums.items()}

    def take(self) -> Mapping[str, torch.Tensor]:
        """`objective/figure` -> value, of the shares that this process added since the last call."""
        taken, self._sums = self._sums, {}
        return taken


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
    figures: Figures | None = None,
) -> torch.Tensor:
    """A micro-batch's share of the step's loss, the weighted sum of all objectives, with its graph.

    Args:
        figures: are told the shares of each objective.
    """
    device = totals[0].device
    hidden = any(objective.wants_hidden for objective in objectives)
    pictures = packing.pictures(batch, device)
    here = batch.to(device)
    found = row_logps(model, here, traits, pictures=pictures, hidden=hidden)
    shares = []
    for objective, total in zip(objectives, totals, strict=True):
        share, statistics = objective.share(here, found, total)
        shares.append(objective.weight * share)
        if figures is not None:
            figures.add(objective.name, share, statistics)
    return torch.stack(shares).sum()
