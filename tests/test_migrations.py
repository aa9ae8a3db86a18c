"""From every older schema, with rows in every table, to the newest one: on both databases nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from illume_plugin.errors import SettingsError, UnavailableError
from illume_plugin.lineage import Source
from illume_plugin.store import Store, candidates, judgements, lineage, runs, versions
from illume_plugin.store.tables import metadata
from illume_plugin.types import Candidate, CandidateSet, Origin, Preference, Switch, Verdict

if TYPE_CHECKING:
    from postgresql import Server

ROWS = 3
Rows = dict[str, list[dict[str, Any]]]


def revisions() -> list[str]:
    """Every schema there ever was, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(files("illume_plugin.store") / "migrations"))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    return list(reversed(found))


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database without any table."""
    if request.param == "sqlite":
        store = Store(f"sqlite:///{tmp_path / 'old.sqlite3'}")
        yield store
        store.close()
        return
    server: Server = request.getfixturevalue("postgresql")
    store = Store(server.create(migrated=False))
    yield store
    store.close()
    server.drop(store.url.render_as_string(hide_password=False))


def value(column: sa.Column[Any], number: int) -> Any:
    """Something that fits the column, another one in every row."""
    kind = column.type
    if isinstance(kind, sa.JSON):
        return {"row": number, "ä": [1.5, None, "\N{SNOWMAN}"]}
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Float):
        return number + 0.5
    if isinstance(kind, sa.Integer):
        return number
    return f"{column.name[:8]} {number}"[: kind.length] if isinstance(kind, sa.String) else None


def reflected(conn: sa.Connection) -> sa.MetaData:
    """The tables as they are."""
    found = sa.MetaData()
    found.reflect(conn)
    found.remove(found.tables["alembic_version"])
    return found


def fill(conn: sa.Connection) -> Rows:
    """Put rows into every table; returns them as they are read back."""
    for table in reflected(conn).tables.values():
        rows = [{column.name: value(column, n) for column in table.columns} for n in range(1, ROWS + 1)]
        conn.execute(table.insert(), rows)
    return kept(conn)


def kept(conn: sa.Connection) -> Rows:
    """Table -> its rows, in the order of their keys."""
    return {
        name: [dict(row._mapping) for row in conn.execute(table.select().order_by(*table.primary_key))]
        for name, table in reflected(conn).tables.items()
    }


def within(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a row holds all that an older one of it held."""
    return all(new[name] == held for name, held in old.items())


@pytest.mark.parametrize("revision", revisions())
def test_every_row_of_every_older_schema_is_kept(store: Store, revision: str) -> None:
    store.migrate(revision)
    with store.write() as conn:
        before = fill(conn)
    store.migrate()
    with store.read() as conn:
        after = kept(conn)
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    for name, rows in before.items():
        assert len(after[name]) == len(rows) == ROWS
        assert all(within(old, new) for old, new in zip(rows, after[name], strict=True)), name


def test_numbers_go_on_after_the_last_one(store: Store) -> None:
    store.migrate(revisions()[0])
    with store.write() as conn:
        projects_table = reflected(conn).tables["projects"]
        conn.execute(
            projects_table.insert(), {column.name: value(column, 2) for column in projects_table.columns}
        )
        first = reflected(conn).tables["runs"]
        row = {column.name: value(column, 2) for column in first.columns if column.name != "run_id"}
        conn.execute(first.insert(), {**row, "state": "failed"})
    store.migrate()
    with store.write() as conn:
        run_id, new = runs.enqueue(conn, 2, trigger="x", now=1.0)
        assert new
        assert [run.run_id for run in runs.recent(conn)] == [run_id, run_id - 1]


def insert(store: Store, table: str, **values: Any) -> None:
    """One row into a table as it is now."""
    with store.write() as conn:
        conn.execute(reflected(conn).tables[table].insert(), values)


def test_candidates_of_the_first_schema_are_read(store: Store) -> None:
    store.migrate("0001")
    fields = {"text": "first", "temperature": 0.3, "seed": 7, "prompt": "p", "logprob_mean": -1.0}
    key = {"project_id": 2, "task_id": 1, "version": "v0001", "plan": "plan"}
    held = {"order_seed": 2**53 - 1, "score": 0.5, "candidates": [fields], "created_at": 1.0}
    insert(store, "candidate_sets", **key, **held)
    store.migrate()
    with store.read() as conn:
        found = candidates.get(conn, 2, [1], version="v0001", plan="plan")
    expected = CandidateSet(2, 1, "v0001", "plan", 2**53 - 1, 0.5, (Candidate("first", 0.3, 7, "p", -1.0),))
    assert found == {1: expected}


def test_preferences_from_before_there_was_feedback_are_read(store: Store) -> None:
    store.migrate("0002")
    key = {"project_id": 2, "task_id": 1, "annotation_id": 5, "annotator": 7}
    said = {"text": "x", "verdict": "fits", "origin": "candidate", "position": 3, "version": "v0001"}
    insert(store, "preferences", **key, **said, best=True, noted_at=1.0)
    store.migrate()
    with store.read() as conn:
        found = judgements.preferences_in(conn, 2)
    assert found == [Preference(2, 1, 5, 7, "x", Verdict.FITS, Origin.CANDIDATE, 3, "v0001", best=True)]


def test_runs_and_switches_from_before_lineage_was_kept_are_read(store: Store) -> None:
    store.migrate("0003")
    project = {"project_id": 2, "title": "t", "label_config": "<View/>", "config_updated_at": ""}
    insert(store, "projects", **project, active_version="v0001", created_at=1.0)
    run = {"project_id": 2, "trigger": "x", "state": "promoted", "created_at": 1.0, "cancel_requested": False}
    insert(store, "runs", **run, parent="v0000", version="v0001", progress={}, report={})
    switch = {"project_id": 2, "from_version": "v0000", "to_version": "v0001", "reason": "run 1"}
    insert(store, "switches", **switch, switched_at=2.0)
    store.migrate()
    with store.read() as conn:
        assert runs.get(conn, 1).without_deleted is False
        assert lineage.of_run(conn, 1) == []
        assert lineage.departed(conn, 2) == {}
        assert versions.switched(conn, 2) == [Switch("v0000", "v0001", "", "run 1", 2.0)]
        assert versions.previous_version(conn, 2) == "v0000"


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    store.migrate()
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.migrate()
    with store.write() as conn:
        lineage.keep(conn, 1, 2, [Source(11, 1, 7, "digest", "said", held_out=False)])
        before = kept(conn)
    store.migrate()
    with store.read() as conn:
        assert kept(conn) == before


def test_a_migration_that_fails_half_way_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.migrate("0003")
    with store.write() as conn:
        before = fill(conn)

    class PowerWentError(Exception):
        pass

    def add_column(*_: object, **__: object) -> None:
        raise PowerWentError

    with monkeypatch.context() as patch:
        # its tables are made before its columns are added
        patch.setattr(op, "add_column", add_column)
        with pytest.raises(PowerWentError):
            store.migrate()
    with store.read() as conn:
        assert kept(conn) == before
    store.migrate()
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_a_schema_of_a_newer_program_is_refused(store: Store) -> None:
    store.migrate()
    with store.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="9999"):
        store.migrate()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_text(json.dumps({"no": "database"}) * 200)
    store = Store(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with pytest.raises(UnavailableError, match="not a database") as told:
        store.migrate()
    assert "illume restore" in told.value.todo
    store.close()
