"""Candidates as a tree of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.scoring.tree import PROMPT, Tokens, TokenTree, common_prefix, groups

CANDIDATES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), max_size=8)


def test_what_begins_alike_stands_there_once() -> None:
    tree = TokenTree.of([(5, 6, 7, 2), (5, 6, 8, 2), (9, 2), (2,)])
    assert tree.tokens == [5, 6, 7, 8, 9]
    assert tree.parents == [PROMPT, 0, 1, 1, PROMPT]
    assert tree.depths == [0, 1, 2, 2, 0]
    assert tree.paths == [[-1, 0, 1, 2], [-1, 0, 1, 3], [-1, 4], [-1]]
    assert tree.ancestors().astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    ("candidates", "chain"),
    [
        ([], True),
        ([(2,)], True),
        ([(5, 6, 2)], True),
        ([(5, 6, 2), (5, 2)], True),
        ([(5, 2), (6, 2)], False),
        ([(5, 6, 2), (5, 7, 2)], False),
    ],
)
def test_a_chain_does_not_branch(candidates: list[Tokens], chain: bool) -> None:
    assert TokenTree.of(candidates).chain is chain


@given(CANDIDATES)
def test_every_candidate_can_be_read_off(candidates: list[Tokens]) -> None:
    tree = TokenTree.of(candidates)
    for candidate, path in zip(candidates, tree.paths, strict=True):
        assert tuple(tree.tokens[node] for node in path[1:]) == candidate[:-1]
        assert [tree.depths[node] for node in path[1:]] == list(range(len(candidate) - 1))
    beginnings = {candidate[:end] for candidate in candidates for end in range(1, len(candidate))}
    assert len(tree.tokens) == len(beginnings)


@given(CANDIDATES, st.integers(1, 12))
def test_groups_hold_everything_once_and_are_small(candidates: list[Tokens], at_most: int) -> None:
    found = list(groups(candidates, at_most))
    assert sorted(index for group in found for index in group) == list(range(len(candidates)))
    for group in found:
        assert len(group) == 1 or len(TokenTree.of([candidates[i] for i in group]).tokens) <= at_most


@pytest.mark.parametrize(("one", "other", "length"), [([], [], 0), ([1, 2], [1, 2, 3], 2), ([1], [2], 0)])
def test_common_prefix(one: list[int], other: list[int], length: int) -> None:
    assert common_prefix(one, other) == length
