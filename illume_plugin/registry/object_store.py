"""Versions in a store of objects (S3 and the like), which has neither folders nor renames.

    ADDRESS/project-12/claims/v0001                       who took the number; never removed
                       v0001/adapter_model.safetensors
                             adapter_config.json
                             meta.json                    written last: without it there is no version
                       removed/v0002.json
                       evaluations/v0001-3f2a91c0.json

Beside the claims the names are those of a folder (`folder_store`), so one can be copied to the other.
Publishing takes a number by making its claim, which of several publishers only one can; then come the files,
and meta.json at the end. Removing takes the other way. A process that dies in between leaves a number without
a version, or files that `sweep` removes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from illume_plugin.errors import UnavailableError
from illume_plugin.registry.cache import AdapterCache
from illume_plugin.registry.files import (
    ADAPTER_FILES,
    EVALUATIONS,
    META_FILE,
    check_folder,
    check_names,
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
from illume_plugin.registry.objects import Objects
from illume_plugin.types import AdapterMeta

_CLAIMS, _REMOVED = "claims", "removed"
_log = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What lies in the store for one project: version -> file name -> bytes, and names."""

    files: Mapping[str, Mapping[str, int]]
    claimed: frozenset[str]
    removed: frozenset[str]

    @property
    def complete(self) -> list[str]:
        return [version for version, names in self.files.items() if META_FILE in names]

    @property
    def taken(self) -> set[str]:
        return {*self.files, *self.claimed, *self.removed}


