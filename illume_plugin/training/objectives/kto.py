"""KTO (arXiv 2402.01306): single rationales that fit or do not, for tasks where all or none of them fit.

    L = mean over fitting ones    lambda_D (1 - sigmoid(beta (r - z)))
      + mean over unfit ones      lambda_U (1 - sigmoid(beta (z - r))),     r = log pi/pi_ref (y)

in one common mean. The baseline z is an estimate of KL(pi || pi_ref) that takes no gradient, from
*mismatched* rows: a task with a rationale that belongs to another task. As in TRL its mean over the step is
taken and is at least 0.
"""

from __future__ import annotations

import torch

from illume_plugin.training.objectives.shares import Statistics, masked_sum, share


def kl_sums(logps: torch.Tensor, mask: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """What a micro-batch of mismatched rows adds to the baseline: sum of log-ratios and rows; shape (2,).

    Args:
        logps, mask: shape (rows, tokens), of the mismatched rows.
        reference: log-probability of each row's whole rationale by the reference, shape (rows,).
    """
    ratios = masked_sum(logps.detach(), mask) - reference
    return torch.stack([ratios.sum(), ratios.new_tensor(float(ratios.numel()))])


def kl_baseline(sums: torch.Tensor) -> torch.Tensor:
    """The baseline z from `kl_sums` summed over the step, shape (); 0 where there was no mismatched row."""
    return (sums[0] / sums[1].clamp(min=1)).clamp(min=0)


def kto_loss(
    logps: torch.Tensor,
    mask: torch.Tensor,
    reference: torch.Tensor,
    desirable: torch.Tensor,
    weights: torch.Tensor,
    *,
    total: torch.Tensor,
    baseline: torch.Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[torch.Tensor, Statistics]:
    """This micro-batch's share of the KTO loss over the step's labelled rationales, in [0, lambda].

    Args:
        logps, mask: shape (rows, tokens), of the labelled rows.
        reference: log-probability of each row's whole rationale by the reference, shape (rows,).
        desirable: whether each row's rationale fits, bool, shape (rows,).
        weights: of each row, shape (rows,); as in TRL the lambdas are no part of the normalisation.
        total: `weights.sum()`, summed over the step.
        baseline: z, see `kl_baseline`.
        beta: how strongly the reference holds, above 0.
        desirable_weight, undesirable_weight: lambda_D and lambda_U.

    Returns:
        The share, and the shares of `chosen_reward` and `rejected_reward`, means over *all* labelled rows
        of beta r of the fitting and of the unfit ones, and `fit_share`, the share that fits.
    """
    rewards = beta * (masked_sum(logps, mask) - reference)
    gain = torch.where(desirable, rewards - beta * baseline, beta * baseline - rewards)
    lambdas = torch.where(desirable, desirable_weight, undesirable_weight)
    loss = share(lambdas * (1 - torch.sigmoid(gain)), weights, total)
    told = {
        "chosen_reward": torch.where(desirable, rewards, 0.0),
        "rejected_reward": torch.where(desirable, 0.0, rewards),
        "fit_share": desirable.to(rewards),
    }
    return loss, {name: share(values.detach(), weights, total) for name, values in told.items()}
