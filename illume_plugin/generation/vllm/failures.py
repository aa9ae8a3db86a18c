"""Turns every way in which a vLLM server can fail us into one sentence that a person can act on."""

from __future__ import annotations

import httpx

from illume_plugin.errors import IllumeError, ModelError, SettingsError, TaskError, UnavailableError

#: Answers after which the same request may succeed: busy, restarting, or a proxy before it is.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

_DETAIL_LIMIT = 400


class RefusedError(ModelError):
    """The server understood and said no.

    Attributes:
        answered: its HTTP status.
        detail: its own words.
    """

    def __init__(self, what: str, *, answered: int, detail: str, why: str = "", todo: str = "") -> None:
        super().__init__(what, why=why, todo=todo)
        self.answered = answered
        self.detail = detail


def no_answer(where: str, asked: str, error: httpx.TransportError) -> UnavailableError:
    """The server was not reached, or hung up."""
    reason = str(error).rstrip(".") or type(error).__name__
    return UnavailableError(
        f"The vLLM server at {where} cannot be reached for {asked}: {reason}.",
        why="It is down, restarting, or died at this request.",
        todo="See its log; ILLUME_VLLM_URL must be its address (scheme, host and port).",
    )


def too_late(where: str, asked: str, seconds: float, last: IllumeError | None) -> UnavailableError:
    """The deadline of a request has passed."""
    return UnavailableError(
        f"The vLLM server at {where} did not answer {asked} within {seconds:g} s.",
        why=f"The last attempt ended so: {last.what}" if last else "",
        todo="Give it less at a time (ILLUME_SAMPLING_ROWS), or more GPUs (docs/scale-out.md).",
    )


def failure_of(where: str, asked: str, response: httpx.Response) -> IllumeError | None:
    """The error that an answer amounts to; None for a good one."""
    if response.is_success:
        return None
    status, detail = response.status_code, detail_of(response)
    what = f"The vLLM server at {where} answered {status} to {asked}: {detail}"
    if status in (401, 403):
        return SettingsError(
            what, todo="Set ILLUME_VLLM_API_KEY to the key that the server was started with."
        )
    if status == 400 and "maximum context length" in detail:
        return TaskError(
            what,
            why="Picture, question and answer are longer than what the server reads.",
            todo="Shorten the question, or start the server with a larger --max-model-len.",
        )
    if status in (429, 503):
        return UnavailableError(what, why="It is busy or restarting.", todo="Try again later.")
    if response.has_redirect_location:
        return RefusedError(
            what,
            answered=status,
            detail=detail,
            why="We do not follow: pictures and the key would go to another address.",
            todo="Set ILLUME_VLLM_URL to the address that it redirects to.",
        )
    return RefusedError(what, answered=status, detail=detail, todo="Its own log names the cause.")


def not_vllm(where: str, asked: str) -> ModelError:
    """A good answer that is none of vLLM's."""
    return ModelError(
        f"{where} answered {asked} with something other than what vLLM's API says.",
        todo="Set ILLUME_VLLM_URL to the address of a vLLM server, without a path.",
    )


def detail_of(response: httpx.Response) -> str:
    """The server's own words on one line, at most 400 characters."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    if isinstance(body, dict):
        body = body.get("error", body.get("detail", body))
    if isinstance(body, dict):
        body = body.get("message", body)
    line = " ".join(str(body).split()) or "no detail given"
    line = line if len(line) <= _DETAIL_LIMIT else line[:_DETAIL_LIMIT] + "..."
    return line if line.endswith((".", "!", "?")) else f"{line}."
