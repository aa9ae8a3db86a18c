"""Forms that only our own pages can send: a token in the signed session, the browser's word on the origin."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from flask import Flask, Request, request, session
from flask.sessions import SecureCookieSessionInterface

from backend.credentials import same
from backend.dashboard.access import ForbiddenError, is_local

FIELD = "token"
COOKIE = "illume_status"
COOKIE_PATH = "/status"
VISITOR = "visitor"


class _Cookies(SecureCookieSessionInterface):
    """The session's cookie goes over TLS alone wherever there is TLS.

    Args:
        tls: a proxy in front of us speaks TLS. Then only this machine itself may come without.
    """

    def __init__(self, *, tls: bool) -> None:
        self._tls = tls

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's signature
        """See Flask."""
        return request.is_secure or (self._tls and not is_local(request))


def install(app: Flask, secret: str, *, tls: bool) -> None:
    """Sign the session with a key that every process of this installation derives alike.

    Args:
        tls: this backend is reached through https.
    """
    app.session_interface = _Cookies(tls=tls)
    app.secret_key = hmac.new(secret.encode(), b"illume status page: session", hashlib.sha256).digest()
    app.config.update(
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_PATH=COOKIE_PATH,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
    )


def visitor() -> str:
    """The mark of a browser that was let in before; empty for others."""
    return str(session.get(VISITOR, ""))


def remember_visitor() -> None:
    """Mark the browser, which was let in, where it keeps our cookies."""
    if VISITOR not in session and request.path.startswith(COOKIE_PATH):
        session[VISITOR] = secrets.token_urlsafe(16)


def token() -> str:
    """The token of this visitor's forms."""
    if FIELD not in session:
        session[FIELD] = secrets.token_urlsafe(32)
    return str(session[FIELD])


def check() -> None:
    """Raise ForbiddenError unless the form was ours."""
    kept = session.get(FIELD)
    if _from_elsewhere(request) or not isinstance(kept, str) or not same(request.form.get(FIELD, ""), kept):
        raise ForbiddenError(
            "The form did not come from a page of ours, or that page is too old.",
            why="Another site could otherwise press the buttons in your name.",
            todo="Open the page again and press the button there; cookies must be allowed.",
        )


def _from_elsewhere(asked: Request) -> bool:
    """What browsers say of themselves; who says nothing still needs the token.

    Sec-Fetch-Site comes first: behind a proxy that changes Host the origin looks foreign.
    """
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = asked.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != asked.host
