"""Rows that share a picture as one sequence: a trie of tokens in depth-first order.

In that order the descendants of a node follow it without a gap, so one number for each node, where they end,
says who sees whom: node i sees node j if and only if j <= i < end[j]. A single row is the trie in which
every end is the row's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """A prompt with its picture as the model reads it, the picture's placeholder made many.

    Attributes:
        tokens: shape (tokens,).
        positions: rotary positions, shape (axes, tokens).
        behind: rotary position of the first token behind it, the same on every axis.
        blocks: shape (tokens,); tokens of the same block above 0 see each other in both directions.
    """

    tokens: Ints
    positions: Ints
    behind: int
    blocks: Ints


@dataclass(frozen=True, slots=True)
class Branch:
    """One row: its prompt and the tokens behind it."""

    head: Head
    tail: tuple[int, ...]

    @property
    def tokens(self) -> Ints:
        """All tokens of the row."""
        return np.concatenate([self.head.tokens, np.asarray(self.tail, dtype=np.int64)])


@dataclass(frozen=True, slots=True)
class RowTrie:
    """Several rows as one sequence; all arrays have one entry for each node unless said otherwise.

    Attributes:
        tokens: token ids.
        ends: index behind the last descendant.
        depths: place in the row.
        positions: rotary positions, shape (axes, nodes).
        blocks: see `Head`.
        paths: for each row its nodes, first to last. A row's last token is no node unless it was asked
            for: nothing follows it, so it need not be read to be predicted.
    """

    tokens: Ints
    ends: Ints
    depths: Ints
    positions: Ints
    blocks: Ints
    paths: list[Ints]

    @classmethod
    def of(cls, rows: Sequence[Branch], *, with_last: bool = False) -> RowTrie:
        """Build the trie of `rows`, each at least one token behind its prompt."""
        building = _Building()
        paths: list[Ints] = [np.empty(0, dtype=np.int64)] * len(rows)
        whole = [row.tokens if with_last else row.tokens[:-1] for row in rows]
        for index in sorted(range(len(rows)), key=lambda i: tuple(whole[i])):
            paths[index] = building.add(rows[index].head, whole[index])
        return cls(
            tokens=np.concatenate(building.tokens),
            ends=building.finished_ends(),
            depths=np.concatenate(building.depths),
            positions=np.concatenate(building.positions, axis=1),
            blocks=np.concatenate(building.blocks),
            paths=paths,
        )

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.tokens)


@dataclass
class _Building:
    """A trie that grows row by row, the rows in token order."""

    tokens: list[Ints] = field(default_factory=list)
    depths: list[Ints] = field(default_factory=list)
    positions: list[Ints] = field(default_factory=list)
    blocks: list[Ints] = field(default_factory=list)
    size: int = 0
    _row: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _path: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _closed: list[tuple[Ints, int]] = field(default_factory=list)

    def add(self, head: Head, row: Ints) -> Ints:
        """Add what is new of a row; returns its nodes."""
        shared = common_prefix(self._row, row)
        self._closed.append((self._path[shared:], self.size))
        depths = np.arange(shared, len(row))
        self.tokens.append(row[shared:])
        self.depths.append(depths)
        self.positions.append(_positions(head, depths))
        self.blocks.append(np.where(depths < len(head.blocks), _at(head.blocks, depths), 0))
        new = np.arange(self.size, self.size + len(depths))
        self._row, self._path = row, np.concatenate([self._path[:shared], new])
        self.size += len(depths)
        return self._path

    def finished_ends(self) -> Ints:
        """Where each node's descendants end."""
        ends = np.full(self.size, self.size, dtype=np.int64)
        for nodes, end in self._closed:
            ends[nodes] = end
        return ends


def common_prefix(one: Ints, other: Ints) -> int:
    """Number of tokens that both begin with."""
    length = min(len(one), len(other))
    (differ,) = np.nonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


def _positions(head: Head, depths: Ints) -> Ints:
    """Shape (axes, depths): as the model counts them in the prompt, one by one behind it."""
    length = head.positions.shape[1]
    return np.where(depths < length, _at(head.positions, depths), head.behind + depths - length)


def _at(values: Ints, depths: Ints) -> Ints:
    return values[..., np.minimum(depths, values.shape[-1] - 1)]
