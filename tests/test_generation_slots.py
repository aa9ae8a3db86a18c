"""Rows in a rectangle of tasks by slots, and what stays when rows leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from illume_plugin.generation.slots import Slots  # noqa: E402

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
counts = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def numbered(slots: Slots) -> torch.Tensor:
    """Rows with two heads of width three that say which row they are."""
    return torch.arange(slots.rows)[:, None, None] + torch.arange(6).view(2, 3) / 10


@given(counts)
def test_rows_come_back_from_their_slots(of_tasks: list[int]) -> None:
    slots = Slots(of_tasks, CPU)
    rows = numbered(slots)
    folded = slots.fold(rows)
    assert folded.shape == (len(of_tasks), 2, max(of_tasks), 3)
    assert torch.equal(slots.unfold(folded), rows)
    assert slots.task_of_row().tolist() == [task for task, n in enumerate(of_tasks) for _ in range(n)]


@given(counts)
def test_the_rows_of_a_task_lie_in_its_slots(of_tasks: list[int]) -> None:
    slots = Slots(of_tasks, CPU)
    folded = slots.fold(numbered(slots))[:, 0, :, 0].long()
    tasks = slots.task_of_row()
    for task, count in enumerate(of_tasks):
        mine = folded[task, :count]
        assert tasks[mine].eq(task).all()
        assert mine.diff().eq(1).all()


@given(counts, st.data())
def test_kept_rows_take_along_what_was_in_their_slots(of_tasks: list[int], data: st.DataObject) -> None:
    slots = Slots(of_tasks, CPU)
    content = slots.fold(numbered(slots)).contiguous()
    rows = numbered(slots)
    for _ in range(3):
        staying = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1).map(sorted))
        index = torch.tensor(staying)
        tasks = slots.task_of_row()[index].unique()
        before, slots, rows = slots, slots.keep(index), rows[index]
        moved = content.transpose(1, 2).flatten(0, 1)[slots.kept]
        content = moved.view(slots.tasks, slots.per_task, 2, 3).transpose(1, 2)
        assert torch.equal(slots.unfold(content), rows)
        left = tasks if slots.kept_tasks is None else slots.kept_tasks
        assert left.tolist() == tasks.tolist()
        assert slots.tasks == len(tasks) <= before.tasks
