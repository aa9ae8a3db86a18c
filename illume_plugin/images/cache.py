"""Keeps files below a size in one folder: those that nobody has used for longest go first."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from illume_plugin.fault_points import point

#: A file that was used so recently stays, however full the folder: whoever asked for it may be about to
#: open it. Seconds.
IN_USE_S = 900.0
#: Uses within so many seconds are noted once.
_NOTED_S = 30.0
#: What a writer that died left behind goes after so long, seconds.
_ABANDONED_S = 3600.0
#: The folder is made smaller by so much more than it must be, and looked through when so much has come in.
_SLACK = 1 / 16
#: Files dropped before others get a turn at the lock.
_AT_A_TIME = 64
_DRAFT, _LOCK = ".fetching-", ".lock"
#: Errors of a link that mean: not on this file system.
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    bytes: int
    used_at: float


class FileCache:
    """A folder of files by name, bounded by its bytes. Any number of threads and processes may use it.

    The bound is kept but for what was used in the last quarter of an hour, and for what is added between two
    looks (a sixteenth of it for each process). Files that are open, or pinned by `pin`, are not lost to those
    who hold them.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, root: Path, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._clock = clock
        self._counting = threading.Lock()
        self._added = max_bytes  # looked through at the first addition: another process may have filled it

    def find(self, name: str) -> Path | None:
        """The file, if it is there; it stays for a while from now on."""
        path = self._root / name
        if not path.exists():
            return None
        with self._lock(fcntl.LOCK_SH):
            try:
                now = self._clock()
                if path.stat().st_mtime < now - _NOTED_S:
                    os.utime(path, (now, now))
            except FileNotFoundError:
                return None
        return path

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty file in the folder, gone after the block unless `keep` has given it a name."""
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._root, prefix=_DRAFT)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, draft: Path, name: str) -> Path:
        """Give a draft its name, in place of what had it; older files make room."""
        size = draft.stat().st_size
        point("picture.before_rename")
        kept = draft.replace(self._root / name)
        point("picture.after_rename")
        with self._counting:
            self._added += size
            look = self._added > self._max_bytes * _SLACK
            if look:
                self._added = 0
        if look:
            self.sweep()
        return kept

    def sweep(self) -> int:
        """Drop what has not been used for longest until the rest fits; returns how many files went."""
        now = self._clock()
        files = sorted(self._files(now), key=lambda file: file.used_at)
        total = sum(file.bytes for file in files)
        if total <= self._max_bytes:
            return 0
        spare = total - int(self._max_bytes * (1 - _SLACK))
        gone = 0
        while files and spare > 0 and files[0].used_at < now - IN_USE_S:
            some, files = files[:_AT_A_TIME], files[_AT_A_TIME:]
            with self._lock(fcntl.LOCK_EX):
                for file in some:
                    if spare > 0 and self._drop(file, now):
                        spare -= file.bytes
                        gone += 1
        log.info("dropped %d files that nobody had used for longest from %s", gone, self._root)
        return gone

    def _drop(self, file: _File, now: float) -> bool:
        """Remove a file unless somebody has asked for it since it was looked at; only under the lock."""
        try:
            if os.stat(file.path).st_mtime >= now - IN_USE_S:
                return False
            os.unlink(file.path)
        except FileNotFoundError:
            pass  # another process was faster
        return True

    def _files(self, now: float) -> Iterator[_File]:
        """The kept files. What was left half written long ago is removed on the way."""
        for entry in os.scandir(self._root):
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not entry.name.startswith("."):
                yield _File(entry.path, found.st_size, found.st_mtime)
            elif entry.name.startswith(_DRAFT) and found.st_mtime < now - _ABANDONED_S:
                Path(entry.path).unlink(missing_ok=True)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """The folder's lock: shared to use a file, alone to drop some. The system frees that of the dead."""
        with (self._root / _LOCK).open("a+") as file:  # NFS shares a lock only of a file that may be read
            fcntl.flock(file, kind)
            yield


def pin(file: Path, folder: Path) -> Path:
    """A second name for a file of the cache, in `folder`: it is there for as long as that name.

    The file has to have been found a moment ago. A link where the file system has them, otherwise a copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pinned = folder / file.name
    try:
        os.link(file, pinned)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        draft = folder / f".{file.name}.{os.getpid()}.{threading.get_ident()}"
        shutil.copyfile(file, draft)
        draft.replace(pinned)
    return pinned
