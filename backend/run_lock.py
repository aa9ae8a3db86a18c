"""The lock of a run's folder. A lease in the database says whose a run is; this says who may touch its files.

A worker that was stopped for longer than its lease (a laptop that slept, a machine under pressure) goes on
where it was and does not know yet that its run has gone to another one. Its training process lives too. So
whoever takes a run over waits here until neither does; the system frees the lock of those that die.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path, *, wait: Callable[[], None]) -> Iterator[int]:
    """Hold the lock file `path` until the block ends, and every process does that was given the descriptor.

    Args:
        wait: called again and again while somebody else holds it; takes its time, and may raise to give up.

    Yields:
        The descriptor, for `pass_fds` of a child process: as long as the child lives the lock is held.
    """
    descriptor = _held(path, wait)
    try:
        yield descriptor
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _held(path: Path, wait: Callable[[], None]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _taken(descriptor):
                wait()
            if _is(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it has removed it: a newer one has its name


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, path: Path) -> bool:
    """Whether the open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
