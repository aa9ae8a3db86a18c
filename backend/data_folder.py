"""Who uses the data folder: any number of processes, or one that puts another state into it.

`restoring/` in it is a complete other state that is on its way in. It appears by one rename; moving its parts
to their places can be broken off at any instant and is finished by the next process that starts.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from illume_plugin.errors import ConflictError, UnavailableError

log = logging.getLogger(__name__)

DATABASE = "illume.sqlite3"
ADAPTERS = "adapters"
RUNS = "runs"
#: Complete, and to take the place of what is there.
RESTORING = "restoring"
#: What it took the place of, with the time behind it.
REPLACED = "replaced-"
_LOCK = "in-use.lock"
#: Within RESTORING: the name of the folder for what is there, and a mark that it has been moved there.
_FORMER, _OUT = "former", "former-is-out"
#: What belongs to a state, in the order in which it is moved. SQLite's log goes with its database: beside
#: another one it would be taken for that one's.
_PARTS = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", ADAPTERS, RUNS)


class Using:
    """Says, until it is closed or the process dies, that this process uses the folder.

    Raises:
        UnavailableError: another process is putting another state into it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._descriptor = _open(data_dir)
        if not _locked(self._descriptor, fcntl.LOCK_SH):
            self.close()
            raise UnavailableError(
                f"Another process is restoring or copying {data_dir}.",
                todo="Start this again when that has ended.",
            )
        if (data_dir / RESTORING).exists():
            self._finish(data_dir)

    def _finish(self, data_dir: Path) -> None:
        """Whoever began it has died. Of those that start now the first one ends it, and the others wait."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        finish(data_dir)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Others may replace the folder's state from now on, as far as this process is concerned."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def alone_with(data_dir: Path) -> Iterator[None]:
    """Nobody else uses the folder, or begins to, until the block ends.

    Raises:
        ConflictError: somebody uses it.
    """
    descriptor = _open(data_dir)
    try:
        if not _locked(descriptor, fcntl.LOCK_EX):
            raise ConflictError(
                f"{data_dir} is in use.",
                why="What a running process writes meanwhile would be lost.",
                todo="Stop illume serve, illume worker and every other illume command, then try again.",
            )
        finish(data_dir)
        yield
    finally:
        os.close(descriptor)


def has_state(data_dir: Path) -> bool:
    """Whether there is a database or an adapter."""
    return (data_dir / DATABASE).exists() or any((data_dir / ADAPTERS).glob("project-*"))


def put_in(data_dir: Path, staged: Path) -> Path | None:
    """Let a complete state take the place of the one that is there; only within `alone_with`.

    Args:
        staged: folder in `data_dir` with DATABASE and ADAPTERS, all of it on the disk.

    Returns:
        Where the former state is now; None where there was none.
    """
    former = data_dir / f"{REPLACED}{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    (staged / _FORMER).write_text(former.name, encoding="ascii")
    sync(staged / _FORMER)
    sync(staged)
    staged.rename(data_dir / RESTORING)
    sync(data_dir)
    finish(data_dir)
    return former if former.exists() else None


def finish(data_dir: Path) -> None:
    """Move the parts of RESTORING to their places, wherever that was broken off; nothing without one."""
    incoming = data_dir / RESTORING
    if not incoming.exists():
        return
    if not (incoming / _OUT).exists():
        _move(data_dir, data_dir / (incoming / _FORMER).read_text(encoding="ascii"))
        (incoming / _OUT).touch()  # from here on what has its name in the data folder is the new one
        sync(incoming)
    _move(incoming, data_dir)
    done = incoming.rename(data_dir / f".{RESTORING}-done")
    sync(data_dir)
    shutil.rmtree(done)
    log.info("the restored state is in %s", data_dir)


def _move(source: Path, target: Path) -> None:
    for name in _PARTS:
        if (source / name).exists():
            target.mkdir(exist_ok=True)
            (source / name).rename(target / name)
    if target.exists():
        sync(target)
    sync(source)


def _open(data_dir: Path) -> int:
    data_dir.mkdir(parents=True, exist_ok=True)
    return os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
