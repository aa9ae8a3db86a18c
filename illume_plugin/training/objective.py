"""ILLUME's mixed loss (arXiv 2208.08241): answers of all rows, rationales of the accepted ones.

    L = mean CE(answer tokens; all rows) + w * mean CE(rationale tokens; accepted rows)

Both means run over the whole optimiser step, not over a micro-batch, so that splitting a step into
micro-batches changes nothing and a micro-batch without accepted rows is no division by zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

Batch = Mapping[str, torch.Tensor]


def token_counts(batch: Batch) -> torch.Tensor:
    """Answer tokens and weighted rationale tokens of a batch; shape (2,)."""
    return torch.stack([_answer_weights(batch).sum(), _rationale_weights(batch).sum()])


def mixed_loss(logits: torch.Tensor, batch: Batch, counts: torch.Tensor, w: float) -> torch.Tensor:
    """This micro-batch's share of the mixed loss, in nats; the shares of a step add up to its loss.

    Args:
        logits: shape (rows, tokens, vocabulary), of the batch's `input_ids`.
        batch: with `input_ids`, `answer_mask`, `rationale_mask`, `weight`.
        counts: `token_counts` summed over all micro-batches of the step.
        w: weight of the rationale loss.
    """
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), batch["input_ids"][:, 1:], reduction="none"
    )
    answer = (losses * _answer_weights(batch)).sum()
    rationale = (losses * _rationale_weights(batch)).sum()
    safe = torch.where(counts > 0, counts, 1.0)  # nothing to count: the sum is 0 as well
    return torch.stack([answer, w * rationale]).div(safe).sum()


def _answer_weights(batch: Batch) -> torch.Tensor:
    """Shape (rows, tokens - 1): the first token is nobody's prediction."""
    return batch["answer_mask"][:, 1:].float()


def _rationale_weights(batch: Batch) -> torch.Tensor:
    return batch["rationale_mask"][:, 1:] * batch["weight"].float()[:, None]
