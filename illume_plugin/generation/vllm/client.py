"""Requests to an OpenAI-compatible vLLM server: bounded in number, with deadlines, repeated where that helps.

Sampling with a seed is safe to repeat, so a request that met a busy, restarting or unreachable server is sent
again with exponential back-off until its deadline. The key stands in a header that nothing logs.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from illume_plugin.errors import IllumeError, SettingsError
from illume_plugin.generation.stopping import never
from illume_plugin.generation.vllm.failures import PASSING, failure_of, no_answer, not_vllm, too_late
from illume_plugin.generation.vllm.waiting import BackgroundLoop

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of the server at most.

    Attributes:
        in_flight: requests at a time; the others wait here, where they cost nothing.
        deadline_s: seconds for one request with all its repetitions, counted from its turn.
        attempts: how often a request is sent at most.
        connect_s: seconds to connect.
        first_wait_s: before the second attempt; doubled for each further one.
        longest_wait_s: between two attempts at most.
    """

    in_flight: int = 64
    deadline_s: float = 120.0
    attempts: int = 6
    connect_s: float = 5.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0


class VllmClient:
    """A vLLM server. Safe to share between threads; all of them share its limits.

    Args:
        url: its address; a path "/v1" at the end is left out.
        api_key: what `--api-key` says; empty without one.
        transport: in place of the network, for tests.
        pause: waits for so many seconds.
        jitter: a number in [0, 1): clients that failed together shall not come back together.

    Raises:
        SettingsError: the address is none, or holds a password.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.url = _checked_url(url)
        self.limits = limits or Limits()
        self._pause, self._jitter = pause, jitter
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=self.limits.connect_s),
            limits=httpx.Limits(max_connections=self.limits.in_flight),
            follow_redirects=False,
            transport=transport,
        )
        self._troubled = False
        self._slots = asyncio.Semaphore(self.limits.in_flight)
        self._background = BackgroundLoop()

    def close(self) -> None:
        """Close the connections."""
        self._background.run(self._http.aclose())
        self._background.close()

    def get(self, path: str) -> Any:
        """The JSON at `path`.

        Raises:
            UnavailableError: no answer in time, or the server is busy.
            SettingsError: it does not accept our key.
            ModelError: it refuses.
        """
        return self._background.run(self._ask("GET", path, None))

    def post(self, path: str, body: Body, *, repeat: bool = True) -> Any:
        """The answer to one request; JSON, or text where the server gives that. Raises like `get`.

        Args:
            repeat: send it again after 408, 425, 429 and 5xx; without, only where it never arrived.
        """
        return self._background.run(self._ask("POST", path, body, repeat=repeat))

    def post_all(self, path: str, bodies: Sequence[Body], *, stop: Callable[[], bool] = never) -> list[Any]:
        """The answers to many requests, in their order; a failure cancels the others. Raises like `get`.

        Args:
            stop: asked now and then; true hangs up, and the server drops what it was doing for us.
        """
        return self._background.run(self._ask_all(path, bodies), stop=stop)

    def read(self, path: str, parse: Callable[[], Result]) -> Result:
        """What `parse` makes of an answer to `path`.

        Raises:
            ModelError: the answer has another shape than vLLM's.
        """
        try:
            return parse()
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise not_vllm(self.url, path) from error

    async def _ask_all(self, path: str, bodies: Sequence[Body]) -> list[Any]:
        asked = [asyncio.ensure_future(self._ask("POST", path, body)) for body in bodies]
        try:
            return await asyncio.gather(*asked)
        finally:
            for each in asked:
                each.cancel()

    async def _ask(self, method: str, path: str, body: Body | None, *, repeat: bool = True) -> Any:
        failures: list[IllumeError] = []
        async with self._slots:
            try:
                async with asyncio.timeout(self.limits.deadline_s):
                    return await self._attempts(method, path, body, failures, repeat=repeat)
            except TimeoutError as error:
                last = failures[-1] if failures else None
                raise too_late(self.url, f"{method} {path}", self.limits.deadline_s, last) from error

    async def _attempts(
        self, method: str, path: str, body: Body | None, failures: list[IllumeError], *, repeat: bool
    ) -> Any:
        asked = f"{method} {path}"
        for attempt in count(1):
            wait = min(self.limits.longest_wait_s, self.limits.first_wait_s * 2 ** (attempt - 1))
            try:
                response = await self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                failure: IllumeError | None = no_answer(self.url, asked, error)
                passing = repeat or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            else:
                failure = failure_of(self.url, asked, response)
                passing = repeat and response.status_code in PASSING
                wait = max(wait, _retry_after(response))
            if failure is None:
                self._troubled = False
                return _content(response, self.url, asked)
            if not passing or attempt == self.limits.attempts:
                raise failure
            failures.append(failure)
            self._say_once(failure)
            await self._pause(wait * (1 + self._jitter()) / 2)
        raise AssertionError("unreachable")

    def _say_once(self, failure: IllumeError) -> None:
        """Log the first failure of a series: all requests in flight meet the same one."""
        if not self._troubled:
            self._troubled = True
            log.warning("%s Trying again.", failure.what)


def _content(response: httpx.Response, where: str, asked: str) -> Any:
    if "json" not in response.headers.get("content-type", ""):
        return response.text
    try:
        return response.json()
    except ValueError as error:
        raise not_vllm(where, asked) from error


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks us to wait; 0 where it names none, or a date."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else 0.0


def _checked_url(url: str) -> str:
    split = urlsplit(url)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise SettingsError(
            f"ILLUME_VLLM_URL={url!r} is no address.", todo="Give scheme, host and port: http://gpu-1:8000"
        )
    if split.username or split.password:
        raise SettingsError(
            f"ILLUME_VLLM_URL holds a password (for {split.hostname}).",
            why="Addresses are logged.",
            todo="Set ILLUME_VLLM_API_KEY instead.",
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
