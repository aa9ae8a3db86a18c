"""Opening the database: explicit read and write transactions, migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from illume_plugin.errors import SettingsError, UnavailableError
from illume_plugin.store.dialect import alone
from illume_plugin.store.engines import SQLITE, open_engine, read_url

#: What SQLite says of a file that is damaged, or is no database.
_DAMAGED = ("malformed", "not a database")
#: A reader sees one moment, as SQLite's readers do, and cannot write by mistake.
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class NewerSchemaError(SettingsError):
    """A newer program than this one has changed the schema."""


class Store:
    """The database behind everything. Verbs live in the sibling modules and take a connection:

    >>> with store.write() as conn:
    ...     events.append(conn, body, now=time.time())

    SQLite has one writer at a time. On PostgreSQL writers run side by side, each statement on what is
    committed by then; verbs that read before they write ask for `dialect.alone` or lock the row they read.

    Raises:
        SettingsError: the URL is not one of SQLite's or PostgreSQL's, or the driver is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = read_url(url)
        self.dialect = self.url.get_backend_name()
        if self.dialect == SQLITE and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = open_engine(self.url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; nothing is kept.

        Raises:
            UnavailableError: the database does not answer.
        """
        with _told(), self.engine.connect() as conn:
            yield conn if self.dialect == SQLITE else conn.execution_options(**_SNAPSHOT)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is kept when the block ends, nothing when it raises.

        Raises:
            UnavailableError: the database does not answer, is full, or was locked by others for too long.
        """
        with _told(), self.engine.connect().execution_options(illume_write=True) as conn, conn.begin():
            yield conn

    def migrate(self, to: str = "head") -> None:
        """Bring the schema to the newest version; safe to call from several processes at once.

        Args:
            to: an older version, for tests of the way from there.

        Raises:
            NewerSchemaError: a newer program than this one has changed the schema.
        """
        config = Config()
        config.set_main_option("script_location", str(files("illume_plugin.store") / "migrations"))
        with self.write() as conn:
            alone(conn, "schema")
            _refuse_newer(conn, config)
            config.attributes["connection"] = conn
            command.upgrade(config, to)

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def _refuse_newer(conn: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for found in MigrationContext.configure(conn).get_current_heads():
        if found not in known:
            raise NewerSchemaError(
                f"The database has schema {found}, which this program does not know.",
                why="A newer version of it has been here.",
                todo="Install that version again, or restore a backup from before: illume restore FILE",
            )


@contextmanager
def _told() -> Iterator[None]:
    """What can go wrong with a database that is there and right, in words."""
    try:
        yield
    except PoolTimeoutError as error:
        raise UnavailableError(
            "Every connection to the database is in use.", why=str(error), todo="Ask again in a few seconds."
        ) from error
    except (OperationalError, InterfaceError) as error:
        raise UnavailableError(
            f"The database did not do what was asked: {_reason(error)}",
            why="It is away, full, or was held by others for too long.",
            todo="See that it runs and has room, and what else holds it open; then try again.",
        ) from error
    except DatabaseError as error:
        if not any(words in str(error.orig) for words in _DAMAGED):
            raise
        raise UnavailableError(
            f"The database is damaged: {_reason(error)}",
            todo="Bring back a backup: illume restore FILE --replace",
        ) from error


def _reason(error: DBAPIError) -> str:
    """The driver's words on one line, without the statement and what it was to write."""
    return " ".join(str(error.orig).split())
