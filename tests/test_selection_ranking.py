"""Ranks by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.selection import calibrated_ranks, normalised_ranks, path_rank


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([], []),
        ([7.0], [0.5]),
        ([None], [0.5]),
        ([1.0, 2.0], [0.0, 1.0]),
        ([2.0, 2.0], [0.5, 0.5]),
        ([3.0, 1.0, 2.0], [1.0, 0.0, 0.5]),
        ([1.0, 1.0, 5.0], [0.25, 0.25, 1.0]),
        ([-1.0, None, -3.0], [1.0, 0.0, 0.5]),
        ([-1.0, math.nan, None], [1.0, 0.25, 0.25]),
        ([4.0, 4.0, 4.0, 0.0, 9.0], [0.5, 0.5, 0.5, 0.0, 1.0]),
    ],
)
def test_normalised_ranks(values: list[float | None], ranks: list[float]) -> None:
    assert normalised_ranks(values) == pytest.approx(ranks)


@pytest.mark.parametrize(
    ("likelihoods", "relevances", "weight", "ranks"),
    [
        # ranks of likelihood 1, 0.5, 0; of relevance 0, 0.5, 1
        ([-1.0, -2.0, -3.0], [10.0, 20.0, 30.0], 0.9, [0.1, 0.5, 0.9]),
        ([-1.0, -2.0, -3.0], [10.0, 20.0, 30.0], 0.0, [1.0, 0.5, 0.0]),
        ([-1.0, -2.0, -3.0], [10.0, 20.0, 30.0], 1.0, [0.0, 0.5, 1.0]),
        # ranks of likelihood 0, 1; of relevance 0.5, 0.5
        ([-9.0, -1.0], [25.0, 25.0], 0.9, [0.45, 0.55]),
        # no encoder: the likelihood alone
        ([-9.0, -1.0], [None, None], 0.9, [0.0, 1.0]),
        ([-9.0, -1.0], [None, 3.0], 0.5, [0.0, 1.0]),
        ([-1.0], [30.0], 0.9, [0.5]),
    ],
)
def test_calibrated_ranks(
    likelihoods: list[float | None], relevances: list[float | None], weight: float, ranks: list[float]
) -> None:
    assert calibrated_ranks(likelihoods, relevances, weight=weight) == pytest.approx(ranks)


def test_the_weight_is_csrs() -> None:
    assert calibrated_ranks([1.0, 0.0], [0.0, 1.0]) == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_that_is_none(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        calibrated_ranks([1.0], [1.0], weight=weight)


def test_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        calibrated_ranks([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("nodes", "reward"), [([0.9], 0.9), ([0.9, 0.5], 0.7), ([1.0, 0.0, 0.5], 0.5)])
def test_a_path_is_the_mean_of_its_sentences(nodes: list[float], reward: float) -> None:
    assert path_rank(nodes) == pytest.approx(reward)


def test_a_path_without_sentences() -> None:
    with pytest.raises(ValueError, match="sentences"):
        path_rank([])


@given(st.lists(st.none() | st.floats(allow_infinity=False), min_size=2, max_size=12))
def test_ranks_are_fair(values: list[float | None]) -> None:
    ranks = normalised_ranks(values)
    assert all(0 <= rank <= 1 for rank in ranks)
    assert sum(ranks) == pytest.approx(len(ranks) / 2)
