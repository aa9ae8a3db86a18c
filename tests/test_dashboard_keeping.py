"""What is kept, for how long, and that one thread counts for all."""

from __future__ import annotations

import threading

import pytest

from backend.dashboard.keeping import AT_LEAST_S, AT_MOST, TIMES, Kept


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_value_is_kept_for_a_second() -> None:
    clock = Clock()
    kept, made = Kept(clock), []

    def make() -> int:
        made.append(clock.now)
        return len(made)

    assert [kept.get("a", make), kept.get("a", make)] == [1, 1]
    clock.now += AT_LEAST_S - 0.01
    assert kept.get("a", make) == 1
    clock.now += 0.02
    assert kept.get("a", make) == 2
    kept.forget()
    assert kept.get("a", make) == 3


def test_what_took_long_is_kept_for_longer() -> None:
    clock = Clock()
    kept, made = Kept(clock), []

    def slow() -> int:
        clock.now += 2.0
        made.append(clock.now)
        return len(made)

    assert kept.get("a", slow) == 1
    clock.now += 2.0 * TIMES - 0.1
    assert kept.get("a", slow) == 1
    clock.now += 0.2
    assert kept.get("a", slow) == 2


def test_a_failure_is_not_kept() -> None:
    kept = Kept(Clock())

    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kept.get("a", fail)
    assert kept.get("a", lambda: 7) == 7


def test_others_get_the_old_value_while_one_counts() -> None:
    clock = Clock()
    kept = Kept(clock)
    assert kept.get("a", lambda: "old") == "old"
    clock.now += 10
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(30)
        return "new"

    answers: list[str] = []
    counting = threading.Thread(target=lambda: answers.append(kept.get("a", slow)))
    counting.start()
    assert begun.wait(30)
    assert kept.get("a", lambda: "never asked") == "old"
    go_on.set()
    counting.join(30)
    assert answers == ["new"]
    assert kept.get("a", lambda: "never asked") == "new"


def test_keys_do_not_pile_up() -> None:
    kept = Kept(Clock())
    for key in range(3 * AT_MOST):
        kept.get(key, lambda: 0)
    assert len(kept._entries) == AT_MOST
