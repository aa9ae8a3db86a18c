"""Label Studio's tokens: which kind we were given, and an access token that is always fresh.

A personal access token is a refresh token (a JWT): it is exchanged for access tokens that live five
minutes. A legacy token is opaque and sent as it is; Label Studio refuses it unless an owner allows it.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Generator

import httpx

from illume_plugin.errors import LabelStudioError
from illume_plugin.types import Json

#: Seconds before its end at which an access token is renewed: longer than any one request should take.
RENEW_BEFORE_S = 60.0

#: Where a person makes the token that we need.
HOW_TO_GET_ONE = (
    "In Label Studio click your initials (top right), Account & Settings, Personal Access Token, "
    "Create New Token, and give ILLUME that token."
)


class TokenRefusedError(LabelStudioError):
    """Label Studio does not accept the token that we were given."""


class AccessTokens:
    """Turns the configured token into request headers. Safe to share between threads.

    Args:
        token: a personal access token or a legacy token.
        exchange: asks Label Studio for an access token, given the personal access token.
        clock: seconds since the epoch.

    Raises:
        TokenRefusedError: for a token that cannot work, before anything is sent.
    """

    def __init__(
        self, token: str, exchange: Callable[[str], str], clock: Callable[[], float] = time.time
    ) -> None:
        self._token = token.strip()
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._good_until = 0.0
        self._legacy = _check_kind(self._token, clock())

    def headers(self) -> dict[str, str]:
        """The Authorization header for one request."""
        scheme = "Token" if self._legacy else "Bearer"
        return {"Authorization": f"{scheme} {self.access()}"}

    def access(self) -> str:
        """A token that is good now; exchanged anew a minute before the old one ends."""
        if self._legacy:
            return self._token
        with self._lock:
            if self._clock() >= self._good_until:
                self._access = self._exchange(self._token)
                self._good_until = _end_of(self._access, self._clock()) - RENEW_BEFORE_S
            return self._access

    def refused(self, headers: httpx.Headers) -> bool:
        """Note that a request with these headers got a 401; say whether trying again can help.

        Only the token that was refused is dropped: another thread may have renewed it meanwhile.
        """
        if self._legacy:
            return False
        with self._lock:
            if headers.get("Authorization") == f"Bearer {self._access}":
                self._good_until = 0.0
        return True


class TokenAuth(httpx.Auth):
    """Puts the header on each request and, after a 401, tries once more with a new access token.

    Repeating is safe for any method: a request that got a 401 was not carried out.
    """

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx."""
        request.headers.update(self._tokens.headers())
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and self._tokens.refused(request.headers):
            request.headers.update(self._tokens.headers())
            yield request


def _check_kind(token: str, now: float) -> bool:
    """True for a legacy token, False for a personal access token."""
    if not token:
        raise TokenRefusedError(
            "There is no Label Studio token.",
            why="Without one Label Studio shows us neither tasks nor pictures.",
            todo=HOW_TO_GET_ONE,
        )
    claims = _claims(token)
    if claims is None:
        return True
    if claims.get("token_type") == "access":
        raise TokenRefusedError(
            "The token given is an access token.", why="It lives five minutes only.", todo=HOW_TO_GET_ONE
        )
    if _end_of(token, now) <= now:
        raise TokenRefusedError("The personal access token has expired.", todo=HOW_TO_GET_ONE)
    return False


def _claims(token: str) -> dict[str, Json] | None:
    """What a JWT says of itself, unverified (Label Studio verifies it); None when it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _end_of(token: str, now: float) -> float:
    """When a JWT ends, seconds since the epoch; 300 s from now where it does not say."""
    end = (_claims(token) or {}).get("exp")
    return float(end) if isinstance(end, int | float) else now + 300.0
