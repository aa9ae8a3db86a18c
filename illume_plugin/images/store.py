"""Fetches pictures, verifies them and keeps them in a folder.

What arrives gets its name only after it has been decoded in full, so a kept file is a good file.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx
from PIL import Image

from illume_plugin.errors import ImageError
from illume_plugin.images.addresses import Addresses, Visit, quotable
from illume_plugin.images.cache import FileCache
from illume_plugin.images.opening import FORMATS, MAX_PIXELS, must_be_bearable, open_picture, reading
from illume_plugin.types import Task

_MAX_REDIRECTS = 5
#: A whole picture may take so many times `timeout_s`: a server that drips bytes holds no worker for ever.
_SLOWEST = 6
_CHUNK_BYTES = 1 << 16
#: Bound of the folder where none is given, bytes.
MAX_KEPT_BYTES = 10 * 10**9


class ImageStore:
    """Task pictures below one folder. Safe to share between threads and processes.

    An address is fetched once: a picture that changes behind its address keeps its first face.

    Args:
        root: folder of the kept pictures; made when missing.
        label_studio_url: address of Label Studio, with its path if it has one; None without one.
        auth_headers: gives the headers that Label Studio wants; sent to nobody else.
        allowed_hosts: further host names that may be asked, also at private addresses;
            "*" allows every host with a public address.
        max_bytes: largest file accepted.
        max_pixels: largest width x height accepted.
        max_kept_bytes: size that the folder is kept below; see FileCache.
        timeout_s: seconds to connect, and between bytes.
    """

    def __init__(
        self,
        root: Path,
        *,
        label_studio_url: str | None,
        auth_headers: Callable[[], Mapping[str, str]] | None,
        allowed_hosts: Collection[str] = (),
        max_bytes: int = 20_000_000,
        max_pixels: int = MAX_PIXELS,
        max_kept_bytes: int = MAX_KEPT_BYTES,
        timeout_s: float = 10.0,
    ) -> None:
        self._cache = FileCache(root, max_bytes=max_kept_bytes)
        self._addresses = Addresses(label_studio_url, auth_headers, allowed_hosts)
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        # Cookies know no ports, so a kept one could reach another server on Label Studio's host.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._http = httpx.Client(timeout=timeout_s, follow_redirects=False, cookies=no_cookies)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fetch(self, task: Task) -> Path:
        """The task's picture as a local file that decodes; from the folder when it is there already.

        The file stays for a quarter of an hour at least; whoever needs it for longer pins it.

        Raises:
            ImageError: the address is refused, the server does not give it, it is no usable picture, or there
                is no room for it.
        """
        name = self._name(task.image)
        kept = self._cache.find(name)
        if kept is not None and self._is_kept(kept):
            return kept
        visit, told = self._addresses.first(task), quotable(task.image.strip())
        try:
            with self._cache.draft() as draft:
                with draft.open("wb") as file:
                    for chunk in self._download(visit, told):
                        file.write(chunk)
                # In full, as it will be seen: a header alone says nothing of a file that was cut short.
                open_picture(draft, name=told, max_pixels=self._max_pixels)
                return self._cache.keep(draft, name)
        except OSError as error:
            raise ImageError(
                f"The picture {told!r} cannot be kept: {error.strerror or error}.",
                todo="See that the data folder has room and may be written to.",
            ) from error

    def _name(self, image: str) -> str:
        """File name of an address: its hash, together with the server that gives a path its meaning."""
        named = f"{self._addresses.label_studio}\n{image}"
        return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()

    def _is_kept(self, kept: Path) -> bool:
        """Whether the header of the file still reads; pixels were decoded when it came."""
        try:
            with reading(kept, kept.name), Image.open(kept, formats=FORMATS) as picture:
                must_be_bearable(picture, kept.name, self._max_pixels)
        except ImageError:
            return False
        return True

    # -- transfer ----------------------------------------------------------------------------------

    def _download(self, visit: Visit, image: str) -> Iterator[bytes]:
        """The bytes of the file, through at most five redirects."""
        deadline = time.monotonic() + _SLOWEST * self._timeout_s
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                response = self._http.send(_request(self._http, visit), stream=True)
                try:
                    if not response.has_redirect_location:
                        yield from self._body(response, visit, image, deadline)
                        return
                    visit = self._addresses.redirected(visit, response.headers["location"], image)
                finally:
                    response.close()
            except httpx.TimeoutException as error:
                raise self._too_slow(visit, image, self._timeout_s) from error
            except httpx.RequestError as error:
                reason = str(error).rstrip(".")
                raise ImageError(
                    f"{visit.url.host} cannot be reached for the picture {image!r}: {reason}.",
                    todo="See that the address is right and the server is up.",
                ) from error
        raise ImageError(f"The picture {image!r} is redirected more than {_MAX_REDIRECTS} times.")

    def _body(self, response: httpx.Response, visit: Visit, image: str, deadline: float) -> Iterator[bytes]:
        if response.status_code != httpx.codes.OK:
            raise _not_given(visit, response.status_code, image)
        received = 0
        for chunk in response.iter_raw(_CHUNK_BYTES):
            received += len(chunk)
            if received > self._max_bytes:
                raise ImageError(
                    f"The picture {image!r} has more than {self._max_bytes} bytes.",
                    todo="Shrink it: the base model sees far less.",
                )
            if time.monotonic() > deadline:
                raise self._too_slow(visit, image, _SLOWEST * self._timeout_s)
            yield chunk

    def _too_slow(self, visit: Visit, image: str, seconds: float) -> ImageError:
        return ImageError(
            f"{visit.url.host} did not give the picture {image!r} within {seconds:g} s.",
            todo="Try again; if it stays slow, raise the limit.",
        )


def _request(http: httpx.Client, visit: Visit) -> httpx.Request:
    """A checked address is asked by number, with the name in Host and in TLS: looking the name up a
    second time could give another address than the one that was checked.
    """
    # No "Accept: image/*": Label Studio's media views answer 406 to it.
    headers = {**visit.headers, "Accept-Encoding": "identity"}
    if visit.address is None:
        return http.build_request("GET", visit.url, headers=headers)
    return http.build_request(
        "GET",
        visit.url.copy_with(host=visit.address),
        headers={**headers, "Host": visit.url.netloc.decode()},
        extensions={"sni_hostname": visit.url.host},
    )


def _not_given(visit: Visit, status: int, image: str) -> ImageError:
    what = f"{visit.url.host} answered {status} for the picture {image!r}."
    if status in (401, 403):
        return ImageError(
            what,
            why="Our token, or the signed address, may not read it.",
            todo="See that the token's user can open the task, and that the project's storage is connected.",
        )
    if status == 404:
        return ImageError(what, todo="The file is gone, or the project lacks the storage that serves it.")
    return ImageError(what, todo="The server's own log names the cause.")
