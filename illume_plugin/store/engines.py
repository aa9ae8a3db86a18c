"""Connections to the two databases: how a transaction begins, how long it waits, what it is given to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from illume_plugin.errors import SettingsError
from illume_plugin.identity import storable
from illume_plugin.types import Json

#: How long a writer waits for another one before it gives up, milliseconds.
LOCK_TIMEOUT_MS = 30_000
#: How long a process may sit in the middle of a transaction before PostgreSQL ends it: one that was stopped,
#: or cut off from the network, must not keep the others waiting for ever. Milliseconds.
IDLE_TIMEOUT_MS = 600_000
#: libpq's: a dead server is noticed within a minute and a half. What the URL says comes first.
_LIBPQ = {
    "application_name": "illume",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
}
SQLITE, POSTGRESQL = "sqlite", "postgresql"


def read_url(url: str) -> URL:
    """The database URL; `postgresql://` and `postgres://` mean the driver that we use.

    Raises:
        SettingsError: it is no URL, or is that of another kind of database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # The text may hold a password: neither it nor the error that quotes it is passed on.
        raise _not_ours("The database URL cannot be parsed.") from None
    backend, _, driver = parsed.drivername.partition("+")
    if backend in (POSTGRESQL, "postgres") and driver in ("", "psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != SQLITE:
        raise _not_ours(f"The database URL begins with {parsed.drivername!r}.")
    return parsed


def _not_ours(what: str) -> SettingsError:
    return SettingsError(
        what, todo="Use sqlite:////path/to/illume.sqlite3 or postgresql+psycopg://user@host/database."
    )


def open_engine(url: URL) -> Engine:
    """An engine for `url` as `read_url` gives it. Nothing is connected yet.

    Raises:
        SettingsError: PostgreSQL's driver is not installed.
    """
    if url.get_backend_name() == SQLITE:
        engine = create_engine(url, json_serializer=storable_json)
        _prepare_sqlite(engine)
        return engine
    missing = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            json_serializer=storable_json,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args=missing,
        )
    except ModuleNotFoundError as error:
        raise SettingsError(
            "PostgreSQL's driver psycopg is not installed.",
            why=str(error),
            todo="pip install 'illume-label-studio[postgresql]'",
        ) from error
    _prepare_postgresql(engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    """Durable commits, readers that never block writers, and transactions that begin when we say so."""

    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver's own BEGIN handling starts write transactions late and upgrades read locks, which
        # fails with "database is locked" at once instead of waiting; so we emit BEGIN ourselves.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("illume_write", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # It takes no lock, so there is nothing in it that could fail and would need SQLAlchemy's words.
            connection.connection.cursor().execute("BEGIN")


def _prepare_postgresql(engine: Engine) -> None:
    """Nobody waits, or makes others wait, for ever."""

    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _record: Any) -> None:
        # Outside a transaction: a rollback would take the settings back.
        dbapi_connection.autocommit = True
        with dbapi_connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}")
        dbapi_connection.autocommit = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """JSON that has been written already, of what both databases take.

    Attributes:
        text: the JSON.
    """

    text: str


def storable_json(value: Json | Encoded) -> str:
    """JSON that both databases take: marks in place of NUL and lone surrogates, null in place of NaN.

    SQLite would keep them and PostgreSQL refuse the whole row.
    """
    if isinstance(value, Encoded):
        return value.text
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_storable(value), allow_nan=False)
    # The usual case costs a look at the text; an escaped backslash or a pair of surrogates only costs a copy.
    if "\\u0000" in text or "\\ud" in text:
        return json.dumps(_storable(value))
    return text


def _storable(value: Json) -> Json:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
