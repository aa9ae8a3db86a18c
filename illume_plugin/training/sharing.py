"""What the processes of one run share out among themselves and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """This process among those that work on one run; by itself it is the only one.

    What is put together must be asked for by all of them, in the same order.

    Attributes:
        index: of this process, from 0.
        of: how many there are.
        device: that this process computes on.
    """

    index: int = 0
    of: int = 1
    device: torch.device | str = "cpu"

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process deals with: neighbours, as many as others have, or one more or less."""
        start, stop = (len(items) * index // self.of for index in (self.index, self.index + 1))
        return items[start:stop]

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, the same in each; on the processor."""
        if self.of == 1:
            return values
        here = values.to(self.device)
        torch.distributed.all_reduce(here)
        return here.cpu()

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.of > 1:
            torch.distributed.barrier()

    def smallest(self, number: int) -> int:
        """The smallest number of all processes."""
        if self.of == 1:
            return number
        here = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(here, torch.distributed.ReduceOp.MIN)
        return int(here)
