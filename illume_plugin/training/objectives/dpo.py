"""DPO (arXiv 2305.18290): a preferred rationale gains on a refused one, against a reference that stays put.

    L = - log sigmoid( beta ([log pi/pi_ref (y_w)] - [log pi/pi_ref (y_l)]) )

As in CSR (arXiv 2405.14622) the reference is the adapter that the run started from, or the base model.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from illume_plugin.training.objectives.shares import Statistics, masked_sum, share


def dpo_loss(
    logps: torch.Tensor,
    mask: torch.Tensor,
    reference: torch.Tensor,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    weights: torch.Tensor,
    *,
    total: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, Statistics]:
    """This micro-batch's share of the weighted mean DPO loss over the step's pairs, in nats.

    Args:
        logps, mask: shape (rows, tokens); the mask says which tokens are the rationale, its end token among
            them.
        reference: log-probability of each row's whole rationale by the reference, shape (rows,).
        chosen, rejected: rows of each pair's two sides, shape (pairs,), whole numbers. A row may be in many
            pairs.
        weights: of each pair, shape (pairs,).
        total: `weights.sum()`, summed over the step.
        beta: how strongly the reference holds, above 0.

    Returns:
        The share, and the shares of `margin` (reward of the chosen less that of the rejected, in nats),
        `accuracy` (share of pairs with a margin above 0), `chosen_reward` and `rejected_reward`.
    """
    rewards = beta * (masked_sum(logps, mask) - reference)
    margins = rewards[chosen] - rewards[rejected]
    loss = share(-logsigmoid(margins), weights, total)
    told = {
        "margin": margins,
        "accuracy": (margins > 0).to(margins),
        "chosen_reward": rewards[chosen],
        "rejected_reward": rewards[rejected],
    }
    return loss, {name: share(values.detach(), weights, total) for name, values in told.items()}
