"""Which address may be asked for a picture, and with which headers.

Task data is written by whoever may import tasks, so an address decides nothing by itself: only Label
Studio and the hosts that an operator allows are asked, and the token goes to Label Studio alone.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import httpx

from illume_plugin.errors import ImageError
from illume_plugin.types import Task

#: Prefixes of the paths that Label Studio serves pictures under.
LABEL_STUDIO_PATHS = ("/data/", "/storage-data/", "/tasks/", "/static/")
#: Schemes that Label Studio signs for us, because it alone has the keys of the storage.
SIGNED_SCHEMES = ("s3", "gs", "azure-blob")
#: Among the allowed hosts: any host with a public address.
ANY_PUBLIC_HOST = "*"
#: Errors quote no more of an address, characters.
_QUOTED = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """One request that may be made.

    Attributes:
        headers: what the host is to get beside the ordinary; our token, for Label Studio only.
        address: IP address that was checked and must be the one asked; None where the host is trusted.
    """

    url: httpx.URL
    headers: Mapping[str, str]
    address: str | None = None


class Addresses:
    """Judges addresses. Holds the policy of one Label Studio connection.

    Args:
        label_studio_url: address of Label Studio, with its path if it has one; None without one.
        auth_headers: gives the headers that Label Studio wants.
        allowed_hosts: see ImageStore.
    """

    def __init__(
        self,
        label_studio_url: str | None,
        auth_headers: Callable[[], Mapping[str, str]] | None,
        allowed_hosts: Collection[str],
    ) -> None:
        self.label_studio = None if label_studio_url is None else httpx.URL(label_studio_url.rstrip("/"))
        self._auth_headers = auth_headers
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    def first(self, task: Task) -> Visit:
        """The request that asks for a task's picture.

        Raises:
            ImageError: the address is none, or may not be asked.
        """
        image = task.image.strip()
        told = quotable(image)
        url = _parsed(image, told)
        if url.scheme in SIGNED_SCHEMES:
            return self._label_studio_visit(self._presign_url(task.task_id, image), told)
        if url.scheme in ("http", "https") and url.host:
            return self._visit(url, told)
        if image.startswith("/") and not url.scheme and not url.host:
            return self._label_studio_visit(self._relative_url(image), told)
        raise ImageError(
            f"The picture's address {told!r} is refused.",
            why="Only paths of Label Studio and http, https, s3, gs and azure-blob addresses are accepted.",
            todo="Upload the picture to Label Studio, or import the task with such an address.",
        )

    def redirected(self, visit: Visit, location: str, image: str) -> Visit:
        """The request that a redirect asks for, judged like a new address.

        Args:
            image: the picture as errors name it (`quotable`).

        Where Label Studio itself redirects (a signed address of its storage), any public host will do.

        Raises:
            ImageError: see `first`.
        """
        target = visit.url.join(_parsed(location, image))
        if target.scheme not in ("http", "https"):
            raise ImageError(f"The picture {image!r} is redirected to a {target.scheme!r} address: refused.")
        return self._visit(target, image, vouched=self._is_label_studio(visit.url))

    def _visit(self, url: httpx.URL, image: str, *, vouched: bool = False) -> Visit:
        if url.userinfo:
            raise ImageError(
                f"The picture's address on {url.host} holds a user name or password: refused.",
                todo="Serve the picture through a storage of the project instead.",
            )
        if self._is_label_studio(url):
            return self._label_studio_visit(url, image)
        if url.host.lower() in self._allowed:
            return Visit(url, {})
        if vouched or ANY_PUBLIC_HOST in self._allowed:
            return Visit(url, {}, _public_address(url, image))
        raise ImageError(
            f"The picture {image!r} is refused: the host {url.host!r} is not allowed.",
            why="Whoever imports tasks could otherwise make this server ask anything of anyone.",
            todo=f"Add {url.host!r} to the allowed image hosts if you trust it.",
        )

    def _label_studio_visit(self, url: httpx.URL, image: str) -> Visit:
        """A request to Label Studio with our token: only where it serves pictures."""
        path = url.path.removeprefix(self._base(image).path.rstrip("/"))
        if not path.startswith(LABEL_STUDIO_PATHS) or ".." in path.split("/"):
            raise ImageError(
                f"{image!r} is refused: Label Studio serves no pictures under {path!r}.",
                todo="Upload the picture, or serve it from a local or cloud storage of the project.",
            )
        return Visit(url, dict(self._auth_headers()) if self._auth_headers else {})

    def _base(self, image: str) -> httpx.URL:
        if self.label_studio is None:
            raise ImageError(
                f"The picture {image!r} is kept by Label Studio, and no Label Studio is connected.",
                todo="Connect one, or use pictures with http(s) addresses.",
            )
        return self.label_studio

    def _is_label_studio(self, url: httpx.URL) -> bool:
        return self.label_studio is not None and _origin(url) == _origin(self.label_studio)

    def _relative_url(self, image: str) -> httpx.URL:
        """A path that Label Studio gave, with or without the path it is installed under."""
        base = self._base(image)
        prefix = base.path.rstrip("/")
        path = image.removeprefix(prefix) if image.startswith(f"{prefix}/") else image
        return _parsed(f"{_origin(base)}{prefix}{path}", image)

    def _presign_url(self, task_id: int, image: str) -> httpx.URL:
        uri = base64.urlsafe_b64encode(image.encode()).decode()
        return httpx.URL(f"{self._base(image)}/tasks/{task_id}/presign/", params={"fileuri": uri})


def quotable(address: str) -> str:
    """An address as errors name it: without user and password, and without what may be a signature.

    The query of a path of Label Studio stays: it names the file.
    """
    scheme, found, rest = address.partition("://")
    if found:
        authority, slash, path = rest.partition("?")[0].partition("/")
        address = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return address if len(address) <= _QUOTED else f"{address[:_QUOTED]}..."


def _parsed(address: str, image: str) -> httpx.URL:
    try:
        return httpx.URL(address)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ImageError(f"{image!r} does not lead to a picture: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Why an address is none. Of letters that cannot be sent Python would repeat the whole address."""
    return "it holds letters that cannot be sent" if isinstance(error, UnicodeError) else str(error)


def _origin(url: httpx.URL) -> str:
    """Scheme, host and port: who gets what we send."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{port}"


def _public_address(url: httpx.URL, image: str) -> str:
    """A public address of the host; refused when any of its addresses is private."""
    try:
        found = socket.getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ImageError(f"The host {url.host!r} of the picture {image!r} is unknown: {error}.") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not ipaddress.ip_address(address).is_global:
            raise ImageError(
                f"The picture {image!r} is refused: {url.host!r} has the private address {address}.",
                why="A task could otherwise read what only this server can reach.",
                todo=f"Add {url.host!r} to the allowed image hosts if it is your own storage.",
            )
    return addresses[0]
