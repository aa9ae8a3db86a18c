"""What a Label Studio server says of itself: version, clock, flags, and whom it would call."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from illume_plugin.errors import LabelStudioError

#: Names no project, so that Label Studio refuses whatever is asked to be made in it.
_NO_PROJECT = 0
_BLOCKED = "reserved network address"
#: What it answers where it has nothing against the address.
_NOT_THERE = re.compile(r"answered 40[04] ")
_UNRESOLVED = re.compile(r"can.?t resolve hostname", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What it tells whoever asks, without a token.

    Attributes:
        release: its version, or "".
        clock: its time by the Date header, seconds since the epoch, to within a second; None where it does
            not tell.
        asked_at: our time in the middle of the question, seconds since the epoch.
    """

    release: str
    clock: float | None
    asked_at: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether it would call an address, by its own words; empty where it would.

    Attributes:
        backend: as an ML backend (ML_BLOCK_LOCAL_IP).
        webhook: as a webhook (SSRF_PROTECTION_ENABLED).
    """

    backend: str
    webhook: str

    @property
    def unresolved(self) -> bool:
        """Whether the host's name means nothing where Label Studio runs."""
        return bool(_UNRESOLVED.search(f"{self.backend} {self.webhook}"))


def greet(http: httpx.Client) -> Greeting:
    """Ask for the version, which needs no token.

    Raises:
        LabelStudioError: it cannot be reached, or something else answers.
    """
    began = time.time()
    answer = http.get("api/version/", auth=httpx.Auth())
    middle = (began + time.time()) / 2
    body = answer.json()
    release = body.get("release") if isinstance(body, Mapping) else None
    return Greeting(release if isinstance(release, str) else "", _moment(answer), middle)


def flags(http: httpx.Client, headers: Mapping[str, str]) -> dict[str, bool]:
    """Feature flags that are on or off for the token's user; empty where it does not tell.

    Args:
        headers: that show the token.
    """
    request = http.build_request("GET", "feature-flags/", headers=dict(headers))
    # past the client's own `send`, which takes JSON for the sign of the API: this is a page
    answer = httpx.Client.send(http, request, auth=httpx.Auth())
    if not answer.is_success:
        return {}
    page = html.unescape(re.sub(r"</?pre>", "", answer.text))
    try:
        told = json.loads(page)
    except ValueError:
        return {}
    return {name: value for name, value in told.items() if isinstance(value, bool)}


def judge(http: httpx.Client, url: str) -> Judgement:
    """Let it judge the address of a backend, and of the webhook there, without anything being made.

    Both are asked for in a project that cannot be: Label Studio looks at the address, then refuses.

    Raises:
        LabelStudioError: it refuses for another reason, such as that our user may make neither.
    """
    return Judgement(
        backend=_refusal(http, "api/ml/", {"url": url, "title": "a question", "project": _NO_PROJECT}),
        webhook=_refusal(http, "api/webhooks/", {"url": f"{url}/webhook", "project": _NO_PROJECT}),
    )


def _refusal(http: httpx.Client, path: str, body: Mapping[str, object]) -> str:
    try:
        http.post(path, json=body)
    except LabelStudioError as error:
        if _BLOCKED in error.what or _UNRESOLVED.search(error.what):
            return error.what
        if not _NOT_THERE.search(error.what):
            raise
    return ""


def _moment(answer: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return None
