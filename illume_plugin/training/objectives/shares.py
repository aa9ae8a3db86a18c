"""What all objectives have in common: masked sums, and shares of a mean that runs over the whole step."""

from __future__ import annotations

from collections.abc import Mapping

import torch

#: Name -> share of a figure's mean over the step, without gradient; the shares of a step add up to the mean.
Statistics = Mapping[str, torch.Tensor]


def masked_sum(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum over the tokens that count; shape (rows,).

    What stands at the others, padding among them, changes neither the sum nor its gradient, be it
    infinite or NaN.
    """
    return logps.masked_fill(~mask, 0.0).sum(dim=-1)


def masked_mean(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that count, 0 for a row without any; shape (rows,)."""
    return masked_sum(logps, mask) / mask.sum(dim=-1).clamp(min=1)


def share(values: torch.Tensor, weights: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """This micro-batch's share of the step's weighted mean: sum(weights * values) / total.

    Args:
        values, weights: of one shape.
        total: the weights' sum over the whole step, shape (); 0 gives 0.
    """
    # a record that does not count must not bring NaN in: 0 * inf is NaN
    counted = torch.where(weights > 0, values, 0.0)
    return (counted * weights).sum() / torch.where(total > 0, total, 1.0)
