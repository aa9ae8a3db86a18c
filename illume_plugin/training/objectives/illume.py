"""ILLUME's mixed loss (arXiv 2208.08241): answers of all rows, rationales of the accepted ones.

L = mean CE(answer tokens; all rows) + w * mean CE(rationale tokens; accepted rows)
"""

from __future__ import annotations

import torch

from illume_plugin.training.objectives.shares import Statistics, share


def token_counts(
    answer_mask: torch.Tensor, rationale_mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Answer tokens and weighted rationale tokens of a micro-batch; shape (2,)."""
    return torch.stack([answer_mask.sum().to(weights), _spread(weights, rationale_mask).sum()])


def illume_loss(
    logps: torch.Tensor,
    answer_mask: torch.Tensor,
    rationale_mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    totals: torch.Tensor,
    w: float,
) -> tuple[torch.Tensor, Statistics]:
    """This micro-batch's share of the mixed loss, in nats.

    Args:
        logps, answer_mask, rationale_mask: shape (rows, tokens).
        weights: of each row's rationale, shape (rows,).
        totals: `token_counts` summed over the step, shape (2,).
        w: weight of the rationale loss, as `TrainConfig.w` gives it.

    Returns:
        The share, and the shares of `answer_ce` and `rationale_ce`, the two means without w.
    """
    answer = share(-logps, answer_mask.to(logps), totals[0])
    rationale = share(-logps, _spread(weights, rationale_mask).to(logps), totals[1])
    return answer + w * rationale, {"answer_ce": answer.detach(), "rationale_ce": rationale.detach()}


def _spread(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return mask * weights[:, None]
