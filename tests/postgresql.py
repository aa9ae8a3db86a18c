"""A real PostgreSQL server in a temporary folder, for the tests of the store.

It listens on a Unix socket alone, sorts texts as people do (ICU, so that an order which relies on bytes
shows), keeps nothing after a crash (no fsync), and ends when we end, however: it is the child of a shell that
waits on a pipe which we hold.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

#: Set to "skip" where no server can be had: the tests that need one are then skipped.
VARIABLE = "ILLUME_TEST_POSTGRESQL"
#: What Debian's package puts where no PATH leads.
DEBIAN = "/usr/lib/postgresql"
USER = "illume"
TEMPLATE = "migrated"
START_S = 60.0

#: Runs the server ($1: postgres, $2: folder) until standard input closes, then ends it and tidies up.
SHELL = """
"$1" -D "$2" -c listen_addresses= -k "$2" -c fsync="$3" -c full_page_writes="$3" -c max_connections=50 \
  -c autovacuum=off >"$2/log" 2>&1 </dev/null &
read -r _
kill -INT $!
wait $!
cd / && rm -rf "$2"
"""


class PostgresqlMissingError(RuntimeError):
    """There is no server to start."""


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is.

    Raises:
        PostgresqlMissingError: it is not installed.
    """
    installed = sorted(Path(DEBIAN).glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise PostgresqlMissingError(
            f"The tests of the store need PostgreSQL's {name}, which is neither in PATH nor below {DEBIAN}. "
            f"Install it (apt-get install postgresql), or leave these tests out: {VARIABLE}=skip."
        )
    return found


class Server:
    """One server; every test takes a database of its own from it.

    Args:
        durable: a commit waits for the disk, as on a server that is to keep something.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._numbers = count(1)

    def __enter__(self) -> Self:
        # PostgreSQL refuses to run as root.
        self._user = _unprivileged() if os.getuid() == 0 else None
        initdb, postgres = program("initdb"), program("postgres")
        self.folder = Path(tempfile.mkdtemp(prefix="illume-pg-"))
        if self._user:
            shutil.chown(self.folder, self._user)
        options = ["--username", USER, "--auth", "trust", "--no-sync", "--encoding", "UTF8"]
        locale = ["--locale", "C", "--locale-provider", "icu", "--icu-locale", "en"]
        subprocess.run(
            [initdb, "-D", str(self.folder), *options, *locale],
            check=True,
            capture_output=True,
            cwd=self.folder,
            user=self._user,
        )
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SHELL, "sh", postgres, str(self.folder), "on" if self._durable else "off"],
            stdin=subprocess.PIPE,
            cwd=self.folder,
            user=self._user,
        )
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=START_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}"

    def create(self, *, migrated: bool) -> str:
        """Make a database; returns its URL.

        Args:
            migrated: a copy of TEMPLATE, which must be there, in place of an empty one.
        """
        name = f"test_{next(self._numbers)}"
        source = TEMPLATE if migrated else "template0"
        self._command(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
        )
        return self.url(name)

    def create_template(self) -> str:
        """Make the empty database TEMPLATE; returns its URL. It must not be open while it is copied."""
        self._command(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        return self.url(TEMPLATE)

    def drop(self, url: str) -> None:
        """Remove a database, whoever still has it open."""
        name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
        self._command(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _command(self, statement: sql.Composed) -> None:
        with psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", autocommit=True) as conn:
            conn.execute(statement)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(host=str(self.folder), user=USER, dbname="postgres").close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise AssertionError(f"PostgreSQL did not start: {error}\n{log}") from error
                time.sleep(0.02)
            else:
                return


def _unprivileged() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)
