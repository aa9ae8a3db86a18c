"""The few statements that SQLite and PostgreSQL spell in their own dialect."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def _insert(conn: Connection, table: Table) -> Any:
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)


def insert_or_ignore(conn: Connection, table: Table) -> Any:
    """`INSERT ... ON CONFLICT DO NOTHING`; rowcount is 0 when the row was there."""
    return _insert(conn, table).on_conflict_do_nothing()


def insert_or_replace(conn: Connection, table: Table, values: dict[str, Any]) -> Any:
    """`INSERT ... ON CONFLICT (primary key) DO UPDATE` of every other column."""
    keys = [column.name for column in table.primary_key]
    statement = _insert(conn, table).values(**values)
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in values if name not in keys}
    )
