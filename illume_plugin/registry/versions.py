"""The adapter versions of all projects, wherever they are kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from illume_plugin.errors import ModelError, NotFoundError
from illume_plugin.registry.files import (
    check_staged,
    checked_document,
    checked_version,
    from_json,
    in_order,
    to_json,
)
from illume_plugin.types import BASE_VERSION, AdapterMeta

_log = logging.getLogger(__name__)


class VersionStore(Protocol):
    """Keeps versions. One is there with all its files or not at all, whenever a process dies.

    Every method that is given a version may raise NotFoundError (it is not there), ModelError (it is
    damaged) and UnavailableError (the store does not answer). Names were checked by the registry.
    """

    @property
    def root(self) -> Path:
        """Local folder below which all folders lie that `hold` gives."""

    @property
    def address(self) -> str:
        """Where versions are kept, in words for a person."""

    def names(self, project_id: int) -> list[str]:
        """Versions that are there, in any order."""

    def removed_names(self, project_id: int) -> list[str]:
        """Versions of which a meta.json was kept; one whose removal was interrupted may be there, too."""

    def meta(self, project_id: int, version: str, *, listed: bool = False) -> bytes:
        """The meta.json of a version.

        Args:
            listed: `names` has just named it, so what was read of it before is as good.
        """

    def removed_meta(self, project_id: int, version: str) -> bytes:
        """The meta.json of a version whose weights were removed."""

    def add(self, draft: AdapterMeta, staged: Path) -> AdapterMeta:
        """Keep the adapter in `staged` under the next number; returns the draft with version and hashes."""

    def verify(self, meta: AdapterMeta) -> None:
        """Hash every file again, where it is kept."""

    def fetch(self, project_id: int, version: str) -> None:
        """Bring a version to this machine, if it is not here: `hold` is quick afterwards."""

    def hold(self, project_id: int, version: str) -> AbstractContextManager[Path]:
        """The verified folder of a version on this machine; it stays until the block ends."""

    def remove(self, project_id: int, version: str) -> None:
        """Remove the files and keep meta.json."""

    def write_document(self, project_id: int, name: str, text: bytes) -> None:
        """Keep an evaluation document, in place of one of that name; nobody sees half of it."""

    def document(self, project_id: int, name: str) -> bytes | None:
        """An evaluation document; None where there is none."""

    def document_names(self, project_id: int) -> list[str]:
        """The evaluation documents that are there, in any order."""

    def sweep(self, older_than_s: float) -> int:
        """Remove what dead processes left behind; returns how many leftovers."""

    def try_out(self) -> str:
        """Write, read and remove something; returns a word of caution, or nothing where there is none."""


class Registry:
    """The adapter versions of all projects in one store. Safe to share between threads and processes."""

    def __init__(self, store: VersionStore) -> None:
        self.store = store

    def versions(self, project_id: int) -> list[AdapterMeta]:
        """All versions of a project, oldest first; one whose meta.json is damaged is left out and logged."""
        metas, project_id = [], int(project_id)
        for name in in_order(self.store.names(project_id)):
            try:
                metas.append(from_json(self.store.meta(project_id, name, listed=True), project_id, name))
            except (ModelError, NotFoundError) as error:  # the latter: removed since it was listed
                _log.warning("adapter version left out: %s", error)
        return metas

    def meta(self, project_id: int, version: str) -> AdapterMeta:
        """What meta.json says of a version.

        Raises:
            NotFoundError: there is no such version.
            ModelError: its meta.json is damaged, or the name is not a version.
        """
        _must_name_an_adapter(version)
        return from_json(self.store.meta(int(project_id), version), int(project_id), version)

    def removed(self, project_id: int) -> list[AdapterMeta]:
        """What meta.json said of the versions whose weights were removed, oldest first."""
        project_id = int(project_id)
        # in this order: whatever is removed between the two is among the removed by the second
        there = set(self.store.names(project_id))
        names = set(self.store.removed_names(project_id)) - there
        return [
            from_json(self.store.removed_meta(project_id, name), project_id, name) for name in in_order(names)
        ]

    @contextmanager
    def hold(self, project_id: int, version: str) -> Iterator[Path]:
        """The verified folder of a version, as a PEFT adapter; it stays until the block ends.

        Raises:
            NotFoundError: there is no such version; `v0000` is the base model and has none.
            ModelError: the name is not a version, or a file is not the one that was published.
            UnavailableError: it is not on this machine, and the store does not answer.
        """
        _must_name_an_adapter(version)
        with self.store.hold(int(project_id), version) as folder:
            yield folder

    def folder(self, project_id: int, version: str) -> Path:
        """The verified folder of a version. With a remote store it may go as soon as nobody holds it.

        Raises:
            NotFoundError, ModelError, UnavailableError: as `hold`.
        """
        with self.hold(project_id, version) as folder:
            return folder

    def fetch(self, project_id: int, version: str) -> None:
        """Bring a version to this machine before it is needed.

        Raises:
            NotFoundError, ModelError, UnavailableError: as `hold`.
        """
        _must_name_an_adapter(version)
        self.store.fetch(int(project_id), version)

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

        The files are kept before the version appears, and several processes may publish at once.

        Raises:
            ModelError: `staged` lacks an adapter's files or holds others.
            UnavailableError: the store does not answer; no version has come into being.
            ValueError: a figure is not finite.
        """
        check_staged(staged)
        draft = AdapterMeta(
            version="",
            project_id=int(project_id),
            parent=checked_version(parent),
            base_model=base_model,
            base_model_hash=base_model_hash,
            training_set=training_set,
            config=dict(config),
            seed=seed,
            metrics=dict(metrics),
            versions=dict(versions),
            created_at=time.time() if created_at is None else created_at,
        )
        to_json(draft)  # what cannot be written is refused before a number is taken for it
        return self.store.add(draft, staged)

    def verify(self, project_id: int, version: str) -> AdapterMeta:
        """Hash every file of a version again, where it is kept.

        Raises:
            NotFoundError: there is no such version.
            ModelError: a file is missing, added or changed since it was published.
            UnavailableError: the store does not answer.
        """
        meta = self.meta(project_id, version)
        self.store.verify(meta)
        return meta

    def remove(self, project_id: int, version: str) -> None:
        """Remove a version's weights; its meta.json is kept, for the lineage of those after it.

        Killed at any point, it leaves a complete version or none, and may be called again.

        Raises:
            NotFoundError: there is no such version.
            ModelError: the name is not a version, or its meta.json is damaged.
            UnavailableError: the store does not answer.
        """
        self.meta(project_id, version)
        self.store.remove(int(project_id), version)

    def write_document(self, project_id: int, name: str, text: bytes) -> None:
        """Keep an evaluation document beside the versions, in place of an earlier one of that name.

        Raises:
            ModelError: the name is none of a document.
            UnavailableError: the store does not answer, or does not take it.
        """
        self.store.write_document(int(project_id), checked_document(name), text)

    def document(self, project_id: int, name: str) -> bytes | None:
        """An evaluation document; None where there is none.

        Raises:
            ModelError: the name is none of a document.
            UnavailableError: the store does not answer.
        """
        return self.store.document(int(project_id), checked_document(name))

    def document_names(self, project_id: int) -> list[str]:
        """The names of a project's evaluation documents, in order.

        Raises:
            UnavailableError: the store does not answer.
        """
        return sorted(self.store.document_names(int(project_id)))

    def sweep(self, *, older_than_s: float = 3600.0) -> int:
        """Remove what publishing and removing left behind when their process died; returns how much.

        Args:
            older_than_s: younger ones may be at work right now and are left.
        """
        return self.store.sweep(older_than_s)


def _must_name_an_adapter(version: str) -> None:
    if checked_version(version) == BASE_VERSION:
        raise NotFoundError(f"{BASE_VERSION} is the base model without an adapter; it has no folder.")
