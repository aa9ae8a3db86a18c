"""Events that come at the same time are kept by one commit, and none is answered before that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import both_stores
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DataError

from backend.inbox import Inbox
from illume_plugin.errors import UnavailableError
from illume_plugin.store import Store, events
from illume_plugin.store.tables import events as events_table

#: Longer than anything here takes.
SOON_S = 60.0


def row(number: int) -> dict[str, Any]:
    return events.row({"action": "SOMETHING", "number": number, "project": {"id": 2}}, now=float(number))


def stored(store: Store) -> list[int]:
    with store.read() as conn:
        bodies = conn.execute(select(events_table.c.body).order_by(events_table.c.event_id)).scalars()
        return [body["number"] for body in bodies]


def until(reached: Callable[[], bool]) -> None:
    looked = threading.Event()
    while not reached():
        looked.wait(0.002)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


class Gate(Store):
    """A store whose first commit waits until it may go on; it counts commits and the rows of each."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reached, self.open = threading.Event(), threading.Event()
        self.commits = 0
        self.before: Callable[[Connection], None] = lambda conn: None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.commits += 1
        if self.commits == 1:
            self.reached.set()
            assert self.open.wait(SOON_S)
        with super().write() as conn:
            self.before(conn)
            yield conn


@pytest.fixture
def gate(database: str) -> Iterator[Gate]:
    store = Gate(database)
    yield store
    store.close()


def crowd(inbox: Inbox, gate: Gate, rows: Sequence[Mapping[str, Any]]) -> list[bool | Exception]:
    """Keep the first row, and while its commit waits all others; what became of each."""

    def keep(one: Mapping[str, Any]) -> bool | Exception:
        try:
            return inbox.keep(one)
        except Exception as error:  # noqa: BLE001 - handed to the test
            return error

    with ThreadPoolExecutor(len(rows)) as pool:
        first = pool.submit(keep, rows[0])
        assert gate.reached.wait(SOON_S)
        others = [pool.submit(keep, one) for one in rows[1:]]
        until(lambda: len(inbox._waiting) == len(others))
        gate.open.set()
        return [each.result(SOON_S) for each in (first, *others)]


@both_stores
def test_whoever_comes_during_a_commit_shares_the_next_one(gate: Gate) -> None:
    inbox = Inbox(gate)
    assert crowd(inbox, gate, [row(number) for number in range(9)]) == [True] * 9
    assert gate.commits == 2
    assert sorted(stored(gate)) == list(range(9))
    assert inbox.keep(row(9))
    assert gate.commits == 3


@both_stores
def test_what_is_there_already_is_told_also_within_one_commit(gate: Gate) -> None:
    kept = crowd(Inbox(gate), gate, [row(0), row(0), row(1), row(1), row(1)])
    assert kept[:2] == [True, False]
    assert sorted(map(bool, kept[2:])) == [False, False, True]
    assert sorted(stored(gate)) == [0, 1]


def test_a_database_that_is_away_is_told_to_all_and_nothing_is_kept(gate: Gate) -> None:
    def fail(_: Connection) -> None:
        raise UnavailableError("The database is away.")

    gate.before = fail
    inbox = Inbox(gate)
    told = crowd(inbox, gate, [row(number) for number in range(5)])
    assert [str(each) for each in told] == ["The database is away."] * 5
    assert stored(gate) == []
    gate.before = lambda conn: None
    assert inbox.keep(row(7)), "the next one is written as if nothing had been"


def test_an_event_that_the_database_refuses_spoils_no_other(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = events.append_rows

    def refusing(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        if any(json.loads(one["body"].text)["number"] == 3 for one in rows):
            raise DataError("insert", {}, ValueError("too large"))
        return append(conn, rows)

    monkeypatch.setattr(events, "append_rows", refusing)
    told = crowd(Inbox(gate), gate, [row(number) for number in range(6)])
    assert [each for each in told if each is not True] == [told[3]]
    assert isinstance(told[3], DataError)
    assert sorted(stored(gate)) == [0, 1, 2, 4, 5]


class _Ended(BaseException):
    """What ends a thread where it is."""


def test_a_writer_that_is_ended_leaves_nobody_waiting(gate: Gate) -> None:
    def end(_: Connection) -> None:
        if gate.commits == 1:
            raise _Ended

    gate.before = end
    inbox = Inbox(gate)
    ended: list[type[BaseException]] = []

    def first() -> None:
        try:
            inbox.keep(row(0))
        except _Ended:
            ended.append(_Ended)

    thread = threading.Thread(target=first)
    thread.start()
    assert gate.reached.wait(SOON_S)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(inbox.keep, row(number)) for number in (1, 2, 3)]
        until(lambda: len(inbox._waiting) == 3)
        gate.open.set()
        assert [each.result(SOON_S) for each in others] == [True] * 3
    thread.join(SOON_S)
    assert ended == [_Ended]
    assert sorted(stored(gate)) == [1, 2, 3]


@both_stores
def test_many_at_once_are_all_kept_once(store: Store) -> None:
    inbox = Inbox(store)
    numbers = [number % 150 for number in range(300)]
    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(lambda number: inbox.keep(row(number)), numbers))
    assert sum(kept) == 150
    assert sorted(stored(store)) == list(range(150))
    with store.read() as conn:
        count = conn.execute(select(func.count()).select_from(events_table)).scalar_one()
    assert count == 150
