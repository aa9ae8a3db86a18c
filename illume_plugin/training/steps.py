"""Which terms make up each optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[list[int]]):
    """Cuts each epoch's terms into optimiser steps, those whose rows share a picture in the same one.

    An epoch has ceil(rows / batch_size) steps, as if rows were drawn one by one, and a step has batch_size
    rows on average: families of terms that share a picture are drawn in random order and cut where it comes
    nearest to equal steps. A family with more than batch_size rows is drawn in parts. Every term is
    drawn once in an epoch, and a step's loss is a mean over its own terms, so the expected gradient is that
    of single terms; what changes is that terms of a family come together.

    The order depends on the seed and the epoch alone: not on the processes, nor on where a run was resumed.

    Args:
        keys: for each term, what it shares; terms with the same key stay together.
        batch_size: rows in a step.
        rows: for each term, the rows that it brings in beside those of the terms before it; one if not given.
        drawn: the numbers of the terms of an epoch, always of as many rows in all; every term if not given.
    """

    def __init__(
        self,
        keys: Sequence[Hashable],
        *,
        batch_size: int,
        seed: int,
        rows: Sequence[int] | None = None,
        drawn: Callable[[int], Sequence[int]] | None = None,
    ) -> None:
        self._keys = keys
        self._rows = rows or [1] * len(keys)
        self._drawn = drawn or (lambda _: range(len(keys)))
        self._batch_size = batch_size
        first = self._drawn(0)
        # fewer where single terms have more rows than a step
        self._steps = min(ceil(self._size(first) / batch_size), len(self._families(first)))
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        families = self._families(self._drawn(self._epoch))
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(families))
        return self._cut([families[index] for index in order], self._steps)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def _families(self, terms: Sequence[int]) -> list[list[int]]:
        """Terms that share a picture, at most batch_size rows of them together."""
        found: dict[Hashable, list[int]] = {}
        for index in terms:
            found.setdefault(self._keys[index], []).append(index)
        return [part for family in found.values() for part in self._even(family)]

    def _even(self, family: list[int]) -> list[list[int]]:
        parts = max(1, ceil(self._size(family) / self._batch_size))
        return list(self._cut([[index] for index in family], parts))

    def _cut(self, families: Sequence[list[int]], steps: int) -> Iterator[list[int]]:
        """Neighbours together in at most so many steps of nearly equal size, none of them empty."""
        steps = min(steps, len(families))
        total = sum(map(self._size, families))
        drawn, start = 0, 0
        for step in range(steps):
            stop, last = start, len(families) - (steps - step - 1)
            while stop < last and (
                stop == start or drawn + self._size(families[stop]) / 2 <= total * (step + 1) / steps
            ):
                drawn += self._size(families[stop])
                stop += 1
            yield [index for family in families[start:stop] for index in family]
            start = stop

    def _size(self, terms: Sequence[int]) -> int:
        return sum(self._rows[index] for index in terms)


class StepLoader(DataLoader[Any]):
    """Gives the numbers of each step's terms; the Trainer tells it the epoch."""

    def __init__(self, terms: int, sampler: StepSampler) -> None:
        super().__init__(range(terms), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
        self._steps = sampler

    def set_epoch(self, epoch: int) -> None:
        """See `StepSampler.set_epoch`."""
        self._steps.set_epoch(epoch)
