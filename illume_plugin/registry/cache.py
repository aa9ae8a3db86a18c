"""Verified copies on this machine of versions that are kept elsewhere.

    ROOT/project-12/v0001/        as it was published, with meta.json; complete or not there
         locks/project-12-v0001   shared by those who use the copy; when it was used last is its time
         .staging-...             what is being fetched or removed

Any number of processes may share it. A copy that somebody uses is never removed; a process that dies gives
up its locks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path

from illume_plugin.errors import ModelError
from illume_plugin.registry.files import META_FILE, check_folder, from_json, is_version, sync

_STAGING = ".staging-"
_LOCKS = "locks"
_log = getLogger(__name__)

#: Writes the files of a version and its meta.json into an empty folder.
Download = Callable[[Path], None]


class AdapterCache:
    """The copies below one folder.

    Args:
        limit: bytes; copies that nobody uses go when all together are larger, the one not used for longest
            first. What is used now may be more.
    """

    def __init__(self, root: Path, *, limit: int) -> None:
        self.root = root
        self._limit = limit

    def has(self, project_id: int, version: str) -> bool:
        """Whether there is a copy; it was complete when it was made."""
        return self._folder(project_id, version).is_dir()

    @contextmanager
    def hold(self, project_id: int, version: str, download: Download) -> Iterator[Path]:
        """The copy, hashed a moment ago; it stays until the block ends.

        Raises:
            IllumeError: there was no good copy, and `download` raised it.
        """
        with _locked(self._lock(project_id, version), fcntl.LOCK_SH):
            if not self._intact(project_id, version):
                self._renew(project_id, version, download)
            self._touch(project_id, version)
            yield self._folder(project_id, version)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the copies' disk, removed afterwards unless it was adopted."""
        folder = self.root / f"{_STAGING}{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, project_id: int, version: str, staged: Path) -> None:
        """Let a complete, verified folder be the copy, unless there is a good one."""
        with _locked(self._lock(project_id, version), fcntl.LOCK_SH):
            with self._alone(project_id, version):
                if not self._intact(project_id, version):
                    self._replace(project_id, version, staged)
            self._touch(project_id, version)
            self._shrink()

    def drop(self, project_id: int, version: str) -> bool:
        """Remove a copy; false where somebody uses it."""
        with (
            suppress(BlockingIOError),
            _locked(self._lock(project_id, version), fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            self._discard(self._folder(project_id, version))
            return True
        return False

    def sweep(self, older_than_s: float) -> int:
        """Remove what fetching left behind when its process died; returns how many folders."""
        limit, swept = time.time() - older_than_s, 0
        for path in self.root.glob(f"{_STAGING}*"):
            if path.stat().st_mtime <= limit:
                shutil.rmtree(path, ignore_errors=True)
                swept += 1
        return swept

    def _renew(self, project_id: int, version: str, download: Download) -> None:
        with self._alone(project_id, version):
            if self._intact(project_id, version):
                return  # another process was faster
            with self.staging() as staging:
                download(staging)
                self._replace(project_id, version, staging)
        self._shrink()

    def _replace(self, project_id: int, version: str, staged: Path) -> None:
        folder = self._folder(project_id, version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._discard(folder)
        staged.rename(folder)
        sync(folder.parent)

    def _discard(self, folder: Path) -> None:
        gone = self.root / f"{_STAGING}{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            folder.rename(gone)  # the copy is there with all its files, or not at all
            shutil.rmtree(gone, ignore_errors=True)

    def _shrink(self) -> None:
        """Remove copies that nobody uses until the rest is small enough; also what dead fetches left."""
        self.sweep(3600.0)
        copies = [(self._used_at(*copy), copy, _bytes_of(self._folder(*copy))) for copy in self._copies()]
        total = sum(size for _, _, size in copies)
        for _, copy, size in sorted(copies):
            if total <= self._limit:
                return
            if self.drop(*copy):
                total -= size
                _log.info("dropped the copy of adapter %s of project %d", copy[1], copy[0])

    def _copies(self) -> Iterator[tuple[int, str]]:
        for path in self.root.glob("project-*/v*"):
            number = path.parent.name.removeprefix("project-")
            if is_version(path.name) and number.isdecimal():
                yield int(number), path.name

    def _intact(self, project_id: int, version: str) -> bool:
        folder = self._folder(project_id, version)
        if not folder.is_dir():
            return False
        try:
            check_folder(folder, from_json((folder / META_FILE).read_bytes(), project_id, version))
        except (ModelError, OSError) as error:
            _log.warning("the copy in %s is fetched again: %s", folder, error)
            return False
        return True

    def _used_at(self, project_id: int, version: str) -> float:
        lock = self._lock(project_id, version)
        return lock.stat().st_mtime if lock.exists() else 0.0

    def _touch(self, project_id: int, version: str) -> None:
        os.utime(self._lock(project_id, version))

    @contextmanager
    def _alone(self, project_id: int, version: str) -> Iterator[None]:
        """One at a time fetches a version; those who use a copy are not waited for."""
        with _locked(self.root / _LOCKS / f"project-{project_id}-{version}.fetching", fcntl.LOCK_EX):
            yield

    def _lock(self, project_id: int, version: str) -> Path:
        return self.root / _LOCKS / f"project-{project_id}-{version}"

    def _folder(self, project_id: int, version: str) -> Path:
        return self.root / f"project-{project_id}" / version


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock of the operating system, which ends with the process.

    Raises:
        BlockingIOError: it was asked for without waiting, and somebody has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:  # never removed: a lock on a file that is gone would bind nobody
        fcntl.flock(file, operation)
        yield


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))
