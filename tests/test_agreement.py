"""Agreement of annotators against tables worked out by hand."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.agreement import Votes, krippendorff_alpha, pairwise_agreement

# Two observers, ten units, yes/no: K. Krippendorff, Computing Krippendorff's Alpha-Reliability, section B.
MEG = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
OWEN = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def test_the_published_example() -> None:
    tasks = [[(2, a + b)] for a, b in zip(MEG, OWEN, strict=True)]
    found = krippendorff_alpha(tasks)
    assert found is not None
    assert found.value == pytest.approx(0.095, abs=0.0005)
    assert found.low < 0 < found.high
    assert found.n == 10
    assert pairwise_agreement(tasks) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("tasks", "alpha"),
    [
        ([[(2, 2), (2, 0)], [(2, 0), (2, 2)]], 1.0),  # the same of everything
        ([[(2, 1), (2, 1)], [(2, 1), (2, 1)]], 1 - 8 / (2 * 4 * 4 / 7)),  # never the same
        ([[(2, 2)], [(2, 0)], [(1, 1)], [(1, 0)]], 1.0),  # those of one annotator alone do not count
        # three annotators, one apart: 2 * 2 * 1 / 2 = 2 of an expected 2 * 5 * 4 / 8 = 5
        ([[(3, 2)], [(3, 3)], [(3, 0)]], 1 - 2 / (2 * 5 * 4 / 8)),
    ],
)
def test_by_hand(tasks: list[list[Votes]], alpha: float) -> None:
    found = krippendorff_alpha(tasks)
    assert found is not None
    assert found.value == pytest.approx(alpha)


@pytest.mark.parametrize("tasks", [[], [[]], [[(1, 1)], [(1, 0)]], [[(2, 2)], [(3, 3)]], [[(2, 0)]]])
def test_where_it_says_nothing(tasks: list[list[Votes]]) -> None:
    assert krippendorff_alpha(tasks) is None


def test_one_task_alone_has_the_widest_interval() -> None:
    found = krippendorff_alpha([[(2, 1), (2, 2), (2, 0)]])
    assert found is not None
    assert (found.low, found.high) == (-1.0, 1.0)


VOTES = st.integers(2, 4).flatmap(lambda m: st.tuples(st.just(m), st.integers(0, m)))


@given(st.lists(st.lists(VOTES, max_size=4), max_size=12))
def test_swapping_yes_and_no_changes_nothing(tasks: list[list[Votes]]) -> None:
    swapped = [[(m, m - t) for m, t in votes] for votes in tasks]
    one, other = krippendorff_alpha(tasks), krippendorff_alpha(swapped)
    assert (one is None) == (other is None)
    if one and other:
        assert one.value == pytest.approx(other.value)
        assert one.low <= one.value <= one.high


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=5), min_size=1, max_size=8))
def test_pairs_are_counted_one_by_one(units: list[list[bool]]) -> None:
    pairs = [a == b for said in units for a, b in combinations(said, 2)]
    tasks = [[(len(said), sum(said))] for said in units]
    assert pairwise_agreement(tasks) == pytest.approx(sum(pairs) / len(pairs))
