"""A personal access token without a browser: log in by the form, ask for a token, keep it.

Label Studio shows a personal access token once and gives each user one at a time. So it is kept in a
file, and when that file is lost the old token is revoked and a new one made.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import httpx

from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio, TokenRefusedError
from illume_plugin.types import Json

_TIMEOUT_S = 30.0


def personal_access_token(url: str, username: str, password: str, keep: Path) -> str:
    """The user's personal access token: the kept one while it works, else a new one.

    A new token ends the user's old one, so use this with a server of our own only.

    Args:
        keep: file for the token; readable by its owner only.

    Raises:
        LabelStudioError: Label Studio cannot be reached, or does not know user and password.
    """
    kept = _kept(keep)
    if kept and _works(url, kept):
        return kept
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers={"Referer": url}) as session:
        _log_in(session, username, password)
        token = _new_token(session)
    _keep(keep, token)
    return token


def _kept(keep: Path) -> str:
    return keep.read_text().strip() if keep.is_file() else ""


def _works(url: str, token: str) -> bool:
    try:
        with LabelStudio(url, token, timeout_s=_TIMEOUT_S) as label_studio:
            label_studio.access_token()
    except TokenRefusedError:
        return False
    return True


def _log_in(session: httpx.Client, username: str, password: str) -> None:
    """Make the client's cookies a session of the user's."""
    _ask(session, "GET", "/user/login/")
    form = {"email": username, "password": password, "csrfmiddlewaretoken": _csrf(session)}
    answer = _ask(session, "POST", "/user/login/", data=form)
    if not answer.has_redirect_location:  # a refused login shows the form again
        raise LabelStudioError(
            f"Label Studio at {session.base_url} does not know the user {username!r} with this password.",
            todo="A password given at a later start changes nothing: use the first one, "
            "or start over with an empty folder.",
        )


def _new_token(session: httpx.Client) -> str:
    answer = _ask(session, "POST", "/api/token/")
    if answer.status_code == httpx.codes.CONFLICT:
        for old in _json(_ask(session, "GET", "/api/token/")):
            _ask(session, "POST", "/api/token/blacklist/", json={"refresh": old["token"]})
        answer = _ask(session, "POST", "/api/token/")
    token = _json(answer).get("token") if answer.is_success else None
    if not isinstance(token, str):
        raise LabelStudioError(
            f"Label Studio answered {answer.status_code} to POST /api/token/ and gave no token.",
            todo="See that personal access tokens are allowed in the organisation's settings.",
        )
    return token


def _ask(session: httpx.Client, method: str, path: str, **options: Json) -> httpx.Response:
    headers = {"X-CSRFToken": _csrf(session)} if method == "POST" else {}
    try:
        return session.request(method, path, headers=headers, **options)
    except httpx.RequestError as error:
        raise LabelStudioError(
            f"Label Studio at {session.base_url} cannot be reached for {method} {path}: {error}.",
            todo="Start it, or correct its address.",
        ) from error


def _csrf(session: httpx.Client) -> str:
    return session.cookies.get("csrftoken") or ""


def _json(answer: httpx.Response) -> Json:
    try:
        return answer.json()
    except json.JSONDecodeError as error:
        raise LabelStudioError(
            f"{answer.request.method} {answer.request.url.path} answered {answer.status_code} without JSON.",
            todo="Check that the address is Label Studio's.",
        ) from error


def _keep(keep: Path, token: str) -> None:
    """Write the file whole or not at all; mkstemp makes it readable by its owner only."""
    keep.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=keep.parent, prefix=f".{keep.name}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    Path(name).replace(keep)
