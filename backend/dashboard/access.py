"""Who may look: this machine without a login, everybody else with the password.

Without ILLUME_DASHBOARD_PASSWORD only a call is let in that comes from loopback, was addressed to a loopback
name (so that no foreign name was pointed at us, DNS rebinding) and passed no proxy. With a password everybody
needs it, loopback too: set it behind a reverse proxy, which may come from loopback and say nothing of itself.
The user name is free and is recorded with what is done.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import Request
from pydantic import SecretStr

from backend.credentials import Failures, caller, same
from illume_plugin.errors import IllumeError, UnauthorizedError

#: Who acted, where nobody had to say.
LOCAL = "somebody at this machine"
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip")


class ForbiddenError(IllumeError):
    """The caller may not do this, with whatever credentials."""

    status = 403
    title = "forbidden"


class Gatekeeper:
    """Lets a request in, or says why not."""

    def __init__(
        self, password: SecretStr | None, failures: Failures | None = None, *, proxies: int = 0
    ) -> None:
        self._password = password
        self._failures = failures or Failures()
        self._proxies = proxies

    def admit(self, request: Request, visitor: str = "") -> str:
        """Who calls.

        Args:
            visitor: mark of a browser that has shown the password before. Its failures are counted by
                themselves, so that nobody behind the same address can lock it out.

        Raises:
            ForbiddenError: the call is not this machine's own and no password is set.
            UnauthorizedError: the password is missing or wrong.
            TooManyFailuresError: too many wrong ones came from there.
        """
        if self._password is not None:
            return self._by_password(request, self._password.get_secret_value(), visitor)
        if is_local(request):
            return LOCAL
        raise ForbiddenError(
            f"The status page is open to this machine alone (asked from {request.remote_addr or 'a socket'} "
            f"as {request.host!r}).",
            why="Whoever sees it sees your pictures, and can change which version serves.",
            todo="Open it as http://localhost:PORT/status on the machine itself, or set "
            "ILLUME_DASHBOARD_PASSWORD and log in with it.",
        )

    def _by_password(self, request: Request, password: str, visitor: str) -> str:
        shown = request.authorization
        address = f"visitor {visitor}" if visitor else caller(request, self._proxies)
        if shown is None or shown.type != "basic":
            raise _unauthorized("The status page wants a password.")
        self._failures.check(address)
        if not same(shown.password or "", password):
            self._failures.note(address)
            raise _unauthorized("The password is wrong.")
        return _name(shown.username or "")


def _name(said: str) -> str:
    """A user name as it is recorded: what shows of it, on one line."""
    shown = "".join(letter if letter.isprintable() else " " for letter in said)
    return " ".join(shown.split())[:40].strip() or "somebody without a name"


def _unauthorized(what: str) -> UnauthorizedError:
    return UnauthorizedError(
        what,
        todo="Log in with ILLUME_DASHBOARD_PASSWORD; the user name is yours to choose and is recorded with "
        "what you do.",
    )


def is_local(request: Request) -> bool:
    """Whether the call comes from this machine, under a name of this machine, and through no proxy."""
    forwarded = any(name in request.headers for name in _FORWARDED)
    return not forwarded and is_loopback(request.remote_addr or "") and is_loopback(host_name(request.host))


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a host name or address means this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # a socket for both families tells of 127.0.0.1 as ::ffff:127.0.0.1
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
