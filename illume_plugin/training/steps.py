"""Which rows make up each optimiser step."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[list[int]]):
    """Cuts each epoch's rows into optimiser steps, rows that share a picture in the same one.

    An epoch has ceil(rows / batch_size) steps, as if rows were drawn one by one, and a step has batch_size
    rows on average: families of rows that share a picture are drawn in random order and cut where it comes
    nearest to equal steps. A family with more than batch_size rows is drawn in parts. Every row is
    drawn once in an epoch, and a step's loss is a mean over its own rows, so the expected gradient is that
    of single rows; what changes is that rows of a family come together.

    The order depends on the seed and the epoch alone: not on the processes, nor on where a run was resumed.

    Args:
        keys: for each row, what it shares; rows with the same key stay together.
        batch_size: rows in a step.
    """

    def __init__(self, keys: Sequence[Hashable], *, batch_size: int, seed: int) -> None:
        self._families = _families(keys, batch_size)
        self._steps = ceil(len(keys) / batch_size)
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._families))
        return _cut([self._families[index] for index in order], self._steps)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch


class StepLoader(DataLoader[Any]):
    """Gives each step's row numbers; the Trainer tells it the epoch."""

    def __init__(self, rows: int, sampler: StepSampler) -> None:
        super().__init__(range(rows), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
        self._steps = sampler

    def set_epoch(self, epoch: int) -> None:
        """See `StepSampler.set_epoch`."""
        self._steps.set_epoch(epoch)


def _families(keys: Sequence[Hashable], at_most: int) -> list[list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return [part for family in found.values() for part in _even(family, at_most)]


def _even(family: list[int], at_most: int) -> list[list[int]]:
    parts = ceil(len(family) / at_most)
    return [family[len(family) * k // parts : len(family) * (k + 1) // parts] for k in range(parts)]


def _cut(families: Sequence[list[int]], steps: int) -> Iterator[list[int]]:
    """Neighbours together in so many steps of nearly equal size, none of them empty."""
    total = sum(map(len, families))
    drawn, start = 0, 0
    for step in range(steps):
        stop, last = start, len(families) - (steps - step - 1)
        while stop < last and (
            stop == start or drawn + len(families[stop]) / 2 <= total * (step + 1) / steps
        ):
            drawn += len(families[stop])
            stop += 1
        yield [index for family in families[start:stop] for index in family]
        start = stop
