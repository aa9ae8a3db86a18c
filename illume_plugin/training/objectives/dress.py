"""DRESS (arXiv 2311.10081): every judged rationale is learnt, under what was said of it (hindsight).

    L = - mean_t mean_k log pi(r_t,k | picture, question, r_1, f_1 .. r_{t-1}, f_{t-1}, C(s_t, c_t), r_t,<k)

Only the tokens of the turn's own rationale are learnt. The condition C stands before the question of its
turn: before the task's question in the first turn, before the wish for a change in a later one.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from illume_plugin.base_model import Piece, Prompts
from illume_plugin.examples import FeedbackExample
from illume_plugin.feedback import condition_text
from illume_plugin.training.objectives.shares import Statistics, masked_mean, share


def hindsight(prompts: Prompts, example: FeedbackExample) -> tuple[Piece, Piece]:
    """The prompt of the example's turn, under its condition, and the rationale with its end."""
    under = replace(prompts, said=condition_text(example.condition))
    if not example.refinement:
        return under.told(example.question, example.answer, example.rationale)
    return under.refined(
        example.question, example.answer, example.before, example.refinement, example.rationale
    )


def row_weights(mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weight of each row, 0 for one without tokens to learn."""
    return torch.where(mask.any(dim=-1), weights, 0.0)


def dress_loss(
    logps: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor, *, total: torch.Tensor
) -> tuple[torch.Tensor, Statistics]:
    """This micro-batch's share of the weighted mean over rows of each row's mean cross-entropy, in nats.

    Args:
        logps, mask: shape (rows, tokens); the mask says which tokens are the turn's rationale.
        weights: of each row, shape (rows,).
        total: `row_weights(...).sum()`, summed over the step.

    Returns:
        The share, and the share of `response_ce`, which is the same without gradient.
    """
    loss = share(-masked_mean(logps, mask), row_weights(mask, weights), total)
    return loss, {"response_ce": loss.detach()}
