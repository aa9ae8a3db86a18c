"""Opening the database: one engine, explicit read and write transactions, migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from illume_plugin.errors import SettingsError, UnavailableError

#: How long a writer waits for another writer before giving up, milliseconds.
BUSY_TIMEOUT_MS = 30_000


def _prepare_sqlite(engine: Engine) -> None:
    """Durable commits, readers that never block writers, and transactions that begin when we say so."""

    @event.listens_for(engine, "connect")
    def _connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver's own BEGIN handling starts write transactions late and upgrades read locks, which
        # fails with "database is locked" at once instead of waiting; so we emit BEGIN ourselves.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("illume_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class Store:
    """The database behind everything. Verbs live in the sibling modules and take a connection:

    >>> with store.write() as conn:
    ...     events.append(conn, body, now=time.time())
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SettingsError(
                "The database URL cannot be parsed.",
                todo="Use sqlite:///path/to/illume.sqlite3 or postgresql+psycopg://user@host/database.",
            ) from error
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = create_engine(parsed, pool_pre_ping=self.dialect != "sqlite")
        if self.dialect == "sqlite":
            _prepare_sqlite(self.engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; nothing is kept."""
        with self.engine.connect() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is kept when the block ends, nothing when it raises."""
        with self.engine.connect().execution_options(illume_write=True) as conn:
            try:
                transaction = conn.begin()
            except OperationalError as error:
                raise UnavailableError(
                    f"The database could not be locked for writing within {BUSY_TIMEOUT_MS // 1000} s.",
                    why=str(error.orig),
                    todo="See what else holds it open (a backup, another tool), then try again.",
                ) from error
            with transaction:
                yield conn

    def migrate(self, to: str = "head") -> None:
        """Bring the schema to the newest version; safe to call from several processes at once.

        Args:
            to: an older version, for tests of the way from there.
        """
        config = Config()
        config.set_main_option("script_location", str(files("illume_plugin.store") / "migrations"))
        with self.write() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, to)

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()
