"""The trie of a picture's rows, and who sees whom in it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import numpy as np  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from illume_plugin.training.sight import Sight  # noqa: E402
from illume_plugin.training.traits import FULL, SLIDING, Traits  # noqa: E402
from illume_plugin.training.trie import Branch, Head, RowTrie  # noqa: E402

pytestmark = pytest.mark.torch


def head(tokens: list[int], *, behind: int | None = None, blocks: list[int] | None = None) -> Head:
    size = len(tokens)
    return Head(
        tokens=np.array(tokens),
        positions=np.arange(size)[None],
        behind=size if behind is None else behind,
        blocks=np.array(blocks or [0] * size),
    )


HEADS = st.sampled_from([[7, 8, 8, 9], [7, 8, 8, 3], [7, 8, 8]])
TAILS = st.lists(st.integers(0, 2), min_size=1, max_size=5)
ROWS = st.lists(st.tuples(HEADS, TAILS), min_size=1, max_size=6)


@given(ROWS, st.booleans())
def test_each_row_is_there_and_sees_itself_alone(
    told: list[tuple[list[int], list[int]]], with_last: bool
) -> None:
    rows = [Branch(head(start), tuple(tail)) for start, tail in told]
    trie = RowTrie.of(rows, with_last=with_last)
    seen = Sight.of([trie], trie.size).visible(None)[0]
    for row, path in zip(rows, trie.paths, strict=True):
        read = row.tokens if with_last else row.tokens[:-1]
        assert trie.tokens[path].tolist() == read.tolist()
        assert trie.depths[path].tolist() == list(range(len(read)))
        assert trie.positions[0, path].tolist() == list(range(len(read)))
        for place, node in enumerate(path):
            assert seen[node].nonzero()[:, 0].tolist() == path[: place + 1].tolist()


@given(ROWS)
def test_what_rows_begin_with_stands_there_once(told: list[tuple[list[int], list[int]]]) -> None:
    trie = RowTrie.of([Branch(head(start), tuple(tail)) for start, tail in told])
    texts = [(start + tail)[:-1] for start, tail in told]
    assert trie.size == len({tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)})


def test_positions_go_on_behind_the_prompt_as_the_model_counts() -> None:
    grid = Head(np.array([7, 8, 8]), np.array([[0, 1, 1], [0, 1, 2]]), 3, np.zeros(3, dtype=np.int64))
    trie = RowTrie.of([Branch(grid, (1, 2, 3)), Branch(grid, (2, 2))])
    assert trie.tokens.tolist() == [7, 8, 8, 1, 2, 2]
    assert trie.positions.tolist() == [[0, 1, 1, 3, 4, 3], [0, 1, 2, 3, 4, 3]]
    assert trie.ends.tolist() == [6, 6, 6, 5, 5, 6]


def test_windows_blocks_and_padding() -> None:
    told = head([7, 8, 8, 9], blocks=[0, 1, 1, 0])
    wide = RowTrie.of([Branch(told, (1, 2, 3)), Branch(told, (2, 2))])
    narrow = RowTrie.of([Branch(told, (1, 2))])
    seen = Sight.of([wide, narrow], wide.size).visible(2).int().tolist()
    assert seen[0] == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],  # tokens of a block see each other, also what comes later
        [0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 0, 0, 1],  # the other branch: its window goes back to the prompt
    ]
    assert seen[1][4:] == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("windows", "per_kind", "tokens", "served"),
    [
        ({FULL: None}, False, 999, True),
        ({SLIDING: 4}, False, 999, True),  # one mask, and it knows the window
        ({FULL: None, SLIDING: 4}, True, 999, True),
        ({FULL: None, SLIDING: 4}, False, 4, True),
        ({FULL: None, SLIDING: 4}, False, 5, False),
    ],
)
def test_what_a_mask_can_serve(
    windows: dict[str, int | None], per_kind: bool, tokens: int, served: bool
) -> None:
    assert Traits(windows, per_kind, False, True, True).sees_all(tokens) is served


def test_masks_by_kind_of_layer() -> None:
    sight = Sight.of([RowTrie.of([Branch(head([7, 8, 9]), (1,))])], 3)
    one = sight.masks(Traits({SLIDING: 2}, True, False, True, True), torch.float32)
    each = sight.masks(Traits({FULL: None, SLIDING: 2}, True, False, True, True), torch.float32)
    assert isinstance(one, torch.Tensor)
    assert isinstance(each, dict)
    assert one.shape == (1, 1, 3, 3)
    assert torch.equal(one, each[SLIDING])
    assert (each[FULL] == 0).sum() == 6
    assert (each[SLIDING] == 0).sum() == 5
    assert bool(torch.isfinite(each[SLIDING]).all())
