"""Brings a backup back: read and checked in full beside what is there, then put in by one rename."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from backend.backup.archive import Manifest, Progress, nowhere, read
from backend.data_folder import ADAPTERS, DATABASE, alone_with, has_state, put_in, sync
from backend.settings import Settings
from illume_plugin.errors import BadRequestError, ConflictError, ModelError, SettingsError, UnavailableError
from illume_plugin.registry import META_FILE, FolderStore, Registry
from illume_plugin.store import Store, projects
from illume_plugin.store.engines import SQLITE, read_url
from illume_plugin.types import BASE_VERSION

_STAGING = ".restoring-"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Attributes:
        former: where the state is now that was there before, if there was one.
    """

    manifest: Manifest
    former: Path | None


def check(path: Path, progress: Progress) -> Manifest:
    """Read a backup to its end and change nothing.

    Raises:
        BadRequestError: it is none, or is damaged.
    """
    return read(path, nowhere, progress)


def restore(settings: Settings, path: Path, progress: Progress, *, replace: bool = False) -> Restored:
    """Put the state of a backup into the data folder; a kill at any instant leaves the former one or this.

    Args:
        replace: move what is there aside; nothing is deleted.

    Raises:
        SettingsError: the settings name another database, or the backup is of a newer program.
        ConflictError: there is a state already, or a process uses the folder.
        BadRequestError: the file is no backup, or is damaged.
        UnavailableError: there is no room.
    """
    data_dir = settings.data_dir
    refuse_other_database(settings)
    with alone_with(data_dir):
        refuse_state(data_dir, replace=replace)
        _clear(data_dir)
        staged = data_dir / f"{_STAGING}{uuid.uuid4().hex}"
        staged.mkdir(mode=0o700)
        try:
            manifest = read(path, _Files(staged), progress)
            _prove(staged, path, manifest)
            _keep_numbers(data_dir / ADAPTERS, staged / ADAPTERS)
            _sync_all(staged)
            former = put_in(data_dir, staged)
        finally:
            shutil.rmtree(staged, ignore_errors=True)  # gone already where it was renamed
    return Restored(manifest, former)


def refuse_other_database(settings: Settings) -> None:
    """Say no where the settings name a database that is not the data folder's own.

    Raises:
        SettingsError: they do.
    """
    url = read_url(settings.store_url)
    own = (settings.data_dir / DATABASE).absolute()
    if url.get_backend_name() != SQLITE or Path(url.database or "").absolute() != own:
        raise SettingsError(
            f"A backup is restored into {own}, and the settings name another database.",
            todo="Leave ILLUME_DATABASE_URL out for this command. To go on with PostgreSQL afterwards: "
            "illume copy-store --to URL",
        )


def refuse_state(data_dir: Path, *, replace: bool) -> None:
    """Say no where there is a database or an adapter already.

    Raises:
        ConflictError: there is, and it is not to be replaced.
    """
    if has_state(data_dir) and not replace:
        raise ConflictError(
            f"{data_dir} holds a database or adapters already.",
            todo="Add --replace to move them aside, or name another folder by ILLUME_DATA_DIR.",
        )


class _Files:
    """A sink that writes below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def __call__(self, name: str) -> Iterator[IO[bytes]]:
        path = self._root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                yield file
        except OSError as error:
            raise UnavailableError(
                f"{path} cannot be written: {error.strerror or error}.", todo="Make room, then try again."
            ) from error


def _prove(staged: Path, path: Path, manifest: Manifest) -> None:
    """Open what was read as the program will: database with today's schema, versions with their hashes."""
    (staged / ADAPTERS).mkdir(exist_ok=True)
    if not (staged / DATABASE).is_file():
        raise BadRequestError(f"{path} holds no database.", why="Nothing was changed.")
    store = Store(f"sqlite:///{staged / DATABASE}")
    try:
        store.migrate()
        with store.read() as conn:
            known = projects.every(conn)
    finally:
        store.close()
    registry = Registry(FolderStore(staged / ADAPTERS))
    try:
        for number, version in sorted(manifest.versions):
            registry.verify(number, version)
    except ModelError as error:
        raise BadRequestError(f"{path}: {error.what}", why="Nothing was changed.") from error
    there = manifest.versions | {(one.project_id, BASE_VERSION) for one in known}
    lost = [one for one in known if (one.project_id, one.active_version) not in there]
    if lost and not manifest.versions_elsewhere:
        raise BadRequestError(
            f"{path} lacks {lost[0].active_version} of project {lost[0].project_id}, which served.",
            why="Nothing was changed.",
        )


def _keep_numbers(present: Path, staged: Path) -> None:
    """Remember the versions that are there and not in the backup as removed.

    Label Studio may hold predictions of them; none of their numbers may come to mean another adapter.
    """
    for meta in (*present.glob(f"project-*/v*/{META_FILE}"), *present.glob("project-*/removed/v*.json")):
        version = meta.stem if meta.parent.name == "removed" else meta.parent.name
        project = staged / meta.relative_to(present).parts[0]
        kept = project / "removed" / f"{version}.json"
        if not (project / version).exists() and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(meta, kept)


def _sync_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def _clear(data_dir: Path) -> None:
    """Remove what restoring left behind when its process died; nobody else is in the folder now."""
    for left in data_dir.glob(f"{_STAGING}*"):
        shutil.rmtree(left)
