"""How the terms of a step become micro-batches: of plain rows, or of tries that share pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from illume_plugin.training.terms import Term
from illume_plugin.training.trie import Ints, RowTrie

#: Tries that are kept from one epoch to the next.
KEPT_TRIES = 4096


class Packing(Protocol):
    """A way of computing rows.

    What a term needs comes in one micro-batch. Where terms that share a row come in several micro-batches,
    the row is computed in each of them.

    Attributes:
        size: a micro-batch holds no more tokens, padding included, than so many rows of the step's longest,
            unless a single term needs more; may be made smaller between two steps.
    """

    name: str
    size: int

    def micro_batches(self, numbers: Sequence[int]) -> list[MicroBatch]:
        """Some of the run's terms, by number, as micro-batches on the processor."""
        ...

    def packed(self, terms: Sequence[Term]) -> list[MicroBatch]:
        """Any terms over the run's rows as micro-batches on the processor, each term in one of them."""
        ...

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:
        """Arguments of the forward pass about the pictures of a micro-batch."""
        ...


class PlainRows:
    """One sequence for each row, each with its own picture: what every other way must equal.

    Args:
        rows: all rows of the run.
        terms: all terms over them.
        size: rows in a micro-batch; more only where a single term needs more.
    """

    name = "plain rows"

    def __init__(
        self, rows: Sequence[EncodedRow], terms: Sequence[Term], collator: RowCollator, size: int
    ) -> None:
        self._rows = rows
        self._terms = terms
        self._collator = collator
        self.size = size

    def micro_batches(self, numbers: Sequence[int]) -> list[MicroBatch]:
        """Some of the run's terms; see `packed`."""
        return self.packed([self._terms[number] for number in numbers])

    def packed(self, terms: Sequence[Term]) -> list[MicroBatch]:
        """As many rows at a time as a micro-batch holds."""
        return [self._collated(some) for some in self._filled(terms)]

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing: the pictures are in the batch already."""
        return {}

    def _filled(self, terms: Sequence[Term]) -> Iterator[Sequence[Term]]:
        """Neighbours together, as long as they need no more than `size` rows."""
        start, held = 0, set[int]()
        for index, term in enumerate(terms):
            if index > start and len(held | set(term.rows)) > self.size:
                yield terms[start:index]
                start, held = index, set()
            held |= set(term.rows)
        if terms:
            yield terms[start:]

    def _collated(self, terms: Sequence[Term]) -> MicroBatch:
        numbers = rows_of(terms)
        return replace(self._collator({n: self._rows[n].row for n in numbers}), terms=tuple(terms))


class SharedPrefix:
    """One sequence for all rows of a step that share a picture and what stands before it.

    A micro-batch holds no more tokens, padding included, than `size` plain rows of the longest row of the
    step; a trie that is longer than that is split, unless a single term needs it whole. So memory is bounded
    as with plain rows.

    Args:
        rows: all rows of the run.
        terms: all terms over them.
        plain: computes rows that a mask of ours cannot serve (`Traits.sees_all`).
        with_last: also read each row's last token, for objectives that look at hidden states.
    """

    def __init__(
        self,
        rows: Sequence[EncodedRow],
        terms: Sequence[Term],
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
        self._terms = terms
        self._heads = heads
        self._plain = plain
        self._size = size
        self._pad_id = pad_id
        self._with_last = with_last
        self._trie = lru_cache(maxsize=KEPT_TRIES)(self._built)

    @property
    def size(self) -> int:
        """See `Packing`; plain rows have the same."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = self._plain.size = size

    def micro_batches(self, numbers: Sequence[int]) -> list[MicroBatch]:
        """Some of the run's terms; see `packed`."""
        return self.packed([self._terms[number] for number in numbers])

    def packed(self, terms: Sequence[Term]) -> list[MicroBatch]:
        """The rows' tries, neighbours in length together."""
        rows = rows_of(terms)
        self._heads.read(self._rows[index] for index in rows)
        lengths = {index: len(self._heads.branch(self._rows[index]).tokens) for index in rows}
        served = {index for index in rows if self._heads.traits.sees_all(lengths[index])}
        budget = self._size * max(lengths.values(), default=0)
        shared = [term for term in terms if served.issuperset(term.rows)]
        families = [part for family in self._families(shared) for part in self._split(family, budget)]
        families.sort(key=self._length, reverse=True)
        others = [term for term in terms if not served.issuperset(term.rows)]
        batches = [self._joined(some) for some in self._filled(families, budget)]
        return batches + self._plain.packed(others)

    def pictures(self, batch: MicroBatch, device: torch.device) -> Mapping[str, Any]:
        """The pictures, or what the vision tower made of them."""
        return self._heads.picture_inputs(batch.pictures, device) if batch.pictures else {}

    def _families(self, terms: Sequence[Term]) -> list[list[Term]]:
        """Terms whose rows share a picture; a term's own rows do, being of one task."""
        found: dict[Any, list[Term]] = {}
        for term in terms:
            found.setdefault(self._rows[term.rows[0]].key, []).append(term)
        return list(found.values())

    def _split(self, family: Sequence[Term], budget: int) -> Iterator[Sequence[Term]]:
        if len(family) == 1 or self._length(family) <= budget:
            yield family
            return
        ordered = sorted(family, key=lambda term: self._rows[term.rows[0]].tail)  # neighbours share most
        for half in (ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]):
            yield from self._split(half, budget)

    def _filled(self, families: Sequence[Sequence[Term]], budget: int) -> Iterator[Sequence[Sequence[Term]]]:
        """Families, the longest first, in groups whose padded sizes are within the budget."""
        start = 0
        while start < len(families):
            fit = max(1, budget // self._length(families[start]))
            yield families[start : start + fit]
            start += fit

    def _length(self, family: Sequence[Term]) -> int:
        return self._trie(rows_of(family)).size

    def _built(self, family: tuple[int, ...]) -> RowTrie:
        branches = [self._heads.branch(self._rows[index]) for index in family]
        return RowTrie.of(branches, with_last=self._with_last)

    def _joined(self, families: Sequence[Sequence[Term]]) -> MicroBatch:
        of_each = [rows_of(family) for family in families]
        tries = [self._trie(numbers) for numbers in of_each]
        longest = max(trie.size for trie in tries)
        rows = [self._rows[index] for numbers in of_each for index in numbers]
        return MicroBatch(
            numbers=tuple(index for numbers in of_each for index in numbers),
            rows=tuple(row.row for row in rows),
            inputs={
                "input_ids": _padded([trie.tokens for trie in tries], longest, self._pad_id),
                "position_ids": _positions(tries, longest),
            },
            own=_own_tokens(rows, tries, with_last=self._with_last),
            sight=Sight.of(tries, longest),
            pictures=tuple(self._rows[numbers[0]].row.image for numbers in of_each),
            terms=tuple(term for family in families for term in family),
        )


def rows_of(terms: Iterable[Term]) -> tuple[int, ...]:
    """The numbers of the rows that some terms need, each once, in the order in which it first comes."""
    return tuple(dict.fromkeys(row for term in terms for row in term.rows))


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
