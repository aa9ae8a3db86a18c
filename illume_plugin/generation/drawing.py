"""Top-k sampling in which every row has its own stream of random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor

from illume_plugin.errors import ModelError


class SeededDraw:
    """Top-k, then temperature, then one draw, by a seed per row.

    Sampling inside `generate` uses one global random number generator, so what a task gets would depend
    on which tasks share its batch. Here a row's draw at step t is the inverse of its cumulative
    distribution at its own t-th uniform number.

    Args:
        seeds: seed of each row.
        temperatures: temperature of each row, above 0.
        top_k: number of tokens kept.
        steps: tokens drawn at most.
        device: where the scores are.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        temperatures: Sequence[float],
        *,
        top_k: int,
        steps: int,
        device: torch.device | str = "cpu",
    ) -> None:
        streams = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self._uniforms = torch.stack(streams).to(device)
        self._temperatures = torch.tensor(temperatures, device=device)[:, None]
        self._top_k = top_k

    def __call__(self, scores: torch.Tensor, step: int, rows: torch.Tensor) -> torch.Tensor:
        """One token for each of the rows whose indices are given.

        Args:
            scores: unnormalised log-probabilities, shape (rows, vocabulary).
            step: how many tokens were drawn before.
            rows: index of each row among the seeds, shape (rows,).

        Returns:
            Token ids, shape (rows,). Of equally likely ones the lower id comes first.

        Raises:
            ModelError: the scores are not numbers.
        """
        scores = scores.float()
        kept = _largest(scores, min(self._top_k, scores.shape[-1]))
        if kept[:, 0].isnan().any():
            raise ModelError(
                "The model's scores are not numbers (NaN).",
                why="Its numbers overflowed, so every candidate would be noise.",
                todo="Load it in another dtype (ILLUME_DTYPE), or roll back to an older adapter.",
            )
        cumulative = (kept / self._temperatures[rows]).softmax(dim=-1).cumsum(dim=-1)
        uniform = self._uniforms[rows, step, None] * cumulative[:, -1:]
        rank = torch.searchsorted(cumulative, uniform, right=True).clamp(max=kept.shape[-1] - 1)
        return _at_rank(scores, kept, rank)


def _largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The largest scores of each row, shape (rows, count), descending."""
    if scores.device.type != "cpu":
        return scores.topk(count, dim=-1).values
    # A tenth of the time of torch.topk, which sorts pairs of score and index.
    cut = scores.shape[-1] - count
    kept = np.partition(scores.numpy(), cut, axis=-1)[:, cut:] if cut else scores.numpy().copy()
    kept.sort(axis=-1)
    return torch.from_numpy(kept[:, ::-1].copy())


def _at_rank(scores: torch.Tensor, kept: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """Index of the score at each row's `rank`, shape (rows, 1), among `kept`, its largest ones."""
    value = kept.gather(1, rank)
    larger = (kept > value).sum(dim=1)
    width = scores.shape[-1]
    places = _equal(scores, value)
    first = torch.searchsorted(places, torch.arange(len(scores), device=scores.device) * width)
    return places[first + rank[:, 0] - larger] % width


def _equal(scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Where scores are their row's `value`, shape (rows, 1), as ascending indices into flat `scores`."""
    if scores.device.type != "cpu":
        return (scores == value).flatten().nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(scores.numpy() == value.numpy()))  # a quarter of torch's time


class DrawInGenerate(LogitsProcessor):  # type: ignore[misc]
    """A `SeededDraw` inside `generate`'s own loop: the token drawn is left as the only possible one."""

    def __init__(self, draw: SeededDraw) -> None:
        self._draw = draw
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Replace `scores`, shape (rows, vocabulary), by 0 for the drawn token and -inf for the others."""
        rows = torch.arange(len(scores), device=scores.device)
        token = self._draw(scores, self._step, rows)
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)
