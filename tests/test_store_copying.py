"""From SQLite to PostgreSQL and back: every row, one transaction, and pages that say the same afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from conftest import SECRET
from labelled_project import PROJECT, LabelledProject
from sqlalchemy import event

from backend.app import create_app
from backend.cli import main
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.errors import ConflictError
from illume_plugin.store import Store, copying, events, leases, runs, tables
from illume_plugin.store.copying import TABLES, copy, counts
from illume_plugin.types import RunState

if TYPE_CHECKING:
    from postgresql import Server

PAGES = [
    *(f"/api/projects/{PROJECT}{name}" for name in ("", "/curve", "/runs", "/runs/1", "/versions")),
    *(f"/api/projects/{PROJECT}{name}" for name in ("/annotators", "/trial", "/tasks?which=judged")),
    *(
        f"/status/{PROJECT}{name}"
        for name in ("/runs/1", "/candidates?which=judged", "/candidates?which=problems")
    ),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has been labelled for a while, on SQLite; nobody changes it."""
    folder = tmp_path_factory.mktemp("labelled")
    service = Service(load_settings(data_dir=folder / "data", secret=SECRET, train_after=0))
    LabelledProject(service, folder).fill()
    with service.store.write() as conn:
        conn.execute(tables.leases.delete())  # a page shows them, and they are not copied
    service.close()
    return folder / "data"


@pytest.fixture
def source(data_dir: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{data_dir / 'illume.sqlite3'}")
    yield store
    store.close()


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    url = postgresql.create(migrated=True)
    yield url
    postgresql.drop(url)


@pytest.fixture
def target(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    with store.read() as conn:
        return {
            table.name: [tuple(row) for row in conn.execute(table.select().order_by(*table.primary_key))]
            for table in TABLES
        }


def test_there_and_back(source: Store, target: Store, tmp_path: Path) -> None:
    done: list[int] = []
    copied = copy(source, target, done.append)
    assert copied == counts(source) == counts(target)
    assert sum(done) == sum(copied.values()) > 500
    assert rows(target) == rows(source)
    back = Store(f"sqlite:///{tmp_path / 'back.sqlite3'}")
    back.migrate()
    copy(target, back)
    assert rows(back) == rows(source)
    back.close()


def test_leases_are_of_processes_that_live_now(source: Store, target: Store) -> None:
    with target.write() as conn:
        leases.take(conn, "x", owner="one", now=0.0, seconds=10)
    copy(source, target)
    assert "leases" not in counts(target)


def test_numbers_go_on_after_the_copied_ones(source: Store, target: Store) -> None:
    copy(source, target)
    with target.write() as conn:
        last = runs.recent(conn, limit=1)[0]
        if live := runs.live_run(conn, PROJECT):
            runs.claim(conn, owner="x", now=1e12)
            runs.finish(conn, live.run_id, RunState.FAILED, owner="x", now=1e12)
        run_id, _ = runs.enqueue(conn, PROJECT, trigger="x", now=1.0)
        assert run_id == last.run_id + 1
        before = events.count(conn, PROJECT)
        body = {"action": "TASKS_CREATED", "tasks": [], "project": {"id": PROJECT}}
        assert events.append(conn, body, now=1.0)
        assert events.count(conn, PROJECT) == before + 1


def test_the_pages_say_the_same_on_both(data_dir: Path, source: Store, target: Store, tmp_path: Path) -> None:
    """Whatever is counted or drawn from the store."""
    copy(source, target)
    told = []
    for database in (source, target):
        found = load_settings(
            data_dir=data_dir,
            database_url=database.url.render_as_string(hide_password=False),
            secret=SECRET,
            train_after=0,
        )
        service = Service(found, clock=lambda: 1_795_100_000.0)
        client = create_app(found, service=service).test_client()
        local = {"base_url": "http://localhost:9090", "environ_base": {"REMOTE_ADDR": "127.0.0.1"}}
        pages = {path: client.get(path, **local) for path in PAGES}
        assert {page.status_code for page in pages.values()} == {200}
        told.append({path: page.text for path, page in pages.items()})
        service.close()
    for path in told[0]:
        assert told[1][path] == told[0][path], path


def test_a_database_that_is_not_empty_is_refused(source: Store, target: Store) -> None:
    with target.write() as conn:
        events.append(conn, {"action": "x"}, now=1.0)
    with pytest.raises(ConflictError, match="its table events has 1 rows") as told:
        copy(source, target)
    assert "***" not in told.value.what
    assert counts(target)["tasks"] == 0


def test_what_fails_half_way_leaves_nothing(source: Store, target: Store) -> None:
    class PowerWentError(Exception):
        pass

    done: list[int] = []

    @event.listens_for(target.engine, "before_cursor_execute")
    def stop(*what: Any) -> None:
        if what[2].startswith("INSERT INTO tasks"):
            raise PowerWentError

    with pytest.raises(PowerWentError):
        copy(source, target, done.append)
    event.remove(target.engine, "before_cursor_execute", stop)
    assert sum(done) > 500
    assert not any(counts(target).values())
    copy(source, target)


def illume(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_command(
    data_dir: Path, source: Store, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(data_dir))
    url = postgresql.create(migrated=False)
    told = illume("copy-store", "--to", url, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "nothing was copied" in told.output
    service = Service(load_settings())
    assert "in use" in illume("copy-store", "--to", url).output
    service.close()
    told = illume("copy-store", "--to", url)
    assert told.exit_code == 0, told.output
    assert "ILLUME_DATABASE_URL" in told.output
    target = Store(url)
    assert rows(target) == rows(source)
    target.close()
    assert "is not empty" in illume("copy-store", "--to", url).output
    postgresql.drop(url)


def test_the_password_is_not_told(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(data_dir))
    told = illume("copy-store", "--to", "postgresql://ann:hush@127.0.0.1:9/x")
    assert told.exit_code == 1
    assert "hush" not in told.output


def test_every_table_is_copied() -> None:
    assert {table.name for table in copying.metadata.sorted_tables} - {t.name for t in TABLES} == {"leases"}
