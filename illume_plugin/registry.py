"""Adapter versions on disk: numbered, hashed, and published by one atomic rename. No torch.

    ROOT/project-12/v0001/adapter_model.safetensors
                          adapter_config.json
                          meta.json                  what AdapterMeta holds, with the hash of every file
                    removed/v0002.json               the meta.json of a version whose weights were removed

A folder called v0001 is complete or not there. Versions are never changed, and no number is given twice.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from illume_plugin.errors import ModelError, NotFoundError
from illume_plugin.types import BASE_VERSION, AdapterMeta

META_FILE = "meta.json"
#: The files of a version besides meta.json; no other is published, above all no pickle.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_VERSION = re.compile(r"v\d{4,}")
_STAGING = ".staging-"
_REMOVED = "removed"
_log = logging.getLogger(__name__)


class Registry:
    """The adapter versions of all projects under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def versions(self, project_id: int) -> list[AdapterMeta]:
        """All versions of a project, oldest first; one whose meta.json is damaged is left out and logged."""
        metas = []
        for name in self._names(project_id):
            try:
                metas.append(self.meta(project_id, name))
            except ModelError as error:
                _log.warning("adapter version left out: %s", error)
        return metas

    def meta(self, project_id: int, version: str) -> AdapterMeta:
        """What meta.json says of a version.

        Raises:
            NotFoundError: there is no such version.
            ModelError: its meta.json is damaged, or the name is not a version.
        """
        return _read_meta(self.folder(project_id, version) / META_FILE, project_id, version)

    def removed(self, project_id: int) -> list[AdapterMeta]:
        """What meta.json said of the versions whose weights were removed, oldest first."""
        folder = self._project(project_id) / _REMOVED
        names = set(self._removed_names(project_id)) - set(self._names(project_id))
        return [
            _read_meta(folder / f"{name}.json", project_id, name) for name in sorted(names, key=_number_of)
        ]

    def folder(self, project_id: int, version: str) -> Path:
        """The folder of a version, as a PEFT adapter.

        Raises:
            NotFoundError: there is no such version; `v0000` is the base model and has none.
            ModelError: the name is not a version.
        """
        path = self._project(project_id) / checked_version(version)
        if version == BASE_VERSION:
            raise NotFoundError(f"{BASE_VERSION} is the base model without an adapter; it has no folder.")
        if not path.is_dir():
            if version in self._removed_names(project_id):
                raise NotFoundError(
                    f"The weights of {version} of project {project_id} were removed.",
                    why="Only what meta.json said of it is left.",
                )
            known = ", ".join(self._names(project_id)) or "none yet"
            raise NotFoundError(
                f"Project {project_id} has no adapter version {version}.", why=f"Its versions are: {known}."
            )
        return path

    def publish(
        self,
        project_id: int,
        staged: Path,
        *,
        parent: str,
        base_model: str,
        base_model_hash: str,
        training_set: str,
        config: Mapping[str, Any],
        seed: int,
        metrics: Mapping[str, Any],
        versions: Mapping[str, str],
        created_at: float | None = None,
    ) -> AdapterMeta:
        """Publish the adapter in `staged` under the next free number; `staged` itself is left alone.

        The files reach the disk before the version appears, and several processes may publish at once.

        Raises:
            ModelError: `staged` lacks an adapter's files or holds others.
        """
        _check_files(staged)
        project = self._project(project_id)
        staging = project / f"{_STAGING}{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            for name in ADAPTER_FILES:
                shutil.copyfile(staged / name, staging / name)
                _sync(staging / name)
            meta = AdapterMeta(
                version="",
                project_id=project_id,
                parent=checked_version(parent),
                base_model=base_model,
                base_model_hash=base_model_hash,
                training_set=training_set,
                config=dict(config),
                seed=seed,
                metrics=dict(metrics),
                versions=dict(versions),
                created_at=time.time() if created_at is None else created_at,
                files={name: _sha256(staging / name) for name in ADAPTER_FILES},
            )
            return self._number(meta, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # gone already where it was renamed

    def verify(self, project_id: int, version: str) -> AdapterMeta:
        """Hash every file of a version again.

        Raises:
            NotFoundError: there is no such version.
            ModelError: a file is missing, added or changed since it was published.
        """
        meta, folder = self.meta(project_id, version), self.folder(project_id, version)
        found = {path.name for path in folder.iterdir()} - {META_FILE}
        if found != set(meta.files):
            raise _damaged(version, f"files are {sorted(found)}, published were {sorted(meta.files)}")
        for name, expected in meta.files.items():
            if _sha256(folder / name) != expected:
                raise _damaged(version, f"{name} is not the file that was published")
        return meta

    def remove(self, project_id: int, version: str) -> None:
        """Remove a version's weights; its meta.json is kept, for the lineage of those after it.

        Killed at any point, it leaves a complete version or none, and may be called again.

        Raises:
            NotFoundError: there is no such version.
            ModelError: the name is not a version, or its meta.json is damaged.
        """
        self.meta(project_id, version)
        folder, project = self.folder(project_id, version), self._project(project_id)
        kept = project / _REMOVED / f"{version}.json"
        kept.parent.mkdir(exist_ok=True)
        draft = kept.with_name(f".{version}.{uuid.uuid4().hex}")
        shutil.copyfile(folder / META_FILE, draft)
        _sync(draft)
        draft.replace(kept)
        _sync(kept.parent)
        gone = project / f"{_STAGING}{uuid.uuid4().hex}"
        folder.rename(gone)  # the version is there with all its files, or not at all
        _sync(project)
        shutil.rmtree(gone)

    def sweep(self, *, older_than_s: float = 3600.0) -> int:
        """Remove what publishing left behind when its process died; returns how many folders.

        Args:
            older_than_s: younger ones may be at work right now and are left.
        """
        limit, removed = time.time() - older_than_s, 0
        for path in self._root.glob(f"project-*/{_STAGING}*"):
            if path.stat().st_mtime <= limit:
                shutil.rmtree(path)
                removed += 1
        return removed

    def _number(self, meta: AdapterMeta, staging: Path) -> AdapterMeta:
        """Write meta.json and move the folder to the next number that nobody takes first."""
        project = staging.parent
        # in this order: whatever is removed between the two is among the removed by the second
        taken = [*self._names(meta.project_id), *self._removed_names(meta.project_id)]
        number = max([0, *map(_number_of, taken)])
        while True:
            number += 1
            meta = replace(meta, version=f"v{number:04d}")
            (staging / META_FILE).write_text(
                json.dumps(asdict(meta), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
            )
            _sync(staging / META_FILE)
            _sync(staging)
            try:
                # A folder replaces an empty one only, and a published one never is.
                staging.rename(project / meta.version)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue
            _sync(project)
            return meta

    def _project(self, project_id: int) -> Path:
        return self._root / f"project-{int(project_id)}"

    def _names(self, project_id: int) -> list[str]:
        project = self._project(project_id)
        names = [p.name for p in project.iterdir() if _VERSION.fullmatch(p.name)] if project.is_dir() else []
        return sorted(names, key=_number_of)

    def _removed_names(self, project_id: int) -> list[str]:
        found = (self._project(project_id) / _REMOVED).glob("v*.json")
        return [path.stem for path in found if _VERSION.fullmatch(path.stem)]


def _number_of(version: str) -> int:
    return int(version[1:])


def checked_version(version: str) -> str:
    """`version` itself where it is one, so that it can never name a path outside its project.

    Raises:
        ModelError: it is not v and at least four digits.
    """
    if not _VERSION.fullmatch(version):
        raise ModelError(f"{version!r} is not an adapter version.", why="Versions are v0001, v0002, ...")
    return version


def _read_meta(path: Path, project_id: int, version: str) -> AdapterMeta:
    try:
        meta = AdapterMeta(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(version, f"{META_FILE} cannot be read: {error}") from error
    if (meta.version, meta.project_id) != (version, project_id):
        raise _damaged(version, f"{META_FILE} is of {meta.version} of project {meta.project_id}")
    return meta


def _check_files(staged: Path) -> None:
    found = sorted(path.name for path in staged.iterdir()) if staged.is_dir() else []
    if found != sorted(ADAPTER_FILES) or not all((staged / name).is_file() for name in found):
        raise ModelError(
            f"{staged} cannot be published: it holds {found or 'nothing'}.",
            why=f"An adapter is {' and '.join(ADAPTER_FILES)}; other files, pickles above all, stay out.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(version: str, reason: str) -> ModelError:
    return ModelError(
        f"Adapter {version} is damaged: {reason}.",
        why="It would not be the adapter that was evaluated.",
        todo="Restore it from a backup, or roll back to another version.",
    )
