"""Work on groups that fit into memory: smaller ones when it runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from illume_plugin.errors import ModelError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_groups(
    items: Sequence[Item],
    work: Callable[[Sequence[Item], int], Iterable[Result]],
    *,
    rows: int,
    per_item: int,
) -> Iterator[Result]:
    """Results of `work` on one group after the other, each of as many items as `rows` allows.

    Where memory runs out, the group is done again with half as many rows, and so are the ones after it.

    Args:
        work: called with a group, at least one item, and the rows that it may hold at a time.
        per_item: rows of each item.

    Raises:
        ModelError: there is not enough memory even for a single row.
    """
    start = 0
    while start < len(items):
        group = items[start : start + max(1, rows // per_item)]
        try:
            results = list(work(group, rows))
        except torch.OutOfMemoryError as error:
            rows = min(rows, len(group) * per_item) // 2
            if not rows:
                raise ModelError(
                    "The device's memory does not suffice for one candidate at a time.",
                    why=str(error),
                    todo="Use a smaller base model or half precision (ILLUME_DTYPE), or free the device.",
                ) from error
        else:
            yield from results
            start += len(group)
            continue
        # Outside the handler: the error's traceback holds on to the tensors of the failed pass.
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        log.warning("Out of memory while sampling; going on with %d rows at a time.", rows)
