"""Copies everything from one database into another, empty one: from SQLite to PostgreSQL, or back."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Table, func, insert, inspect, select, text

from illume_plugin.errors import ConflictError, UnavailableError
from illume_plugin.store.database import Store
from illume_plugin.store.dialect import alone
from illume_plugin.store.tables import leases, metadata

#: Rows that are read and written together.
_ROWS = 1000
#: All but the leases, which are of processes that live now.
TABLES = tuple(table for table in metadata.sorted_tables if table is not leases)


def counts(store: Store) -> dict[str, int]:
    """Table -> its rows; tables that are not there yet are left out."""
    with store.read() as conn:
        there = set(inspect(conn).get_table_names())
        return {table.name: _count(conn, table) for table in TABLES if table.name in there}


def refuse_filled(store: Store) -> None:
    """Say no to a database that holds anything of ours.

    Raises:
        ConflictError: it does.
    """
    for name, rows in counts(store).items():
        if rows:
            raise ConflictError(
                f"{store.url.render_as_string()} is not empty: its table {name} has {rows} rows.",
                why="Two histories cannot be put together.",
                todo="Name an empty database.",
            )


def copy(source: Store, target: Store, progress: Callable[[int], None] = lambda _: None) -> dict[str, int]:
    """Copy every row in one transaction; returns table -> rows. Both have today's schema.

    Args:
        progress: told how many rows more have been copied.

    Raises:
        ConflictError: the target is not empty.
        UnavailableError: a count differs afterwards, or a database does not answer; then nothing was copied.
    """
    refuse_filled(target)
    copied: dict[str, int] = {}
    with source.read() as old, target.write() as new:
        alone(new, "schema")
        for table in TABLES:
            copied[table.name] = _copy_table(old, new, table, progress)
    return copied


def _copy_table(old: Connection, new: Connection, table: Table, progress: Callable[[int], None]) -> int:
    query = select(table).order_by(*table.primary_key)
    rows = old.execution_options(yield_per=_ROWS).execute(query)
    for some in rows.partitions():
        new.execute(insert(table), [dict(row._mapping) for row in some])
        progress(len(some))
    there, here = _count(old, table), _count(new, table)
    if there != here:
        raise UnavailableError(
            f"{here} of the {there} rows of {table.name} arrived.",
            why="Nothing was copied: somebody else writes to the new database.",
        )
    _go_on_counting(new, table)
    return here


def _count(conn: Connection, table: Table) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def _go_on_counting(conn: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by a sequence of its own, which knows nothing of rows that brought theirs."""
    key = table.autoincrement_column
    if conn.dialect.name != "postgresql" or key is None:
        return
    sequence = func.pg_get_serial_sequence(table.name, key.name)
    last = select(func.coalesce(func.max(key), 0)).scalar_subquery()
    if conn.execute(select(sequence)).scalar_one() is not None:
        conn.execute(select(func.setval(sequence, last + 1, text("false"))))
