"""Makes a backup while all goes on: the database as it is at one moment, then the adapters it knows."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from backend.backup.archive import Manifest, Progress, Writer, is_name
from backend.data_folder import ADAPTERS, DATABASE, Using, sync
from backend.settings import Settings
from illume_plugin import __version__
from illume_plugin.errors import ConflictError, NotFoundError, SettingsError, UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.registry import ADAPTER_FILES, META_FILE
from illume_plugin.store import Store, projects
from illume_plugin.store.engines import SQLITE, read_url
from illume_plugin.types import BASE_VERSION

#: Pages of the database that are copied between two words of progress.
_PAGES = 2048
#: A version that is published, switched to and removed all while a backup is made is waited for so often.
_TRIES = 3
#: What a process left that died while it wrote a backup goes after so long, seconds.
_ABANDONED_S = 3600.0


def sizes(settings: Settings) -> tuple[int, int]:
    """(bytes of the database, bytes of the adapters) that a backup would hold, about.

    Raises:
        SettingsError: the database is not SQLite.
        NotFoundError: there is none.
    """
    database, adapters = _database(settings), settings.data_dir / ADAPTERS
    sizes = []
    for path in adapters.glob("project-*/*/*"):
        with suppress(FileNotFoundError):  # removed meanwhile
            sizes.append(path.stat().st_size)
    return database.stat().st_size, sum(sizes)


def back_up(settings: Settings, target: Path, progress: Progress, *, replace: bool = False) -> Manifest:
    """Write a backup to `target`, all of it or nothing, readable by its owner alone.

    Args:
        replace: take the place of a file that is there.

    Raises:
        SettingsError: the database is not SQLite.
        NotFoundError: there is no database, or no folder for `target`.
        ConflictError: `target` is there.
        UnavailableError: there is no room, or the database is damaged.
    """
    check_target(settings, target, replace=replace)
    _clear(target)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    copy = draft.with_name(f"{draft.name}.sqlite3")
    try:
        with closing(Using(settings.data_dir)):  # nobody puts another state in meanwhile
            manifest = _written(settings, copy, draft, progress)
        point("backup.before_name")
        _name(draft, target, replace=replace)
        point("backup.after_name")
    except OSError as error:
        raise UnavailableError(
            f"{target} cannot be written: {error.strerror or error}.",
            todo="Make room, or choose another place.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
    return manifest


def _written(settings: Settings, copy: Path, draft: Path, progress: Progress) -> Manifest:
    for _ in range(_TRIES):
        copy_database(_database(settings), copy, progress)
        manifest = _write(settings, copy, draft, progress)
        if _is_whole(copy, manifest):
            return manifest
    raise ConflictError("Versions come and go too fast to be backed up.", todo="Try again.")


def check_target(settings: Settings, target: Path, *, replace: bool) -> None:
    """Say no to a place where a backup cannot be written; see `back_up`."""
    if not target.parent.is_dir():
        raise NotFoundError(f"There is no folder {target.parent}.", todo="Make it, or name another place.")
    if target.exists() and (target.is_dir() or not replace):
        raise ConflictError(f"{target} is there already.", todo="Name another file, or add --replace.")
    database, adapters = sizes(settings)
    needed = 2 * database + adapters
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise UnavailableError(
            f"{target.parent} has room for {free / 1e6:,.0f} MB; making it takes {needed / 1e6:,.0f} MB.",
            todo="Make room, or choose another place.",
        )


def _clear(target: Path) -> None:
    """Remove what was left of earlier tries at the same backup."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}(\.sqlite3(-journal)?)?")
    for path in target.parent.iterdir():
        if name.fullmatch(path.name) and path.stat().st_mtime < time.time() - _ABANDONED_S:
            path.unlink(missing_ok=True)


def copy_database(source: Path, target: Path, progress: Progress) -> None:
    """Copy an SQLite database that others write to, as it is at one moment.

    Raises:
        UnavailableError: it is damaged, or cannot be read.
    """
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o600))
    done = 0

    def tell(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        share = source_bytes * (total - remaining) // max(total, 1)
        progress(share - done)
        done = share

    source_bytes = source.stat().st_size
    try:
        with (
            closing(sqlite3.connect(source, isolation_level=None, timeout=30)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            # A snapshot held open: without it each change by somebody else would begin the copy anew.
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()
            live.backup(copy, pages=_PAGES, progress=tell)
            copy.execute("PRAGMA journal_mode=DELETE")
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise UnavailableError(f"The database {source} cannot be copied: {error}.") from error
    if found != "ok":
        raise UnavailableError(
            f"The database {source} is damaged: {found}.",
            why="A backup of it could not be relied on.",
            todo="Bring back an earlier one: illume restore FILE --replace",
        )


def _write(settings: Settings, database: Path, draft: Path, progress: Progress) -> Manifest:
    adapters = settings.data_dir / ADAPTERS
    with open(draft, "wb", opener=_private) as file:
        writer = Writer(file, progress)
        _add(writer, [database], [DATABASE])
        for folder in sorted(adapters.glob("project-*/v*")):
            files = [folder / name for name in (*ADAPTER_FILES, META_FILE)]
            _add(writer, files, [f"{ADAPTERS}/{_below(adapters, path)}" for path in files])
        # After the versions: of one that is removed meanwhile its meta.json is here by now.
        for path in sorted(adapters.glob("project-*/[er]*/v*.json")):
            _add(writer, [path], [f"{ADAPTERS}/{_below(adapters, path)}"])
        manifest = writer.end(
            lambda files: Manifest(time.time(), __version__, files, versions_elsewhere=settings.adapters)
        )
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _add(writer: Writer, paths: Sequence[Path], names: Sequence[str]) -> None:
    """Add files that belong together, all of them or, where one has gone meanwhile, none."""
    if not all(map(is_name, names)):
        return
    with ExitStack() as stack:
        try:
            contents = [stack.enter_context(path.open("rb")) for path in paths]
        except FileNotFoundError:
            return
        for name, content in zip(names, contents, strict=True):
            writer.add(name, content, os.fstat(content.fileno()).st_size)


def _below(adapters: Path, path: Path) -> str:
    return path.relative_to(adapters).as_posix()


def _is_whole(database: Path, manifest: Manifest) -> bool:
    """Whether every version that serves is in it."""
    if manifest.versions_elsewhere:
        return True
    store = Store(f"sqlite:///{database}")
    with store.read() as conn:
        serving = {(one.project_id, one.active_version) for one in projects.every(conn)}
    store.close()
    return all(one in manifest.versions for one in serving if one[1] != BASE_VERSION)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _name(draft: Path, target: Path, *, replace: bool) -> None:
    if replace:
        draft.replace(target)
    else:
        try:
            os.link(draft, target)  # not rename: what somebody else put there meanwhile stays
        except FileExistsError:
            raise ConflictError(f"{target} is there already.", todo="Name another file.") from None
    sync(target.parent)


def _database(settings: Settings) -> Path:
    url = settings.store_url
    if read_url(url).get_backend_name() != SQLITE:
        raise SettingsError(
            "The database is PostgreSQL, which has tools of its own for this.",
            why="A backup of this kind holds an SQLite database.",
            todo=f"Back it up with pg_dump, and copy the folder {settings.data_dir / ADAPTERS} afterwards.",
        )
    path = Path(read_url(url).database or "")
    if not path.is_file():
        raise NotFoundError(f"There is no database {path}.", todo="See that ILLUME_DATA_DIR is right.")
    return path
