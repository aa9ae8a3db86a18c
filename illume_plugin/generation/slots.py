"""Which rows belong to which task: rows lie in any number per task, slots in a rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch


class Slots:
    """A rectangle of slots, tasks by rows of the task with the most, filled by rows in task order.

    Linear layers see rows only; attention sees the rectangle, in which the rows of a task lie side by side.
    Slots without a row hold a copy of the first row, and nobody reads what comes of it.

    Args:
        counts: rows of each task, at least one each.

    Attributes:
        tasks: number of tasks.
        per_task: slots of each task.
        kept: for every slot, the slot of the rectangle before whose row it took; None at first.
        kept_tasks: tasks of the rectangle before that still have rows; None where all have.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        self.counts = list(counts)
        self.device = device
        self.tasks, self.per_task = len(self.counts), max(self.counts)
        self.rows = sum(self.counts)
        self.kept: torch.Tensor | None = None
        self.kept_tasks: torch.Tensor | None = None
        self._slot_of_row: torch.Tensor | None = None
        if self.rows < self.tasks * self.per_task:
            slots = chain.from_iterable(
                range(task * self.per_task, task * self.per_task + count)
                for task, count in enumerate(self.counts)
            )
            self._slot_of_row = torch.tensor(list(slots), device=device)
            self._row_of_slot = torch.zeros(self.tasks * self.per_task, dtype=torch.long, device=device)
            self._row_of_slot[self._slot_of_row] = torch.arange(self.rows, device=device)

    def task_of_row(self) -> torch.Tensor:
        """The task of every row, shape (rows,)."""
        counts = torch.tensor(self.counts, device=self.device)
        return torch.arange(self.tasks, device=self.device).repeat_interleave(counts)

    def fold(self, rows: torch.Tensor) -> torch.Tensor:
        """From (rows, heads, width) to (tasks, heads, slots, width)."""
        filled = rows if self._slot_of_row is None else rows[self._row_of_slot]
        return filled.view(self.tasks, self.per_task, *rows.shape[1:]).transpose(1, 2)

    def unfold(self, slots: torch.Tensor) -> torch.Tensor:
        """From (tasks, heads, slots, width) to (rows, heads, width)."""
        filled = slots.transpose(1, 2).flatten(0, 1)
        return filled if self._slot_of_row is None else filled[self._slot_of_row]

    def keep(self, rows: torch.Tensor) -> Slots:
        """The rectangle of the rows whose indices are given, ascending, at least one.

        Tasks that have none of them are left out.
        """
        left = self.task_of_row()[rows].bincount(minlength=self.tasks)
        tasks = left.nonzero()[:, 0]
        kept = Slots(left[tasks].tolist(), self.device)
        before = rows if self._slot_of_row is None else self._slot_of_row[rows]
        kept.kept = before if kept._slot_of_row is None else before[kept._row_of_slot]
        kept.kept_tasks = tasks if len(tasks) < self.tasks else None
        return kept
