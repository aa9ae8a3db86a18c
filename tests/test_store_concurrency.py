"""Two transactions of PostgreSQL at the same time: the second waits for the first, and acts on its outcome.

SQLite has one writer at a time. Each test runs one verb to its end, lets another process's verb begin, and
commits the first only when the second has ended or waits for a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection
from test_retrain import submitted

from illume_plugin.errors import ConflictError, UnavailableError
from illume_plugin.preferences import read_annotation
from illume_plugin.store import (
    Store,
    candidates,
    engines,
    events,
    judgements,
    leases,
    projects,
    runs,
    versions,
)
from illume_plugin.types import Annotation, Candidate, CandidateSet, RunState, Switch

if TYPE_CHECKING:
    from postgresql import Server

Verb = Callable[[Connection], Any]
KEY = {"version": "v0001", "plan": "plan"}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def store(postgresql: Server) -> Iterator[Store]:
    """A store with project 2."""
    url = postgresql.create(migrated=True)
    store = Store(url)
    with store.write() as conn:
        projects.put(conn, 2, title="t", label_config="<View/>", now=1.0)
    yield store
    store.close()
    postgresql.drop(url)


def together(store: Store, first: Verb, second: Verb) -> tuple[Any, Any]:
    """What both return; the second begins when the first has done everything but commit."""
    found: dict[str, Any] = {}

    def other() -> None:
        try:
            with store.write() as conn:
                found["second"] = second(conn)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            found["second"] = error

    thread = threading.Thread(target=other)
    with store.write() as conn:
        found["first"] = first(conn)
        thread.start()
        with store.read() as looking:
            while thread.is_alive() and not looking.exec_driver_sql(WAITING).scalar_one():
                thread.join(0.005)
    thread.join(60)
    assert not thread.is_alive()
    return found["first"], found["second"]


def annotation(annotation_id: int = 5, task_id: int = 1) -> Annotation:
    return read_annotation(2, submitted(task_id, ["c1"], annotation_id)["annotation"])


def delete_task(conn: Connection) -> None:
    projects.delete_task(conn, 2, 1)
    judgements.delete_of_task(conn, 2, 1)


def put_annotation(conn: Connection) -> bool:
    return judgements.put(conn, annotation(), now=1.0)


@pytest.mark.parametrize(("first", "second"), [(put_annotation, delete_task), (delete_task, put_annotation)])
def test_an_annotation_does_not_outlive_its_task(store: Store, first: Verb, second: Verb) -> None:
    together(store, first, second)
    with store.read() as conn:
        assert judgements.preferences_in(conn, 2) == []
        assert judgements.judged_tasks(conn, 2) == set()


def test_an_event_is_applied_once_and_who_asks_meanwhile_waits_for_it(store: Store) -> None:
    with store.write() as conn:
        for task_id in (1, 2, 3):
            events.append(conn, submitted(task_id, ["c1"]), now=1.0)

    def apply(conn: Connection) -> tuple[int, int]:
        return events.apply_pending(conn, now=2.0), judgements.count_preferences(conn, 2)

    assert together(store, apply, apply) == ((3, 9), (0, 9))


def test_the_same_event_is_new_once(store: Store) -> None:
    def append(conn: Connection) -> bool:
        return events.append(conn, submitted(1, ["c1"]), now=1.0)

    assert together(store, append, append) == (True, False)


def test_one_run_is_made_of_two_requests(store: Store) -> None:
    def request(conn: Connection) -> tuple[int, bool]:
        return runs.enqueue(conn, 2, trigger="x", now=1.0)

    (first, new), (second, also_new) = together(store, request, request)
    assert first == second
    assert (new, also_new) == (True, False)


def test_a_run_is_claimed_by_one_and_the_other_does_not_wait(store: Store) -> None:
    with store.write() as conn:
        run_id, _ = runs.enqueue(conn, 2, trigger="x", now=1.0)

    def claim(conn: Connection) -> int | None:
        run = runs.claim(conn, owner=str(id(conn)), now=2.0)
        return run and run.run_id

    assert together(store, claim, claim) == (run_id, None)


def test_a_run_is_cancelled_or_claimed(store: Store) -> None:
    with store.write() as conn:
        run_id, _ = runs.enqueue(conn, 2, trigger="x", now=1.0)
    _, cancelled = together(
        store,
        lambda conn: runs.claim(conn, owner="one", now=2.0),
        lambda conn: runs.request_cancel(conn, run_id, now=3.0),
    )
    assert cancelled.state is RunState.RUNNING, "it stops at its next heartbeat"
    with store.write() as conn:
        assert runs.cancel_requested(conn, run_id)
        runs.finish(conn, run_id, RunState.CANCELLED, owner="one", now=4.0)


def test_a_run_is_not_resumed_beside_another_one(store: Store) -> None:
    with store.write() as conn:
        run_id, _ = runs.enqueue(conn, 2, trigger="x", now=1.0)
        runs.request_cancel(conn, run_id, now=2.0)
    _, refused = together(
        store,
        lambda conn: runs.enqueue(conn, 2, trigger="y", now=3.0),
        lambda conn: runs.resume(conn, run_id),
    )
    assert isinstance(refused, ConflictError)


def test_switches_follow_each_other(store: Store) -> None:
    def to(version: str) -> Verb:
        return lambda conn: versions.switch(conn, 2, version, reason="x", now=1.0)

    assert together(store, to("v0001"), to("v0002")) == ("v0000", "v0001")
    with store.read() as conn:
        assert [one.from_version for one in versions.switched(conn, 2)] == ["v0000", "v0001"]
        assert versions.switched(conn, 2)[-1] == Switch("v0001", "v0002", "", "x", 1.0)


def test_a_version_is_retired_or_comes_to_serve(store: Store) -> None:
    _, refused = together(
        store,
        lambda conn: versions.switch(conn, 2, "v0001", reason="x", now=1.0),
        lambda conn: versions.retire(conn, 2, "v0001", who="ann", reason="x", now=2.0),
    )
    assert isinstance(refused, ConflictError)


def test_a_lease_is_taken_by_one(store: Store) -> None:
    def take(conn: Connection) -> bool:
        return leases.take(conn, "x", owner=str(id(conn)), now=1.0, seconds=10)

    assert together(store, take, take) == (True, False)


def candidate_set(task_id: int, text: str) -> CandidateSet:
    return CandidateSet(2, task_id, "v0001", "plan", 1, 0.5, (Candidate(text, 0.3, 7),))


def test_sets_of_the_same_tasks_in_another_order(store: Store) -> None:
    """As two processes sample them that were asked for them in another order."""

    def put(text: str, *task_ids: int) -> Verb:
        return lambda conn: [candidates.put(conn, candidate_set(i, text), now=1.0) for i in task_ids]

    first, second = together(store, put("one", 1, 2, 3), put("two", 3, 2, 1))
    assert second == list(reversed(first))


def test_marks_in_another_order(store: Store) -> None:
    with store.write() as conn:
        for task_id in range(1, 6):
            candidates.put(conn, candidate_set(task_id, "x"), now=1.0)

    def mark(*task_ids: int) -> Verb:
        return lambda conn: candidates.mark_pushed(conn, 2, task_ids, now=2.0, **KEY)

    together(store, mark(1, 2, 3), mark(5, 4, 3, 2))
    with store.read() as conn:
        assert candidates.count(conn, 2, **KEY) == (5, 5)


def test_the_schema_is_made_by_one(postgresql: Server) -> None:
    url = postgresql.create(migrated=False)
    stores = [Store(url) for _ in range(4)]
    threads = [threading.Thread(target=store.migrate) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for store in stores:
        with store.read() as conn:
            assert projects.every(conn) == []
        store.close()
    postgresql.drop(url)


def test_two_that_wait_for_each_other_are_told_and_nothing_of_one_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No verb does so; what PostgreSQL would do about it is an error that says to try again."""
    monkeypatch.setattr(engines, "LOCK_TIMEOUT_MS", 60_000)
    with store.write() as conn:
        projects.put(conn, 3, title="t", label_config="<View/>", now=1.0)
    met = threading.Barrier(2, timeout=60)
    errors: list[Exception] = []

    def change(first: int, second: int) -> None:
        try:
            with store.write() as conn:
                projects.update_config(conn, first, f"<View>{first}</View>", None)
                met.wait()
                projects.update_config(conn, second, f"<View>{first}</View>", None)
        except UnavailableError as error:
            errors.append(error)

    threads = [threading.Thread(target=change, args=pair) for pair in ((2, 3), (3, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 1
    assert "deadlock" in str(errors[0])
    with store.read() as conn:
        assert len({project.label_config for project in projects.every(conn)}) == 1
