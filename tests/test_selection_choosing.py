"""Choosing good and different candidates."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.selection import choose
from illume_plugin.types import Candidate

POOL = st.lists(
    st.builds(
        Candidate,
        st.text(alphabet="abcd ", min_size=1, max_size=12),
        st.sampled_from([0.3, 0.9]),
        st.integers(0, 9),
        logprob_mean=st.none() | st.floats(-9, 0),
        rank=st.none() | st.floats(0, 1),
    ),
    max_size=12,
)


def ranked(**ranks: float) -> list[Candidate]:
    return [Candidate(text.replace("_", " "), 0.5, 1, rank=rank) for text, rank in ranks.items()]


def chosen(pool: list[Candidate], limit: int, **settings: float) -> list[str]:
    return [candidate.text for candidate in choose(pool, limit, **settings)]


@pytest.mark.parametrize(
    ("trade_off", "expected"),
    [
        (1.0, ["a b c d", "a b c e"]),  # quality alone
        # second place: 0.7 * 0.9 - 0.3 * 0.75 = 0.405 for "a b c e", 0.7 * 0.5 - 0 = 0.35 for "x y z"
        (0.7, ["a b c d", "a b c e"]),
        # 0.5 * 0.9 - 0.5 * 0.75 = 0.075 against 0.5 * 0.5 = 0.25
        (0.5, ["a b c d", "x y z"]),
        (0.0, ["a b c d", "x y z"]),
    ],
)
def test_the_trade_off_by_hand(trade_off: float, expected: list[str]) -> None:
    pool = ranked(a_b_c_d=1.0, a_b_c_e=0.9, x_y_z=0.5)
    assert chosen(pool, 2, trade_off=trade_off) == expected


def test_the_best_comes_first_whenever_it_was_taken() -> None:
    pool = ranked(a_b_c_d=1.0, a_b_c_e=0.9, x_y_z=0.1)
    assert chosen(pool, 3, trade_off=0.1) == ["a b c d", "a b c e", "x y z"]


def test_without_ranks_the_likelier_goes_first() -> None:
    pool = [Candidate("a", 0.5, 1), Candidate("b", 0.5, 1, logprob_mean=-2.0)]
    assert chosen([*pool, Candidate("c", 0.5, 1, logprob_mean=-1.0)], 2) == ["c", "b"]


@pytest.mark.parametrize("limit", [0, -1])
def test_no_room(limit: int) -> None:
    assert choose(ranked(a=1.0), limit) == []


def test_nothing_to_choose_from() -> None:
    assert choose([], 5) == []


@given(POOL, st.integers(0, 12), st.floats(0, 1), st.integers(0, 2**31))
def test_order_makes_no_difference_and_nothing_is_made_up(
    pool: list[Candidate], limit: int, trade_off: float, seed: int
) -> None:
    found = choose(pool, limit, trade_off=trade_off)
    shuffled = list(pool)
    Random(seed).shuffle(shuffled)
    assert choose(shuffled, limit, trade_off=trade_off) == found
    assert len(found) == min(limit, len(pool))
    left = list(pool)
    for candidate in found:
        left.remove(candidate)


@given(POOL, st.floats(0, 1))
def test_with_room_for_all_all_are_chosen_and_the_best_always(
    pool: list[Candidate], trade_off: float
) -> None:
    assert len(choose(pool, len(pool), trade_off=trade_off)) == len(pool)
    if pool and trade_off > 0.01:
        best = max(0.5 if candidate.rank is None else candidate.rank for candidate in pool)
        first = choose(pool, 1, trade_off=trade_off)[0].rank
        assert (0.5 if first is None else first) == pytest.approx(best, abs=1e-9)
