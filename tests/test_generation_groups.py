"""Groups that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.errors import ModelError  # noqa: E402
from illume_plugin.generation.groups import in_groups  # noqa: E402

pytestmark = pytest.mark.torch


class Device:
    """Has memory for some rows at a time; tells what it was asked for."""

    def __init__(self, holds: int, per_item: int) -> None:
        self.holds, self.per_item = holds, per_item
        self.calls: list[tuple[str, int]] = []

    def work(self, group: Sequence[str], rows: int) -> list[str]:
        self.calls.append(("".join(group), rows))
        if min(rows, len(group) * self.per_item) > self.holds:
            raise torch.OutOfMemoryError("tried to allocate")
        return [item.upper() for item in group]


@pytest.mark.parametrize(
    ("holds", "rows", "per_item", "calls"),
    [
        (99, 10, 5, [("ab", 10), ("cd", 10), ("e", 10)]),
        (99, 3, 5, [("a", 3), ("b", 3), ("c", 3), ("d", 3), ("e", 3)]),
        (99, 50, 5, [("abcde", 50)]),
        (5, 10, 5, [("ab", 10), ("a", 5), ("b", 5), ("c", 5), ("d", 5), ("e", 5)]),
        (5, 90, 1, [("abcde", 90)]),
        (3, 90, 1, [("abcde", 90), ("ab", 2), ("cd", 2), ("e", 2)]),
        (
            1,
            20,
            5,
            [("abcd", 20), ("ab", 10), ("a", 5), ("a", 2), ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)],
        ),
    ],
)
def test_groups_shrink_until_they_fit(
    holds: int,
    rows: int,
    per_item: int,
    calls: list[tuple[str, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = Device(holds, per_item)
    with caplog.at_level(logging.WARNING):
        assert list(in_groups("abcde", device.work, rows=rows, per_item=per_item)) == list("ABCDE")
    assert device.calls == calls
    asked = [rows for _, rows in calls]
    assert len(caplog.records) == len(set(asked)) - 1


def test_too_little_memory_for_one_row() -> None:
    with pytest.raises(ModelError, match="memory"):
        list(in_groups("ab", Device(0, 5).work, rows=10, per_item=5))


def test_nothing_to_do() -> None:
    assert list(in_groups("", Device(0, 5).work, rows=10, per_item=5)) == []
