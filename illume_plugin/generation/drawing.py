"""Top-k sampling in which every row has its own stream of random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class SeededDraw(LogitsProcessor):  # type: ignore[misc]
    """Top-k, then temperature, then one draw, by a seed per row.

    Sampling inside `generate` uses one global random number generator, so what a task gets would depend
    on which tasks share its batch. Here a row's draw at step t is the inverse of its cumulative
    distribution at its own t-th uniform number; the chosen token is left as the only possible one.

    Args:
        seeds: seed of each row.
        temperatures: temperature of each row, above 0.
        top_k: number of tokens kept.
        steps: tokens drawn at most.
    """

    def __init__(
        self, seeds: Sequence[int], temperatures: Sequence[float], *, top_k: int, steps: int
    ) -> None:
        streams = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self._uniforms = torch.stack(streams)
        self._temperatures = torch.tensor(temperatures)[:, None]
        self._top_k = top_k
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Replace `scores`, shape (rows, vocabulary), by 0 for the drawn token and -inf for the others."""
        uniform = self._uniforms[:, self._step, None].to(scores.device)
        self._step += 1
        kept, tokens = scores.float().topk(min(self._top_k, scores.shape[-1]), dim=-1)
        cumulative = (kept / self._temperatures.to(scores.device)).softmax(dim=-1).cumsum(dim=-1)
        picked = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        token = tokens.gather(1, picked.clamp(max=kept.shape[-1] - 1))
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)