class ObjectStore:
    """Keeps versions in a store of objects, with verified copies of those in use on this machine."""

    def __init__(self, objects: Objects, cache: AdapterCache) -> None:
        self._objects = objects
        self._cache = cache
        self._read: dict[tuple[int, str], bytes] = {}

    @property
    def root(self) -> Path:
        """The copies on this machine."""
        return self._cache.root

    @property
    def address(self) -> str:
        """Without credentials."""
        return self._objects.address

    def names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        return self._shelf(project_id).complete

    def removed_names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        return list(self._shelf(project_id).removed)

    def meta(self, project_id: int, version: str, *, listed: bool = False) -> bytes:
        """See `VersionStore`. Versions never change: a list of them asks only for those it has not seen."""
        if listed and (project_id, version) in self._read:
            return self._read[project_id, version]
        text = self._objects.read(_name(project_id, version, META_FILE))
        if text is None:
            shelf = self._shelf(project_id)
            raise missing(project_id, version, known=shelf.complete, removed=shelf.removed)
        from_json(text, project_id, version)  # a damaged one is not remembered: it may be mended
        self._read[project_id, version] = text
        return text

    def removed_meta(self, project_id: int, version: str) -> bytes:
        """See `VersionStore`."""
        text = self._objects.read(_name(project_id, _REMOVED, f"{version}.json"))
        if text is None:
            raise damaged(version, "the meta.json that was kept of it is gone")
        return text

    def add(self, draft: AdapterMeta, staged: Path) -> AdapterMeta:
        """See the module; what is uploaded stays on this machine as its copy."""
        with self._cache.staging() as staging:
            draft = replace(draft, files=copy_adapter(staged, staging))
            meta = replace(draft, version=self._claim(draft.project_id))
            for name in ADAPTER_FILES:
                self._objects.upload(staging / name, _name(meta.project_id, meta.version, name))
            self._must_be_there(meta, staging)
            _write(staging, to_json(meta))
            self._objects.write(_name(meta.project_id, meta.version, META_FILE), to_json(meta))
            self._cache.adopt(meta.project_id, meta.version, staging)
        return meta

    def verify(self, meta: AdapterMeta) -> None:
        """Fetch it again and hash it; this machine then has a copy."""
        check_names(set(self._shelf(meta.project_id).files.get(meta.version, ())), meta)
        with self._cache.staging() as staging:
            self._download(meta.project_id, meta.version, staging)
            self._cache.adopt(meta.project_id, meta.version, staging)

    def fetch(self, project_id: int, version: str) -> None:
        """See `VersionStore`."""
        if not self._cache.has(project_id, version):
            with self.hold(project_id, version):
                pass

    def hold(self, project_id: int, version: str) -> AbstractContextManager[Path]:
        """The copy on this machine, which is fetched where there is none or a damaged one."""
        return self._cache.hold(project_id, version, partial(self._download, project_id, version))

    def remove(self, project_id: int, version: str) -> None:
        """Keep meta.json elsewhere; then it goes, and with it the version; the files follow."""
        text = self.meta(project_id, version)
        self._objects.write(_name(project_id, _REMOVED, f"{version}.json"), text)
        self._objects.delete([_name(project_id, version, META_FILE)])
        files = self._shelf(project_id).files.get(version, ())
        self._objects.delete(_name(project_id, version, name) for name in files)
        self._cache.drop(project_id, version)

    def write_document(self, project_id: int, name: str, text: bytes) -> None:
        """See `VersionStore`."""
        self._objects.write(_name(project_id, EVALUATIONS, name), text)

    def document(self, project_id: int, name: str) -> bytes | None:
        """See `VersionStore`."""
        return self._objects.read(_name(project_id, EVALUATIONS, name))

    def document_names(self, project_id: int) -> list[str]:
        """See `VersionStore`."""
        found = self._objects.sizes(_name(project_id, EVALUATIONS))
        return [name for path in found if is_document(name := path.rpartition("/")[2])]

    def sweep(self, older_than_s: float) -> int:
        """Remove files of versions that never came to be or are removed, and leftovers on this machine."""
        swept = 0
        for project_id in {_project_of(name) for name in self._objects.sizes("")} - {None}:
            shelf = self._shelf(int(project_id or 0))
            for version in set(shelf.files) - set(shelf.complete):
                if version in shelf.removed or self._claimed_before(project_id, version, older_than_s):
                    self._objects.delete(_name(project_id, version, name) for name in shelf.files[version])
                    swept += 1
        return swept + self._cache.sweep(older_than_s)

    def try_out(self) -> str:
        """See `VersionStore`."""
        probe, token = f"probes/{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
        again = not self._objects.create(probe, token) or self._objects.create(probe, token[::-1])
        self._objects.delete([probe])
        if again or not self._objects.exclusive:
            return "it does not tell two that create the same object apart; only the runs' lease does"
        return ""

    def _claim(self, project_id: int) -> str:
        """Take the next number; of several that try only one gets it."""
        if not self._objects.exclusive:
            _log.warning("%s cannot create exclusively: only the runs' lease guards numbers", self.address)
        taken: Iterable[str] = self._shelf(project_id).taken
        while True:
            version = next_version(taken)
            claim = json.dumps({"publisher": uuid.uuid4().hex, "at": time.time()}).encode()
            if self._objects.create(_name(project_id, _CLAIMS, version), claim):
                return version
            taken = [version]

    def _claimed_before(self, project_id: int | None, version: str, seconds: float) -> bool:
        text = self._objects.read(_name(project_id, _CLAIMS, version))
        try:
            return float(json.loads(text or b"")["at"]) <= time.time() - seconds
        except (ValueError, KeyError, TypeError):
            return False  # no claim: somebody is copying a folder into the store; or it says nothing

    def _must_be_there(self, meta: AdapterMeta, staging: Path) -> None:
        """Before meta.json says so: an upload may have been cut short, or swept as if we had died."""
        found = self._shelf(meta.project_id).files.get(meta.version, {})
        if any(found.get(name) != (staging / name).stat().st_size for name in ADAPTER_FILES):
            raise UnavailableError(
                f"The files of {meta.version} are not all in {self.address} after they were uploaded.",
                why="The version was not published.",
            )

    def _download(self, project_id: int, version: str, target: Path) -> None:
        text = self.meta(project_id, version)
        meta = from_json(text, project_id, version)
        for name in ADAPTER_FILES:
            if not self._objects.download(_name(project_id, version, name), target / name):
                raise damaged(version, f"{name} is gone from {self.address}")
            sync(target / name)
        check_folder(target, meta)
        _write(target, text)
        _log.info("fetched adapter %s of project %d from %s", version, project_id, self.address)

    def _shelf(self, project_id: int) -> _Shelf:
        files: dict[str, dict[str, int]] = {}
        named: dict[str, set[str]] = {_CLAIMS: set(), _REMOVED: set()}
        for name, size in self._objects.sizes(f"project-{project_id}").items():
            _, folder, file = [*name.split("/"), "", ""][:3]
            if is_version(folder):
                files.setdefault(folder, {})[file] = size
            elif folder in named and is_version(file.removesuffix(".json")):
                named[folder].add(file.removesuffix(".json"))
        return _Shelf(files, frozenset(named[_CLAIMS]), frozenset(named[_REMOVED]))


def _name(project_id: int | None, *parts: Any) -> str:
    return "/".join((f"project-{project_id}", *parts))


def _project_of(name: str) -> int | None:
    folder = name.split("/")[0]
    number = folder.removeprefix("project-")
    return int(number) if folder != number and number.isascii() and number.isdecimal() else None


def _write(folder: Path, text: bytes) -> None:
    (folder / META_FILE).write_bytes(text)
    sync(folder / META_FILE)
    sync(folder)
