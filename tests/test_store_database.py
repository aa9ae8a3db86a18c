"""Opening the store, its transactions, and what each database is given to keep."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from conftest import both_stores
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from illume_plugin.errors import IllumeError, SettingsError, UnavailableError
from illume_plugin.store import Store, candidates, engines, judgements, projects, runs
from illume_plugin.store.engines import read_url, storable_json
from illume_plugin.store.tables import tasks
from illume_plugin.types import Annotation, Candidate, CandidateSet

if TYPE_CHECKING:
    from postgresql import Server


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


# -- opening -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("sqlite:////data/x.sqlite3", "sqlite:////data/x.sqlite3"),
        ("postgresql://ann@db/illume", "postgresql+psycopg://ann@db/illume"),
        ("postgres://ann@db/illume", "postgresql+psycopg://ann@db/illume"),
        ("postgresql+psycopg://ann@db:6543/illume", "postgresql+psycopg://ann@db:6543/illume"),
    ],
)
def test_database_urls(url: str, read: str) -> None:
    assert str(read_url(url)) == read


@pytest.mark.parametrize(
    "url",
    ["", "not a url", "mysql://ann:hush@db/x", "postgresql+psycopg2://ann:hush@db/x", "://ann:hush@db"],
)
def test_other_urls_are_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match="postgresql\\+psycopg") as told:
        Store(url)
    assert "hush" not in str(told.value)
    assert told.value.__cause__ is None


def test_commits_are_durable_and_readers_do_not_block(store: Store) -> None:
    with sqlite3.connect(str(store.url.database)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    with store.read() as conn:
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL: fsync at every commit"


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    store = Store("postgresql://ann:hush@127.0.0.1:9/illume")
    with pytest.raises(UnavailableError, match="refused") as told:
        store.migrate()
    assert "hush" not in str(told.value)
    store.close()


def test_a_connection_that_the_server_ended_is_told_and_then_made_again(postgresql: Server) -> None:
    url = postgresql.create(migrated=True)
    store, other = Store(url), Store(url)

    def interrupted() -> None:
        with store.write() as conn:
            projects.put(conn, 2, title="lost", label_config="<View/>", now=1.0)
            number = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with other.write() as killer:
                killer.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
            projects.get(conn, 2)

    with pytest.raises(UnavailableError, match="terminating connection"):
        interrupted()
    with store.read() as conn:
        assert projects.find(conn, 2) is None
    store.close()
    other.close()
    postgresql.drop(url)


def test_who_waits_too_long_for_a_lock_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LOCK_TIMEOUT_MS", 20)
    one, two = Store(database), Store(database)
    with one.write(), pytest.raises(UnavailableError, match="locked"), two.write():
        pass
    one.close()
    two.close()


def test_who_waits_too_long_for_a_lock_of_postgresql_is_told(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOCK_TIMEOUT_MS", 20)
    url = postgresql.create(migrated=True)
    one, two = Store(url), Store(url)
    with one.write() as first:
        projects.put(first, 2, title="t", label_config="<View/>", now=1.0)
        with pytest.raises(UnavailableError, match="lock timeout"), two.write() as second:
            projects.put(second, 2, title="t", label_config="<View/>", now=1.0)
    one.close()
    two.close()
    postgresql.drop(url)


def test_a_server_that_is_not_installed_is_told_in_a_sentence() -> None:
    from postgresql import PostgresqlMissingError, program

    with pytest.raises(
        PostgresqlMissingError, match=r"apt-get install postgresql.*ILLUME_TEST_POSTGRESQL=skip"
    ):
        program("no-program-of-this-name")


# -- transactions --------------------------------------------------------------------------------------


@both_stores
def test_a_reader_sees_one_moment_all_the_while(store: Store) -> None:
    with store.read() as reader:
        assert projects.every(reader) == []
        with store.write() as writer:
            projects.put(writer, 2, title="t", label_config="<View/>", now=1.0)
        assert projects.every(reader) == []
    with store.read() as reader:
        assert len(projects.every(reader)) == 1


@both_stores
def test_an_error_of_ours_passes_as_it_is_and_nothing_is_kept(store: Store) -> None:
    class OursError(IllumeError):
        pass

    def fail() -> None:
        with store.write() as conn:
            projects.put(conn, 2, title="t", label_config="<View/>", now=1.0)
            raise OursError("x")

    with pytest.raises(OursError):
        fail()
    with store.read() as conn:
        assert projects.find(conn, 2) is None


# -- what is kept --------------------------------------------------------------------------------------

ODD = "a\x00b \ud83d \N{SNOWMAN} \U0001f600 \\u0000"
KEPT = "a\N{REPLACEMENT CHARACTER}b ? \N{SNOWMAN} \U0001f600 \\u0000"


@both_stores
def test_what_databases_refuse_is_kept_with_marks_in_its_place(store: Store) -> None:
    with store.write() as conn:
        projects.put(conn, 2, title=ODD, label_config="<View/>", now=1.0)
        projects.put_tasks(conn, 2, [(1, {ODD: [ODD, float("nan"), {"x": float("inf")}, 1.5]})])
        held = (Candidate(ODD, 0.3, 7),)
        found = candidates.put(conn, CandidateSet(2, 1, "v0001", "plan", 1, 0.5, held), now=1.0)
        run_id, _ = runs.enqueue(conn, 2, trigger=ODD * 20, now=1.0)
        runs.note(conn, run_id, error=ODD, report={"reasons": [ODD]})
    assert found.candidates[0].text == KEPT
    with store.read() as conn:
        assert projects.get(conn, 2).title == KEPT
        assert projects.task_data(conn, 2) == {1: {KEPT: [KEPT, None, {"x": None}, 1.5]}}
        run = runs.get(conn, run_id)
    assert run.error == KEPT
    assert run.report == {"reasons": [KEPT]}
    assert run.trigger.startswith(KEPT)


@both_stores
@pytest.mark.parametrize(
    "fields",
    [
        {"text": "x" * 100_000},
        {"score": 0.1 + 0.2, "big": 2**62, "small": 5e-324, "no": None, "yes": True},
        {"Case": 1, "case": 2, "": 3, "a b": 4, "ä'\"%s:x": 5},
    ],
)
def test_task_data_comes_back_as_it_was(store: Store, fields: dict[str, Any]) -> None:
    with store.write() as conn:
        projects.put_tasks(conn, 2, [(1, fields)])
    with store.read() as conn:
        assert projects.task_data(conn, 2) == {1: fields}


@both_stores
def test_the_largest_ids_are_kept(store: Store) -> None:
    largest = 2**63 - 1
    annotation = Annotation(
        project_id=largest,
        annotation_id=largest,
        task_id=largest,
        updated_at="2026-11-22T00:00:00.000000Z",
        was_cancelled=False,
        annotator=largest,
        lead_time=float(largest),
        result=(
            {"from_name": "cand", "value": {"text": ["x"]}, "meta": {"illume": {"model_version": "v" * 99}}},
            {"from_name": "fits", "value": {"choices": ["c1"]}},
        ),
    )
    with store.write() as conn:
        assert judgements.put(conn, annotation, now=1.0)
        (found,) = judgements.preferences_in(conn, largest)
    assert (found.annotation_id, found.annotator) == (largest, largest)
    assert found.version is None, "no version of ours has so long a name"


@both_stores
def test_texts_are_ordered_by_their_characters_not_by_a_dictionary(store: Store) -> None:
    """As Python orders them; the server of the tests sorts like people."""
    states = ["2026-11-22T00:00:00.000000Z", "2026-11-22T00:00:00.000001Z", "", "2025-12-31T23:59:59.999999Z"]
    digests = ["0a", "a0", "f", "9"]
    with store.write() as conn:
        rows = [
            {
                "project_id": 1,
                "task_id": n,
                "data": {},
                "updated_at": state,
                "digest": digest,
                "deleted": False,
            }
            for n, (state, digest) in enumerate(zip(states, digests, strict=True))
        ]
        conn.execute(tasks.insert(), rows)
        by_time = conn.execute(select(tasks.c.updated_at).order_by(tasks.c.updated_at)).scalars().all()
        by_digest = conn.execute(select(tasks.c.digest).order_by(tasks.c.digest)).scalars().all()
    assert by_time == sorted(states)
    assert by_digest == sorted(digests)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_kept_as_it_is_but_for_what_databases_refuse(value: Any) -> None:
    text = storable_json(value)
    assert "\\u0000" not in text.replace("\\\\", "")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    text.encode("utf-8")
    again = json.loads(text)
    assert storable_json(again) == text, "what has been kept once is kept unchanged"
    if not any(mark in repr(value) for mark in ("nan", "inf", "\\x00", "\\ud")):
        assert again == value
