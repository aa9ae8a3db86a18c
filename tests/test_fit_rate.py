"""Fit rates and their intervals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.fit_rate import TaskSums, effective_number, fit_rate, wilson_interval
from illume_plugin.intervals import wilson


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_interval_is_wilsons(ticked: int, more: int) -> None:
    n = ticked + more
    expected = wilson([1.0] * ticked + [0.0] * more)
    assert wilson_interval(ticked / n, n) == pytest.approx((expected.low, expected.high))


PAIRS = st.integers(1, 6).flatmap(lambda m: st.tuples(st.just(m), st.integers(0, m)))


@given(st.lists(PAIRS, min_size=1, max_size=30))
def test_the_rate_lies_in_its_interval(pairs: list[tuple[int, int]]) -> None:
    found = fit_rate(TaskSums.of(pairs))
    assert found.value == pytest.approx(sum(f for _, f in pairs) / sum(m for m, _ in pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == sum(m for m, _ in pairs)


@pytest.mark.parametrize(
    ("pairs", "number"),
    [
        ([(6, 6), (6, 0)] * 20, pytest.approx(39.0)),  # all or none of a task: as many as tasks (less one)
        ([(1, 1), (1, 0)] * 20, pytest.approx(39.0)),  # one candidate each: the tasks again
        ([(6, 3)] * 20, 20.0),  # no spread at all says nothing: each task counts once
        ([(6, 6)] * 20, 20.0),  # nor does a rate of 1
        ([(4, 2)], 1.0),
    ],
)
def test_how_many_independent_candidates_it_is_worth(pairs: list[tuple[int, int]], number: object) -> None:
    sums = TaskSums.of(pairs)
    assert effective_number(sums, sums.ticked / sums.shown) == number


def test_nothing_shown_has_no_rate() -> None:
    with pytest.raises(ValueError, match="nothing shown"):
        fit_rate(TaskSums.of([]))


def test_the_interval_covers_the_truth_where_tasks_differ() -> None:
    """Tasks are easy (0.9) or hard (0.1), half of each: the truth is 0.5, in 95 of 100 repeats or so."""
    rng = random.Random(1)

    def covered() -> bool:
        pairs = []
        for _ in range(60):
            chance = rng.choice((0.9, 0.1))
            pairs.append((6, sum(rng.random() < chance for _ in range(6))))
        found = fit_rate(TaskSums.of(pairs))
        return found.low <= 0.5 <= found.high

    assert sum(covered() for _ in range(300)) >= 273
