"""Clients that ask the backend for candidates of tasks that nobody asked about before, all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import httpx
from live_backend import PROJECT, SECRET, task_data

from backend.settings import SECRET_HEADER
from illume_plugin.embedded import WorldTask

#: The backend itself gives up earlier.
TIMEOUT_S = 100.0


@dataclass(frozen=True)
class Call:
    """One /predict call of a client.

    Attributes:
        begin, end: on the monotonic clock.
        version: that the candidates are of; empty where there are none.
        problem: why there are none.
    """

    begin: float
    end: float
    version: str
    problem: str = ""

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""
        return 1000 * (self.end - self.begin)


class Clients:
    """Threads that call one after another until told to stop.

    Args:
        first: number of the first task; every call asks about the next one.
    """

    def __init__(self, url: str, tasks: Sequence[WorldTask], *, threads: int, first: int = 1) -> None:
        self._url = url
        self._tasks = tasks
        self._numbers = count(first)
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        self._stop = threading.Event()
        self._may_call = threading.Event()
        self._may_call.set()
        self._threads = [
            threading.Thread(target=self._work, name=f"client {n}", daemon=True) for n in range(threads)
        ]

    @contextmanager
    def calling(self) -> Iterator[Clients]:
        """They call while the block runs; the calls under way at its end are still waited for."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._may_call.set()
            for thread in self._threads:
                thread.join()

    @property
    def calls(self) -> list[Call]:
        """Calls that have ended, in the order in which they did."""
        with self._changed:
            return list(self._calls)

    def taken(self) -> list[Call]:
        """Calls that have ended since this was asked last; they are kept no longer."""
        with self._changed:
            calls, self._calls = self._calls, []
        return calls

    def pause(self) -> None:
        """Begin no call until `go_on`."""
        self._may_call.clear()

    def go_on(self) -> None:
        """Call again."""
        self._may_call.set()

    def wait_for(self, calls: int, *, version: str | None = None, within_s: float) -> None:
        """Wait until so many more calls than now have ended (with candidates of `version`, if given).

        Raises:
            RuntimeError: they have not within the time.
        """
        with self._changed:
            begun = len(self._calls)

            def enough() -> bool:
                new = self._calls[begun:]
                return sum(version in (None, call.version) for call in new) >= calls

            if not self._changed.wait_for(enough, within_s):
                last = self._calls[-1] if self._calls else None
                raise RuntimeError(f"{calls} calls did not end within {within_s:g} s; the last one: {last}.")

    def _work(self) -> None:
        with httpx.Client(timeout=TIMEOUT_S, headers={SECRET_HEADER: SECRET}) as http:
            while not self._stop.is_set():
                call = self._call(http)
                with self._changed:
                    self._calls.append(call)
                    self._changed.notify_all()
                if call.problem:
                    self._stop.wait(0.2)  # as whoever was refused waits before the next try
                self._may_call.wait()

    def _call(self, http: httpx.Client) -> Call:
        number = next(self._numbers)
        body = {
            "project": f"{PROJECT}.1",
            "tasks": [{"id": number, "data": task_data(number, self._tasks)}],
            "params": {"context": None},
        }
        begin = time.monotonic()
        try:
            answer = http.post(f"{self._url}/predict", json=body)
        except httpx.HTTPError as error:
            return Call(begin, time.monotonic(), "", f"{type(error).__name__}: {error}")
        end = time.monotonic()
        if answer.status_code != 200:
            return Call(begin, end, "", f"{answer.status_code} {answer.text[:300]}")
        (item,) = answer.json()["results"]
        if not item.get("result"):
            return Call(begin, end, "", str(item.get("error", "no result")))
        return Call(begin, end, str(item["model_version"]))
