"""Label Studio's secret, shown in one of three ways: as Basic password, as header, in the path."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flask import Request

from backend.credentials import Failures, caller, same
from backend.settings import BASIC_USER, SECRET_HEADER
from illume_plugin.errors import UnauthorizedError

#: Set in the WSGI environment when a secret stood in the path: whether it was ours.
PATH_SECRET_SHOWN = "illume.path_secret_shown"  # noqa: S105 - a name
_SECRET_IN_ENVIRON = "HTTP_" + SECRET_HEADER.upper().replace("-", "_")
#: Where WSGI servers repeat the address as it was asked for.
_WHOLE_ADDRESS = frozenset({"REQUEST_URI", "RAW_URI"})


class SecretPath:
    """Lets /s/SECRET/predict stand for /predict with the secret shown, where no header can be set."""

    def __init__(self, app: Callable[..., Iterable[bytes]], secret: str) -> None:
        self.app = app
        self.secret = secret

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        parts = environ.get("PATH_INFO", "").split("/", 3)
        if len(parts) >= 3 and parts[1] == "s":
            # The secret leaves the path whether it is right or wrong, so that it reaches no log.
            path = "/" + (parts[3] if len(parts) > 3 else "")
            environ = {**environ, "PATH_INFO": path, PATH_SECRET_SHOWN: same(parts[2], self.secret)}
            for name in _WHOLE_ADDRESS & environ.keys():
                environ[name] = path
        return self.app(environ, start_response)


class Admission:
    """Lets in who shows Label Studio's secret, and counts wrong ones by where they come from."""

    def __init__(self, secret: str, *, proxies: int = 0, failures: Failures | None = None) -> None:
        self._secret = secret
        self._proxies = proxies
        self._failures = failures or Failures()

    def knows(self, environ: Mapping[str, Any]) -> bool:
        """Whether a call shows the secret, in one of the three places for it; nothing is counted."""
        if environ.get(PATH_SECRET_SHOWN):
            return True
        return any(same(one, self._secret) for one in _shown(environ))

    def check(self, request: Request) -> None:
        """Let in who shows the secret, and count who shows another one.

        Raises:
            UnauthorizedError: it shows none, or a wrong one.
            TooManyFailuresError: it shows a wrong one, and many came from there before.
        """
        if self.knows(request.environ):
            return
        if PATH_SECRET_SHOWN in request.environ or any(_shown(request.environ)):
            address = caller(request, self._proxies)
            self._failures.check(address)
            self._failures.note(address)
        raise UnauthorizedError(
            "The secret is missing or wrong.",
            why="Anybody who can reach this port could otherwise write into your training data.",
            todo="Connect with `illume connect --project N`: it gives Label Studio the secret for its calls "
            f"(Basic, user {BASIC_USER}) and for its webhook (header {SECRET_HEADER}).",
        )


def _shown(environ: Mapping[str, Any]) -> Iterator[str]:
    """What stands where a secret may stand, besides the path."""
    found = environ.get(_SECRET_IN_ENVIRON, ""), _basic_password(environ.get("HTTP_AUTHORIZATION", ""))
    return (one for one in found if one)


def _basic_password(authorization: str) -> str:
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password if user == BASIC_USER else ""
