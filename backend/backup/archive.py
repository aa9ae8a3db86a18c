"""The file: a tar of the database and the adapters, and at its end a list of them with their hashes.

Names other than those of a state are neither written nor read: a file from elsewhere cannot put anything
anywhere else. A file that was cut short has no list.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from backend.data_folder import ADAPTERS, DATABASE
from illume_plugin.errors import BadRequestError

MANIFEST = "manifest.json"
#: Raised when a reader of the old form would misread the new one.
FORMAT = 1
#: A list of a million files has less.
_MAX_MANIFEST_BYTES = 256 * 2**20
_CHUNK_BYTES = 1 << 20
_VERSION = r"v[0-9]{4,9}"
_NAMES = re.compile(
    rf"{re.escape(DATABASE)}|{ADAPTERS}/project-[0-9]{{1,19}}/("
    rf"{_VERSION}/(adapter_config\.json|adapter_model\.safetensors|meta\.json)"
    rf"|removed/{_VERSION}\.json|evaluations/{_VERSION}-[0-9a-f]{{1,64}}\.json)"
)

#: Told how many bytes more are done.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        created_at: seconds since the epoch.
        program: version of the program that made it.
        versions_elsewhere: the store that keeps the adapter versions, where that is not the data folder;
            then the backup holds none.
    """

    created_at: float
    program: str
    files: tuple[Entry, ...] = field(default=())
    versions_elsewhere: str = ""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(entry.bytes for entry in self.files)

    @property
    def versions(self) -> frozenset[tuple[int, str]]:
        """(project, version) of the adapters that are in it."""
        weights = (entry.name.split("/") for entry in self.files if entry.name.endswith(".safetensors"))
        return frozenset((int(project.removeprefix("project-")), name) for _, project, name, _ in weights)


class Sink(Protocol):
    """Gives a file to write for a name; the name was checked."""

    def __call__(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


def is_name(name: str) -> bool:
    """Whether a state has a file of this name."""
    return _NAMES.fullmatch(name) is not None


class Writer:
    """Adds files, and last the list of them."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._progress = progress
        self._entries: list[Entry] = []

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        """Add a file of `size` bytes under a name that `is_name` knows."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        hashed = _Hashed(content, self._progress)
        self._tar.addfile(info, hashed)
        self._entries.append(Entry(name, size, hashed.hexdigest()))

    def end(self, manifest: Callable[[tuple[Entry, ...]], Manifest]) -> Manifest:
        """Add the list; returns it."""
        made = manifest(tuple(self._entries))
        text = json.dumps(asdict(made), indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(text), 0o600
        self._tar.addfile(info, io.BytesIO(text))
        self._tar.close()
        return made


class _Hashed:
    """Reads a file, and hashes what it reads."""

    def __init__(self, content: IO[bytes], progress: Progress) -> None:
        self._content = content
        self._progress = progress
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        some = self._content.read(size)
        self._hash.update(some)
        self._progress(len(some))
        return some

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def read(path: Path, sink: Sink, progress: Progress) -> Manifest:
    """Read every file of a backup into `sink`, and check it against the list.

    Raises:
        BadRequestError: the file is no backup, is damaged, or was made by a newer program. What `sink` was
            given until then is worth nothing.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            found, manifest = _members(tar, sink, progress, path)
    except OSError as error:
        raise BadRequestError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if manifest is None:
        raise _damaged(path, "its end is missing")
    if found != list(manifest.files):
        wrong = sorted({entry.name for entry in set(found) ^ set(manifest.files)})
        raise _damaged(path, f"{', '.join(wrong[:3]) or 'a file'} is not what was backed up")
    return manifest


def _members(
    tar: tarfile.TarFile, sink: Sink, progress: Progress, path: Path
) -> tuple[list[Entry], Manifest | None]:
    found: list[Entry] = []
    names: set[str] = set()
    manifest = None
    for member in tar:
        if manifest is not None or not member.isreg() or member.issparse():
            raise _damaged(path, f"{member.name!r} does not belong there")
        content = tar.extractfile(member)
        assert content is not None  # noqa: S101 - a regular file
        if member.name == MANIFEST:
            manifest = _manifest(content.read(_MAX_MANIFEST_BYTES), path)
        elif is_name(member.name) and member.name not in names:
            names.add(member.name)
            found.append(_copied(member, content, sink, progress))
        else:
            raise _damaged(path, f"{member.name!r} does not belong there")
    return found, manifest


def _copied(member: tarfile.TarInfo, content: IO[bytes], sink: Sink, progress: Progress) -> Entry:
    digest, size = hashlib.sha256(), 0
    with sink(member.name) as file:
        while some := content.read(_CHUNK_BYTES):
            digest.update(some)
            size += len(some)
            file.write(some)
            progress(len(some))
    return Entry(member.name, size, digest.hexdigest())


def _manifest(text: bytes, path: Path) -> Manifest:
    values: dict[str, Any] = json.loads(text)
    if values["format"] != FORMAT:
        raise BadRequestError(
            f"{path} has form {values['format']!r}; this program reads {FORMAT}.",
            todo="Restore it with the version of the program that made it.",
        )
    return Manifest(**{**values, "files": tuple(Entry(**entry) for entry in values["files"])})


@contextmanager
def nowhere(name: str) -> Iterator[IO[bytes]]:
    """A sink for reading without keeping."""
    del name
    with Path(os.devnull).open("wb") as file:
        yield file


def _damaged(path: Path, why: str) -> BadRequestError:
    return BadRequestError(
        f"{path} is no backup, or is damaged: {why}.",
        why="Nothing was changed.",
        todo="Take another backup, or copy this one again from where it came from.",
    )
