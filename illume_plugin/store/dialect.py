"""The few statements that SQLite and PostgreSQL spell in their own dialect."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Dialect, Table, Text, TypeDecorator, func, select
from sqlalchemy.dialects import postgresql, sqlite

from illume_plugin.identity import storable


class StorableText(TypeDecorator[str]):
    """Text without what PostgreSQL or UTF-8 cannot hold; see `storable`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - its signature
        """What is written."""
        return None if value is None else storable(value)


def _insert(conn: Connection, table: Table) -> Any:
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)


def insert_or_ignore(conn: Connection, table: Table) -> Any:
    """`INSERT ... ON CONFLICT DO NOTHING`; rowcount is 0 when the row was there."""
    # Without the option SQLAlchemy knows the count on SQLite alone, and says -1 on PostgreSQL.
    return _insert(conn, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


def insert_or_replace(conn: Connection, table: Table, values: dict[str, Any]) -> Any:
    """`INSERT ... ON CONFLICT (primary key) DO UPDATE` of every other column."""
    keys = [column.name for column in table.primary_key]
    statement = _insert(conn, table).values(**values)
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in values if name not in keys}
    )


def clock_of(conn: Connection) -> float | None:
    """What time it is on PostgreSQL's machine, seconds since the epoch; SQLite has none of its own."""
    if conn.dialect.name != "postgresql":
        return None
    return float(conn.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())


def alone(conn: Connection, name: str) -> None:
    """From here to the end of the transaction nobody else is in a transaction that was here with this name.

    For verbs that read, decide and write. Whoever waited sees in the next statement what the other one has
    committed. SQLite has one writer at a time as it is.

    A transaction takes names in this order, so that no two wait for each other: "events", one "annotations of
    project N" or several only under "events", one "candidates of project N".
    """
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
