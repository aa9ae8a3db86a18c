"""C3L's contrast (arXiv 2405.12752): a task's good rationales near its anchor, its poor ones far from it.

    L = - log exp(sim(z, z_pos)/tau) / ( exp(sim(z, z_pos)/tau) + sum_n exp(sim(z, z_neg_n)/tau) )

z is the mean last hidden state over a rationale's tokens, seen through a small projection head that is
trained along and thrown away; sim is the cosine. The anchor, tau and the head's shape are ours: the paper's
code is not published.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from illume_plugin.training.objectives.shares import Statistics, share


class ProjectionHead(torch.nn.Module):
    """Two linear layers with a GELU between them, from hidden states to the space that is compared in.

    Args:
        width: of the hidden states.
        projected: of the space.
    """

    def __init__(self, width: int, projected: int = 128) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, projected)
        )

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shape (rows, width) to (rows, projected), each row of length 1."""
        return normalize(self.layers(pooled), dim=-1)


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the hidden states at the tokens that count, 0 for a row without any; shape (rows, width).

    Args:
        hidden: shape (rows, tokens, width).
        mask: shape (rows, tokens).
    """
    return hidden.masked_fill(~mask[..., None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def term_weights(negative_mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weight of each term, 0 for one without negatives: its loss is 0 whatever the model does."""
    return torch.where(negative_mask.any(dim=-1), weights, 0.0)


def contrast_loss(
    projected: torch.Tensor,
    anchors: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    negative_mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    total: torch.Tensor,
    tau: float,
) -> tuple[torch.Tensor, Statistics]:
    """This micro-batch's share of the weighted mean InfoNCE loss over the step's terms, in nats.

    Args:
        projected: z of every row, of length 1, shape (rows, projected).
        anchors, positives: rows of each term's anchor and its one positive, shape (terms,), whole numbers.
        negatives: rows of each term's negatives, shape (terms, most), padded with any row.
        negative_mask: which of them are real, bool, shape (terms, most).
        weights: of each term, shape (terms,).
        total: `term_weights(...).sum()`, summed over the step.
        tau: temperature, above 0.

    Returns:
        The share, and the shares of `positive_cosine` (mean cosine of anchor and positive) and `accuracy`
        (share of terms whose positive is nearer than every negative).
    """
    anchor = projected[anchors]
    near = (anchor * projected[positives]).sum(dim=-1)
    far = (anchor[:, None] * projected[negatives]).sum(dim=-1).masked_fill(~negative_mask, -torch.inf)
    scores = torch.cat([near[:, None], far], dim=1)
    losses = torch.logsumexp(scores / tau, dim=1) - near / tau
    counted = term_weights(negative_mask, weights)
    told = {"positive_cosine": near, "accuracy": (near[:, None] > far).all(dim=1).to(near)}
    return share(losses, counted, total), {
        name: share(values.detach(), counted, total) for name, values in told.items()
    }
