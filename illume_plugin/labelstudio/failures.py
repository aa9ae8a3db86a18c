"""Turns every way in which Label Studio can fail us into one sentence that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio.tokens import HOW_TO_GET_ONE, TokenRefusedError
from illume_plugin.types import Json

#: The environment lines that let Label Studio (1.23.1 and later) call a private address.
PRIVATE_ADDRESS_LINES = "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"

_DETAIL_LIMIT = 400


class DoorClient(httpx.Client):
    """An httpx client whose `send` returns good JSON answers and raises LabelStudioError otherwise.

    All of the SDK's calls pass through here, so the translation is written once. Redirects are not
    followed: they would turn a POST into a GET and carry the token elsewhere.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        super().__init__(base_url=url, timeout=timeout_s, follow_redirects=False)

    def send(self, request: httpx.Request, *args: Any, **options: Any) -> httpx.Response:
        """See httpx.

        Raises:
            LabelStudioError: no answer, an answer that says no, or one that is not JSON.
        """
        try:
            response = super().send(request, *args, **options)
        except httpx.RequestError as error:
            raise _no_answer(request, error) from error
        failure = failure_of(request, response)
        if failure is not None:
            raise failure
        return response


def _asked(request: httpx.Request) -> str:
    """The request in words: method and path; never the query, headers or body."""
    return f"{request.method} {request.url.path}"


def _no_answer(request: httpx.Request, error: httpx.RequestError) -> LabelStudioError:
    where = f"{request.url.scheme}://{request.url.netloc.decode()}"
    if isinstance(error, httpx.TimeoutException):
        seconds = request.extensions.get("timeout", {}).get("read")
        return LabelStudioError(
            f"Label Studio at {where} did not answer {_asked(request)} within {seconds:g} s.",
            why="Whether it did what was asked is unknown.",
            todo="See whether it is busy or restarting, then try again.",
        )
    return LabelStudioError(
        f"Label Studio at {where} cannot be reached for {_asked(request)}: {str(error).rstrip('.')}.",
        todo="Start Label Studio, or correct its address (scheme, host and port).",
    )


def failure_of(request: httpx.Request, response: httpx.Response) -> LabelStudioError | None:
    """The error that an answer amounts to; None for a good answer."""
    if response.has_redirect_location:
        return _redirected(request, response)
    if not response.is_success:
        return _refused(request, response)
    if response.content and "json" not in response.headers.get("content-type", ""):
        return LabelStudioError(
            f"{_asked(request)} answered {response.status_code} with "
            f"{response.headers.get('content-type') or 'no content type'} instead of JSON.",
            why="That is not Label Studio's API.",
            todo="Give the address under which Label Studio opens in a browser, with its path if it has one.",
        )
    return None


def _redirected(request: httpx.Request, response: httpx.Response) -> LabelStudioError:
    target = urlsplit(response.headers["location"])
    return LabelStudioError(
        f"{_asked(request)} answered {response.status_code} and points to "
        f"{target.scheme}://{target.netloc}{target.path}.".replace("to ://", "to "),
        why="We do not follow: the token would go to another address.",
        todo="Give ILLUME the address that Label Studio redirects to (often https instead of http).",
    )


def _refused(request: httpx.Request, response: httpx.Response) -> LabelStudioError:
    detail = detail_of(response)
    what = f"Label Studio answered {response.status_code} to {_asked(request)}: {detail}"
    explain = _BY_STATUS.get(response.status_code, _other)
    return explain(what, detail)


def _unauthorized(what: str, detail: str) -> LabelStudioError:
    if "legacy token" in detail.lower():
        why = "The token is a legacy one; Label Studio switches those off unless an owner allows them."
    else:
        why = "Label Studio does not know our token: mistyped, revoked, or of another server."
    return TokenRefusedError(what, why=why, todo=HOW_TO_GET_ONE)


def _forbidden(what: str, detail: str) -> LabelStudioError:
    if "reserved network address" in detail:
        return LabelStudioError(
            what,
            why="Since 1.23.1 Label Studio does not call private addresses. It may have kept a half-made "
            "connection: a backend without its webhook, which predicts and never trains.",
            todo=f"Start Label Studio with {PRIVATE_ADDRESS_LINES} in its environment, then connect again.",
        )
    return LabelStudioError(
        what,
        why="The user of our token is not allowed to do this.",
        todo="Use the token of a user who may manage the project.",
    )


def _not_found(what: str, _detail: str) -> LabelStudioError:
    return LabelStudioError(what, todo="Check the id, and that the token's user can open it in Label Studio.")


def _too_large(what: str, _detail: str) -> LabelStudioError:
    return LabelStudioError(
        what,
        why="Label Studio or a proxy before it limits the size of a request.",
        todo="Raise that limit (client_max_body_size in nginx) or send fewer at once.",
    )


def _later(what: str, _detail: str) -> LabelStudioError:
    return LabelStudioError(
        what,
        why="Label Studio, or a proxy before it, is busy or restarting.",
        todo="Nothing is lost; try again.",
    )


def _server_error(what: str, _detail: str) -> LabelStudioError:
    return LabelStudioError(what, todo="Its own log names the cause; look there.")


def _other(what: str, _detail: str) -> LabelStudioError:
    return LabelStudioError(what)


_BY_STATUS: dict[int, Callable[[str, str], LabelStudioError]] = {
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    413: _too_large,
    429: _later,
    500: _server_error,
    502: _later,
    503: _later,
    504: _later,
}


def detail_of(response: httpx.Response) -> str:
    """Label Studio's own words about a failure, on one line, at most 400 characters."""
    try:
        body: Json = response.json()
    except ValueError:
        return _page_text(response.text)
    return _one_line("; ".join(_sentences(body)))


def _sentences(body: Json) -> list[str]:
    """The human parts of an error body: `detail`, `validation_errors`, or whatever else is there."""
    if isinstance(body, Mapping):
        if body.get("validation_errors"):
            return _sentences(body["validation_errors"])
        if body.get("detail"):
            return _sentences(body["detail"])
        parts = [f"{key}: {text}" for key, value in body.items() for text in _sentences(value)]
        return [part.removeprefix("non_field_errors: ") for part in parts]
    if isinstance(body, list):
        return [text for value in body for text in _sentences(value)]
    return [str(body)]


def _page_text(page: str) -> str:
    title = re.search(r"<title>(.*?)</title>", page, flags=re.DOTALL | re.IGNORECASE)
    return _one_line(title.group(1) if title else page)


def _one_line(text: str) -> str:
    """Without markup and line breaks, cut to the limit, closed like a sentence."""
    line = " ".join(re.sub(r"<[^>]*>", " ", text).split()) or "no detail given"
    line = line if len(line) <= _DETAIL_LIMIT else line[:_DETAIL_LIMIT] + "..."
    return line if line.endswith((".", "!", "?")) else f"{line}."
