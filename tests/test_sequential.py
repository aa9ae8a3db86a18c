"""The sequential comparison: by hand, by its guarantee, and by simulated blind tests."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.sequential import SHARES, Comparison, Limits, Outcome, compare, interval

DIFFERENCES = st.lists(st.sampled_from([-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0]), max_size=80)
#: A stream of judged tasks with three candidates of each adapter.
ROWS = 3
REPEATS = 100


def stream(active: float, challenger: float, seed: int) -> Iterator[float]:
    """Differences of tick shares; how easy a task is moves both adapters alike."""
    rng = random.Random(seed)
    while True:
        ease = rng.uniform(-0.2, 0.2)
        ticks = [sum(rng.random() < rate + ease for _ in range(ROWS)) / ROWS for rate in (challenger, active)]
        yield ticks[0] - ticks[1]


def blind_test(active: float, challenger: float, seed: int) -> Comparison:
    found, tasks = Comparison(), stream(active, challenger, seed)
    while found.outcome is Outcome.OPEN:
        found.add(next(tasks))
    return found


def test_wealth_by_hand() -> None:
    # after n tasks with x = 1 the wealth is the mean of (1 + share)^n
    wealth = [sum((1 + share) ** n for share in SHARES) / len(SHARES) for n in range(1, 40)]
    first = next(n for n, each in enumerate(wealth, start=1) if each >= 20)
    assert compare([1.0] * (first - 1)).outcome is Outcome.OPEN
    assert compare([1.0] * first).outcome is Outcome.BETTER
    assert compare([-1.0] * first).outcome is Outcome.WORSE


@given(DIFFERENCES)
def test_the_two_sides_mirror_each_other(differences: list[float]) -> None:
    one, other = compare(differences), compare([-x for x in differences])
    assert one.tasks == other.tasks
    assert one.mean == pytest.approx(-other.mean)
    mirrored = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
    assert other.outcome is mirrored.get(one.outcome, Outcome.OPEN)


@given(DIFFERENCES, DIFFERENCES)
def test_the_first_verdict_stays(differences: list[float], later: list[float]) -> None:
    found = compare(differences)
    if found.outcome is not Outcome.OPEN:
        assert compare([*differences, *later]) == found


@given(st.integers(1, 6), st.floats(0.01, 0.99))
def test_a_bet_on_what_is_fair_keeps_its_mean(n: int, chance: float) -> None:
    # every series of n outcomes +a and -b with mean 0: the expected wealth stays 1
    up, down = 1 - chance, chance
    total = 0.0
    for bits in range(2**n):
        steps = [up if bits >> k & 1 else -down for k in range(n)]
        probability = math.prod(chance if step > 0 else 1 - chance for step in steps)
        wealth = sum(math.prod(1 + share * x for x in steps) for share in SHARES) / len(SHARES)
        total += probability * wealth
    assert total == pytest.approx(1.0)


def test_it_ends_after_the_tasks_it_was_given() -> None:
    found = compare([0.0] * 20, Limits(most_tasks=7))
    assert (found.outcome, found.tasks) == (Outcome.UNDECIDED, 7)


def test_shares_are_bets_that_cannot_ruin() -> None:
    assert all(0 < share < 1 for share in SHARES)


@pytest.mark.parametrize("wrong", [1.01, -2.0, math.nan, math.inf])
def test_what_is_no_difference_of_shares_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"in \[-1, 1\]"):
        Comparison().add(wrong)


@pytest.mark.parametrize("limits", [{"alpha": 0.0}, {"alpha": 1.0}, {"most_tasks": 0}])
def test_limits_that_cannot_be(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="alpha must be"):
        Limits(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("active", [0.3, 0.5, 0.7])
def test_ten_points_better_is_promoted_in_95_of_100(active: float) -> None:
    found = [blind_test(active, active + 0.1, seed) for seed in range(REPEATS)]
    assert sum(one.outcome is Outcome.BETTER for one in found) >= 95


@pytest.mark.parametrize(("active", "challenger"), [(0.5, 0.4), (0.5, 0.48), (0.5, 0.5)])
def test_what_is_no_better_is_promoted_in_5_of_100_at_most(active: float, challenger: float) -> None:
    found = [blind_test(active, challenger, seed) for seed in range(REPEATS)]
    assert sum(one.outcome is Outcome.BETTER for one in found) <= 5


def test_what_is_worse_ends_before_its_time() -> None:
    found = [blind_test(0.5, 0.4, seed) for seed in range(REPEATS)]
    assert sum(one.outcome is Outcome.WORSE for one in found) >= 95
    assert not any(one.outcome is Outcome.BETTER for one in found)


@given(DIFFERENCES)
def test_the_interval_leaves_0_exactly_when_it_is_decided(differences: list[float]) -> None:
    known = compare(differences, Limits(0.2))
    low, high = interval(differences[: known.tasks], 0.2)
    assert -1 <= low <= high <= 1
    assert low - 1e-5 <= known.mean <= high + 1e-5
    said = {Outcome.BETTER: low > -1e-5, Outcome.WORSE: high < 1e-5, Outcome.OPEN: low < 0 < high}
    assert said[known.outcome]


def test_the_interval_holds_the_mean_however_often_one_looks() -> None:
    kept = 0
    for seed in range(REPEATS):
        tasks = stream(0.5, 0.6, seed)
        seen = [next(tasks) for _ in range(120)]
        looks = (interval(seen[:n], 0.05) for n in range(10, 121, 10))
        kept += all(low <= 0.1 <= high for low, high in looks)
    assert kept >= 90


@given(DIFFERENCES)
def test_what_is_expected_stays_within_the_limit(differences: list[float]) -> None:
    known = compare(differences, Limits(most_tasks=60))
    if known.outcome is not Outcome.OPEN:
        assert known.expected == 0
    elif known.tasks < 10:
        assert known.expected is None
    else:
        assert known.expected is not None
        assert 1 <= known.expected <= 60 - known.tasks


@pytest.mark.parametrize("difference", [0.3, -0.3])
def test_what_is_expected_comes_true_where_nothing_changes(difference: float) -> None:
    needed = next(n for n in range(1, 1000) if compare([difference] * n).outcome is not Outcome.OPEN)
    expected = compare([difference] * (needed // 2)).expected
    assert expected is not None
    assert 0.5 <= expected / (needed - needed // 2) <= 2
