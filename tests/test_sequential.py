"""The sequential comparison: by hand, by its guarantee, and by simulated blind tests."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.sequential import SHARES, Comparison, Limits, Outcome, compare

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
    assert compare([-1.0] * first).outcome is Outcome.NOT_BETTER


@given(DIFFERENCES)
def test_the_two_sides_mirror_each_other(differences: list[float]) -> None:
    one, other = compare(differences), compare([-x for x in differences])
    assert one.tasks == other.tasks
    assert one.mean == pytest.approx(-other.mean)
    mirrored = {Outcome.BETTER: Outcome.NOT_BETTER, Outcome.NOT_BETTER: Outcome.BETTER}
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
    assert (found.outcome, found.tasks) == (Outcome.NOT_BETTER, 7)


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
    assert all(one.outcome is Outcome.NOT_BETTER for one in found)
    assert sum(one.tasks < Limits().most_tasks for one in found) >= 95
