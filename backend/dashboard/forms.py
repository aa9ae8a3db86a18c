"""Forms that only our own pages can send: a token in the signed session, the browser's word on the origin."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from flask import Flask, Request, request, session

from backend.dashboard.access import ForbiddenError, same

FIELD = "token"
COOKIE = "illume_status"


def install(app: Flask, secret: str) -> None:
    """Sign the session with a key that every process of this installation derives alike."""
    app.secret_key = hmac.new(secret.encode(), b"illume status page: session", hashlib.sha256).digest()
    app.config.update(
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_PATH="/status",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
    )


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
