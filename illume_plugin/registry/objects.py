"""Named byte strings in any store that fsspec reaches: the one door to it.

Credentials and addresses of services come from where the store's own driver looks for them
(`AWS_ACCESS_KEY_ID`, `FSSPEC_S3_ENDPOINT_URL`, ...), never through us, and are never told.
"""

from __future__ import annotations

import inspect
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from illume_plugin.errors import IllumeError, SettingsError, UnavailableError

_QUERY = re.compile(r"\?\S+")
#: Protocols of plain folders, where a file that is being written can be seen.
_FOLDERS = {"file", "local"}


class Objects:
    """The objects below one address. Names are relative, with slashes.

    Args:
        address: such as `s3://bucket/prefix`.

    Raises:
        SettingsError: fsspec knows no driver for it, or it holds a password.
    """

    #: fsspec's store in memory looks first and writes then.
    _creating = threading.Lock()

    def __init__(self, address: str) -> None:
        protocol, _, rest = address.partition("://")
        if "@" in rest.split("/")[0] or "::" in address:
            raise SettingsError(
                f"ILLUME_ADAPTERS={protocol}://... holds a user, a password or a chain of stores.",
                why="Addresses are logged and shown; credentials are not ours to keep.",
                todo="Give them to the store's driver: its variables in the environment, or fsspec's files.",
            )
        self.address = address.rstrip("/")
        self._fs, self._root = _opened(address, in_folder=protocol in _FOLDERS)
        self._in_folder = protocol in _FOLDERS
        self.exclusive = self._in_folder or _creates_exclusively(self._fs)

    def sizes(self, below: str) -> dict[str, int]:
        """Name -> size in bytes of every object below a name, asked for now.

        Raises:
            UnavailableError: the store does not answer.
        """
        with self._asked():
            self._fs.invalidate_cache()
            found = self._fs.find(self._key(below), detail=True)
        start = self._key(below) + "/"
        return {
            f"{below}/{key.removeprefix(start)}" if below else key.removeprefix(start): int(entry["size"])
            for key, entry in found.items()
            if key.startswith(start)
        }

    def read(self, name: str) -> bytes | None:
        """An object; None where there is none.

        Raises:
            UnavailableError: the store does not answer.
        """
        with self._asked():
            try:
                return bytes(self._fs.cat_file(self._key(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Make or replace an object; nobody sees half of it.

        Raises:
            UnavailableError: the store does not answer, or does not take it.
        """
        with self._asked():
            if not self._in_folder:
                self._fs.pipe_file(self._key(name), data)
                return
            draft = self._key(f"{name}.{uuid.uuid4().hex}.part")
            self._fs.pipe_file(draft, data)
            Path(draft).replace(self._key(name))

    def create(self, name: str, data: bytes) -> bool:
        """Make an object that nobody has made before; whether it is ours.

        Where the driver has no such call, of two that create at once both may believe it (`exclusive`).

        Args:
            data: different for everybody who creates.

        Raises:
            UnavailableError: the store does not answer, or does not take it.
        """
        with self._asked():
            refusal: Exception | None = None
            try:
                with self._creating:
                    self._create(self._key(name), data)
            except Exception as error:  # noqa: BLE001 - told apart below: drivers say "exists" in many ways
                refusal = error
            # A request that was sent again after its answer was lost is refused, and yet it is ours.
            found = self.read(name)
            if found is None:
                raise refusal or FileNotFoundError(f"{name} is not there after it was written")
            return found == data

    def upload(self, source: Path, name: str) -> None:
        """Keep a local file as an object.

        Raises:
            UnavailableError: the store does not answer, or does not take it.
        """
        with self._asked():
            self._fs.put_file(str(source), self._key(name))

    def download(self, name: str, target: Path) -> bool:
        """Write an object to a local file; false where there is none.

        Raises:
            UnavailableError: the store does not answer.
        """
        with self._asked():
            try:
                self._fs.get_file(self._key(name), str(target))
            except FileNotFoundError:
                return False
            return True

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error.

        Raises:
            UnavailableError: the store does not answer.
        """
        with self._asked():
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._key(name))

    def _create(self, key: str, data: bytes) -> None:
        if self._in_folder:
            with self._fs.open(key, "xb") as file:
                file.write(data)
        elif self.exclusive:
            self._fs.pipe_file(key, data, mode="create")
        elif not self._fs.exists(key):
            self._fs.pipe_file(key, data)

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except IllumeError:
            raise
        except Exception as error:
            # Drivers raise what the libraries below them raise; addresses may carry signatures.
            told = _QUERY.sub("?...", str(error).partition("\n")[0])
            raise UnavailableError(
                f"The adapter store {self.address} did not do what was asked "
                f"({type(error).__name__}: {told}).",
                why="Versions that are on this machine go on serving.",
                todo="See whether it can be reached, and whether its driver has the credentials.",
            ) from error


def _opened(address: str, *, in_folder: bool) -> tuple[Any, str]:
    """(the driver, the path below which everything lies)."""
    import fsspec

    # What another machine published is to be seen at once: no listing is remembered.
    options: dict[str, Any] = {"auto_mkdir": True} if in_folder else {"use_listings_cache": False}
    try:
        fs, root = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        raise SettingsError(
            f"ILLUME_ADAPTERS={address!r} needs a driver that is not installed: {error}.",
            todo="For s3:// install: pip install 'illume-label-studio[s3]'",
        ) from error
    except ValueError as error:
        raise SettingsError(
            f"ILLUME_ADAPTERS={address!r} cannot be opened: {error}.",
            todo="Name a folder, or a store that fsspec knows, such as s3://bucket/prefix.",
        ) from error
    return fs, root.rstrip("/")


def _creates_exclusively(fs: Any) -> bool:
    """Whether the driver itself creates an object only where there is none: fsspec's own code looks first."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    own = getattr(type(fs), "_pipe_file", type(fs).pipe_file)
    inherited = own in (AbstractFileSystem.pipe_file, AsyncFileSystem._pipe_file)
    return not inherited and "mode" in inspect.signature(own).parameters
