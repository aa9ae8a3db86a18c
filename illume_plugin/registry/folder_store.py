"""Versions in a local folder, published by one atomic rename.

    ROOT/project-12/v0001/adapter_model.safetensors
                          adapter_config.json
                          meta.json                  what AdapterMeta holds, with the hash of every file
                    removed/v0002.json               the meta.json of a version whose weights were removed
                    evaluations/v0001-3f2a91c0.json  evaluations, which may be made again

A folder called v0001 is complete or not there. Versions are never changed, and no number is given twice.
"""

from __future__ import annotations

import errno
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from illume_plugin.errors import UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.registry.files import (
    EVALUATIONS,
    META_FILE,
    check_folder,
    copy_adapter,
    damaged,
    from_json,
    is_document,
    is_version,
    missing,
    next_version,
    sync,
    to_json,
)
from illume_plugin.types import AdapterMeta

_STAGING = ".staging-"
_REMOVED = "removed"


class FolderStore:
    """Keeps versions in one folder, which several machines may share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self._root

    @property
    def address(self) -> str:
        """Its path."""
        return str(self._root.absolute())

    def names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        project = self._project(project_id)
        return [path.name for path in project.iterdir() if is_version(path.name)] if project.is_dir() else []

    def removed_names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        found = (self._project(project_id) / _REMOVED).glob("v*.json")
        return [path.stem for path in found if is_version(path.stem)]

    def meta(self, project_id: int, version: str, *, listed: bool = False) -> bytes:  # noqa: ARG002
        """See `VersionStore`; always read again."""
        return _read(self._folder(project_id, version) / META_FILE, version)

    def removed_meta(self, project_id: int, version: str) -> bytes:
        """See `VersionStore`."""
        return _read(self._project(project_id) / _REMOVED / f"{version}.json", version)

    def add(self, draft: AdapterMeta, staged: Path) -> AdapterMeta:
        """Copy the files beside the versions and rename the copy."""
        staging = self._project(draft.project_id) / f"{_STAGING}{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            return self._number(replace(draft, files=copy_adapter(staged, staging)), staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # gone already where it was renamed

    def verify(self, meta: AdapterMeta) -> None:
        """See `VersionStore`."""
        check_folder(self._folder(meta.project_id, meta.version), meta)

    def fetch(self, project_id: int, version: str) -> None:
        """It is here already."""
        self._folder(project_id, version)

    @contextmanager
    def hold(self, project_id: int, version: str) -> Iterator[Path]:
        """The version's folder itself, which nobody removes while it is needed (`versions.collect`)."""
        self.verify(from_json(self.meta(project_id, version), project_id, version))
        yield self._folder(project_id, version)

    def remove(self, project_id: int, version: str) -> None:
        """Keep meta.json first; then the folder goes by one rename."""
        folder, project = self._folder(project_id, version), self._project(project_id)
        _write(project / _REMOVED / f"{version}.json", (folder / META_FILE).read_bytes())
        gone = project / f"{_STAGING}{uuid.uuid4().hex}"
        folder.rename(gone)  # the version is there with all its files, or not at all
        sync(project)
        shutil.rmtree(gone)

    def write_document(self, project_id: int, name: str, text: bytes) -> None:
        """See `VersionStore`."""
        _write(self._project(project_id) / EVALUATIONS / name, text)

    def document(self, project_id: int, name: str) -> bytes | None:
        """See `VersionStore`."""
        path = self._project(project_id) / EVALUATIONS / name
        return path.read_bytes() if path.is_file() else None

    def document_names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        found = (self._project(project_id) / EVALUATIONS).glob("v*.json")
        return [path.name for path in found if is_document(path.name)]

    def sweep(self, older_than_s: float) -> int:
        """Remove folders that were being published or removed."""
        limit, removed = time.time() - older_than_s, 0
        for path in [*self._root.glob(f"{_STAGING}*"), *self._root.glob(f"project-*/{_STAGING}*")]:
            if path.stat().st_mtime <= limit:
                shutil.rmtree(path)
                removed += 1
        return removed

    def try_out(self) -> str:
        """See `VersionStore`."""
        probe = self._root / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            probe.mkdir(parents=True)
            probe.rmdir()
        except OSError as error:
            raise UnavailableError(
                f"Nothing can be written in {self.address}: {error}.",
                why="Versions could not be published.",
                todo="Give the user that runs this write access, or name another folder: ILLUME_ADAPTERS.",
            ) from error
        return ""

    def _number(self, meta: AdapterMeta, staging: Path) -> AdapterMeta:
        """Write meta.json and move the folder to the next number that nobody takes first."""
        project = staging.parent
        # in this order: whatever is removed between the two is among the removed by the second
        taken = [*self.names(meta.project_id), *self.removed_names(meta.project_id)]
        while True:
            meta = replace(meta, version=next_version(taken))
            (staging / META_FILE).write_bytes(to_json(meta))
            sync(staging / META_FILE)
            sync(staging)
            try:
                point("publish.before_rename")
                # A folder replaces an empty one only, and a published one never is.
                staging.rename(project / meta.version)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                taken = [meta.version]
                continue
            sync(project)
            point("publish.after_rename")
            return meta

    def _project(self, project_id: int) -> Path:
        return self._root / f"project-{project_id}"

    def _folder(self, project_id: int, version: str) -> Path:
        path = self._project(project_id) / version
        if not path.is_dir():
            known, removed = self.names(project_id), self.removed_names(project_id)
            raise missing(project_id, version, known=known, removed=removed)
        return path


def _write(path: Path, text: bytes) -> None:
    """Write a file beside the versions, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    draft.write_bytes(text)
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def _read(path: Path, version: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(version, f"{path.name} cannot be read: {error}") from error
