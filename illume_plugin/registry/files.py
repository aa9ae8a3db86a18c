"""What a version consists of: the names and hashes of its files, and its meta.json."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from illume_plugin.errors import ModelError, NotFoundError
from illume_plugin.types import AdapterMeta

META_FILE = "meta.json"
#: The files of a version besides meta.json; no other is published, above all no pickle.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

#: Folder of a project's evaluation documents, beside its versions.
EVALUATIONS = "evaluations"

_VERSION = re.compile(r"v[0-9]{4,9}")
_DOCUMENT = re.compile(r"v[0-9]{4,}-[0-9a-f]{1,64}\.json")


def is_version(name: str) -> bool:
    """Whether a name is one of a version."""
    return _VERSION.fullmatch(name) is not None


def checked_version(version: str) -> str:
    """`version` itself where it is one, so that it can never name a path outside its project.

    Raises:
        ModelError: it is not v and at least four digits.
    """
    if not is_version(version):
        raise ModelError(f"{version!r} is not an adapter version.", why="Versions are v0001, v0002, ...")
    return version


def is_document(name: str) -> bool:
    """Whether a name is one of an evaluation document: its version, and the hash of what it is of."""
    return _DOCUMENT.fullmatch(name) is not None


def checked_document(name: str) -> str:
    """`name` itself where it is one of a document, so that it can never name a path outside its project.

    Raises:
        ModelError: it is not.
    """
    if not is_document(name):
        raise ModelError(f"{name!r} is not the name of an evaluation.", why="They are v0001-3f2a91c0.json.")
    return name


def number_of(version: str) -> int:
    """7 for `v0007`."""
    return int(version[1:])


def in_order(versions: Iterable[str]) -> list[str]:
    """Versions by their number."""
    return sorted(versions, key=number_of)


def next_version(taken: Iterable[str]) -> str:
    """The version after all of `taken`."""
    return f"v{max([0, *map(number_of, taken)]) + 1:04d}"


def to_json(meta: AdapterMeta) -> bytes:
    """What meta.json holds.

    Raises:
        ValueError: a figure is not finite, or a value is none that JSON knows.
    """
    return json.dumps(asdict(meta), indent=1, ensure_ascii=False, allow_nan=False).encode()


def from_json(text: bytes, project_id: int, version: str) -> AdapterMeta:
    """Read a meta.json.

    Raises:
        ModelError: it is damaged, is of another version, or names files that no version has.
    """
    try:
        meta = AdapterMeta(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise damaged(version, f"{META_FILE} cannot be read: {error}") from error
    if (meta.version, meta.project_id) != (version, project_id):
        raise damaged(version, f"{META_FILE} is of {meta.version} of project {meta.project_id}")
    if not isinstance(meta.files, dict) or sorted(meta.files) != sorted(ADAPTER_FILES):
        raise damaged(version, f"{META_FILE} names files that no version has")
    return meta


def check_staged(staged: Path) -> None:
    """Refuse what cannot be published.

    Raises:
        ModelError: the folder lacks an adapter's files or holds others.
    """
    found = sorted(path.name for path in staged.iterdir()) if staged.is_dir() else []
    if found != sorted(ADAPTER_FILES) or not all((staged / name).is_file() for name in found):
        raise ModelError(
            f"{staged} cannot be published: it holds {found or 'nothing'}.",
            why=f"An adapter is {' and '.join(ADAPTER_FILES)}; other files, pickles above all, stay out.",
        )


def copy_adapter(source: Path, target: Path) -> dict[str, str]:
    """Copy an adapter's files to the disk; returns the sha256 of each copy."""
    for name in ADAPTER_FILES:
        shutil.copyfile(source / name, target / name)
        sync(target / name)
    return {name: sha256(target / name) for name in ADAPTER_FILES}


def check_folder(folder: Path, meta: AdapterMeta) -> None:
    """Hash every file of a version again.

    Raises:
        ModelError: a file is missing, added or changed since it was published.
    """
    try:
        check_names({path.name for path in folder.iterdir()}, meta)
        for name, expected in meta.files.items():
            check_hash(name, sha256(folder / name), expected, meta)
    except OSError as error:
        raise damaged(meta.version, f"its files cannot be read: {error}") from error


def check_names(found: set[str], meta: AdapterMeta) -> None:
    """Compare the names of a version's files with those that were published; raises ModelError."""
    if found - {META_FILE} != set(meta.files):
        raise damaged(
            meta.version, f"files are {sorted(found - {META_FILE})}, published were {sorted(meta.files)}"
        )


def check_hash(name: str, found: str, expected: str, meta: AdapterMeta) -> None:
    """Compare a file with the one that was published; raises ModelError."""
    if found != expected:
        raise damaged(meta.version, f"{name} is not the file that was published")


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damaged(version: str, reason: str) -> ModelError:
    """A version that is not what was published."""
    return ModelError(
        f"Adapter {version} is damaged: {reason}.",
        why="It would not be the adapter that was evaluated.",
        todo="Restore it from a backup, or roll back to another version.",
    )


def missing(project_id: int, version: str, *, known: Iterable[str], removed: Iterable[str]) -> NotFoundError:
    """There is no such version, or not any more.

    Args:
        known: the versions that are there.
        removed: those whose weights were removed.
    """
    if version in removed:
        return NotFoundError(
            f"The weights of {version} of project {project_id} were removed.",
            why="Only what meta.json said of it is left.",
        )
    return NotFoundError(
        f"Project {project_id} has no adapter version {version}.",
        why=f"Its versions are: {', '.join(in_order(known)) or 'none yet'}.",
        todo="Was it made on another machine? Let ILLUME_ADAPTERS name a store that all of them use.",
    )
