"""How the rows of an optimiser step become micro-batches: as plain rows, or as tries that share pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from illume_plugin.base_model import Role
from illume_plugin.training.collator import RowCollator
from illume_plugin.training.heads import Heads
from illume_plugin.training.micro_batch import MicroBatch, OwnTokens, row_columns
from illume_plugin.training.rows import EncodedRow
from illume_plugin.training.sight import Sight
from illume_plugin.training.trie import Ints, RowTrie

#: Tries that are kept from one epoch to the next.
KEPT_TRIES = 4096


class Packing(Protocol):
    """A way of computing rows."""

    name: str

    def micro_batches(self, rows: Sequence[int]) -> list[MicroBatch]:
        """Some of the run's rows, by number, as micro-batches on the processor."""
        ...

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:
        """Arguments of the forward pass about the pictures of a micro-batch."""
        ...


class PlainRows:
    """One sequence for each row, each with its own picture: what every other way must equal.

    Args:
        size: rows in a micro-batch.
    """

    name = "plain rows"

    def __init__(self, rows: Sequence[EncodedRow], collator: RowCollator, size: int) -> None:
        self._rows = rows
        self._collator = collator
        self._size = size

    def micro_batches(self, rows: Sequence[int]) -> list[MicroBatch]:
        """As many rows at a time as a micro-batch holds."""
        chunks = [rows[start : start + self._size] for start in range(0, len(rows), self._size)]
        return [self._collator({index: self._rows[index].row for index in chunk}) for chunk in chunks]

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing: the pictures are in the batch already."""
        return {}


class SharedPrefix:
    """One sequence for all rows of a step that share a picture and what stands before it.

    A micro-batch holds no more tokens, padding included, than `size` plain rows of the longest row of the
    step; a trie that is longer than that is split. So memory is bounded as with plain rows.

    Args:
        rows: all rows of the run.
        plain: computes rows that a mask of ours cannot serve (`Traits.sees_all`).
        with_last: also read each row's last token, for objectives that look at hidden states.
    """

    def __init__(
        self,
        rows: Sequence[EncodedRow],
        heads: Heads,
        plain: PlainRows,
        *,
        size: int,
        pad_id: int,
        name: str,
        with_last: bool = False,
    ) -> None:
        self.name = name
        self._rows = rows
        self._heads = heads
        self._plain = plain
        self._size = size
        self._pad_id = pad_id
        self._with_last = with_last
        self._trie = lru_cache(maxsize=KEPT_TRIES)(self._built)

    def micro_batches(self, rows: Sequence[int]) -> list[MicroBatch]:
        """The rows' tries, neighbours in length together."""
        self._heads.read(self._rows[index] for index in rows)
        lengths = {index: len(self._heads.branch(self._rows[index]).tokens) for index in rows}
        served = [index for index in rows if self._heads.traits.sees_all(lengths[index])]
        budget = self._size * max(lengths.values(), default=0)
        families = [part for family in self._families(served) for part in self._split(family, budget)]
        families.sort(key=lambda family: self._trie(family).size, reverse=True)
        others = [index for index in rows if index not in set(served)]
        return [self._packed(some) for some in self._filled(families, budget)] + (
            self._plain.micro_batches(others)
        )

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:
        """The pictures, or what the vision tower made of them."""
        return self._heads.picture_inputs(batch.pictures, device) if batch.pictures else {}

    def _families(self, rows: Sequence[int]) -> list[tuple[int, ...]]:
        found: dict[Any, list[int]] = {}
        for index in rows:
            found.setdefault(self._rows[index].key, []).append(index)
        return [tuple(family) for family in found.values()]

    def _split(self, family: tuple[int, ...], budget: int) -> Iterator[tuple[int, ...]]:
        if len(family) == 1 or self._trie(family).size <= budget:
            yield family
            return
        ordered = sorted(family, key=lambda index: self._rows[index].tail)  # neighbours share most
        for half in (ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]):
            yield from self._split(tuple(half), budget)

    def _filled(
        self, families: Sequence[tuple[int, ...]], budget: int
    ) -> Iterator[Sequence[tuple[int, ...]]]:
        """Families, the longest first, in groups whose padded sizes are within the budget."""
        start = 0
        while start < len(families):
            fit = max(1, budget // self._trie(families[start]).size)
            yield families[start : start + fit]
            start += fit

    def _built(self, family: tuple[int, ...]) -> RowTrie:
        branches = [self._heads.branch(self._rows[index]) for index in family]
        return RowTrie.of(branches, with_last=self._with_last)

    def _packed(self, families: Sequence[tuple[int, ...]]) -> MicroBatch:
        tries = [self._trie(family) for family in families]
        longest = max(trie.size for trie in tries)
        numbers = tuple(index for family in families for index in family)
        rows = [self._rows[index] for index in numbers]
        return MicroBatch(
            numbers=numbers,
            rows=tuple(row.row for row in rows),
            inputs={
                "input_ids": _padded([trie.tokens for trie in tries], longest, self._pad_id),
                "position_ids": _positions(tries, longest),
            },
            own=_own_tokens(rows, tries, with_last=self._with_last),
            sight=Sight.of(tries, longest),
            pictures=tuple(self._rows[family[0]].row.image for family in families),
        )


def _own_tokens(rows: Sequence[EncodedRow], tries: Sequence[RowTrie], *, with_last: bool) -> OwnTokens:
    """Where the rows' own tokens are; the rows stand in the order of the tries' paths."""
    paths = [(sequence, path) for sequence, trie in enumerate(tries) for path in trie.paths]
    parts = [
        _of_row(number, row, sequence, path if with_last else np.append(path, -1))
        for number, (row, (sequence, path)) in enumerate(zip(rows, paths, strict=True))
    ]
    row, sequence, predictor, place, token, answer = torch.from_numpy(np.concatenate(parts, axis=1))
    return OwnTokens(row, row_columns(row), sequence, predictor, place, token, answer.bool())


def _of_row(number: int, row: EncodedRow, sequence: int, nodes: Ints) -> Ints:
    """The fields of OwnTokens (without `column`) for one row, shape (6, own tokens); its nodes are given."""
    own = np.flatnonzero([role is not Role.PROMPT for role in row.roles])
    at = len(nodes) - len(row.tail) + own
    tail = np.asarray(row.tail, dtype=np.int64)
    answer = np.array([row.roles[index] is Role.ANSWER for index in own], dtype=np.int64)
    same = np.ones(len(own), dtype=np.int64)
    return np.stack([same * number, same * sequence, nodes[at - 1], nodes[at], tail[own], answer])


def _padded(rows: Sequence[Ints], longest: int, value: int) -> torch.Tensor:
    return torch.from_numpy(
        np.stack([np.pad(row, (0, longest - len(row)), constant_values=value) for row in rows])
    )


def _positions(tries: Sequence[RowTrie], longest: int) -> torch.Tensor:
    """Shape (tries, tokens), or (axes, tries, tokens) where there are several axes."""
    padded = [np.pad(trie.positions, ((0, 0), (0, longest - trie.size))) for trie in tries]
    positions = torch.from_numpy(np.stack(padded, axis=1))
    return positions[0] if len(positions) == 1 else positions
