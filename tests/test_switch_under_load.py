"""Versions change under people's hands: the real backend in a process of its own, and nobody is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(1500)]

CLIENTS = 4
#: Tasks that everybody asks about, so that they come from the store; each call asks about a new one, too.
KNOWN = (1, 2)
#: A moment's sampling: little, but by the real model.
SMALL = {"temperatures": "0.6", "samples": "2", "candidates": "2", "max_new_tokens": "40"}
WITHIN_S = 300.0


@dataclass(frozen=True)
class Call:
    """A /predict call: when, on the monotonic clock, and what was answered."""

    begin: float
    end: float
    status: int
    tasks: tuple[int, ...]
    answer: Any

    @property
    def versions(self) -> set[str]:
        """Every version that the answer names."""
        return {item.get("model_version", "none") for item in self.items}

    @property
    def items(self) -> list[dict[str, Any]]:
        return list(self.answer.get("results", [])) if self.status == 200 else []


@dataclass
class Reigns:
    """When each version may have been the active one: from the begin of its switch to the end of the next."""

    began: float
    switches: list[tuple[float, float, str]] = field(default_factory=list)

    def switch(self, change: Callable[[], object], version: str) -> None:
        begin = time.monotonic()
        change()
        self.switches.append((begin, time.monotonic(), version))

    def active(self, version: str, call: Call) -> bool:
        """Whether a version may have been active at some moment of a call."""
        known = [(self.began, self.began, "v0000"), *self.switches]
        ends = [end for _, end, _ in known[1:]] + [float("inf")]
        return any(
            version == name and begin <= call.end and call.begin <= until
            for (begin, _, name), until in zip(known, ends, strict=True)
        )


class Callers:
    """Threads that ask for candidates, one call after another."""

    def __init__(self, url: str, headers: dict[str, str], body: Callable[[tuple[int, ...]], Any]) -> None:
        self._url, self._headers, self._body = url, headers, body
        self._numbers = count(100)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self.calls: list[Call] = []

    @contextmanager
    def calling(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def wait_for(self, calls: int, version: str | None = None) -> None:
        """Wait until so many more calls have ended, with candidates of `version` where it is given."""
        with self._changed:
            begun = len(self.calls)

            def enough() -> bool:
                new = self.calls[begun:]
                return sum(version is None or version in call.versions for call in new) >= calls

            assert self._changed.wait_for(enough, WITHIN_S), (version, self.calls[-1:])

    def _work(self) -> None:
        with httpx.Client(timeout=WITHIN_S, headers=self._headers, trust_env=False) as http:
            while not self._stop.is_set():
                tasks = (next(self._numbers), *KNOWN)
                begin = time.monotonic()
                answer = http.post(f"{self._url}/predict", json=self._body(tasks))
                call = Call(begin, time.monotonic(), answer.status_code, tasks, answer.json())
                with self._changed:
                    self.calls.append(call)
                    self._changed.notify_all()


def test_promoting_and_going_back_under_load_fails_no_request(tmp_path: Path) -> None:
    from live_backend import PROJECT, SECRET, live_backend, task_data, world

    from backend.settings import SECRET_HEADER
    from illume_plugin.store import candidates, projects

    tasks = world()

    def body(numbers: tuple[int, ...]) -> dict[str, Any]:
        told = [{"id": number, "data": task_data(number, tasks)} for number in numbers]
        return {"project": f"{PROJECT}.1", "tasks": told, "params": {"context": None}}

    given = {**SMALL, "predict_deadline_s": str(WITHIN_S), "adapters_loaded": "1"}
    with live_backend(tmp_path, tasks, adapters=3, **given) as backend:
        service = backend.service
        callers = Callers(backend.url, {SECRET_HEADER: SECRET}, body)
        reigns = Reigns(time.monotonic())
        with callers.calling():
            callers.wait_for(CLIENTS, "v0000")
            for version in ("v0001", "v0002", "v0003"):
                reigns.switch(lambda to=version: backend.switch(to), version)  # type: ignore[misc]
                callers.wait_for(CLIENTS, version)
            for version in ("v0002", "v0001"):
                reigns.switch(lambda: service.rollback(PROJECT, reason="test"), version)
                callers.wait_for(CLIENTS, version)
            for turn in range(6):  # faster than anybody can sample
                version = f"v000{turn % 3 + 1}"
                reigns.switch(lambda to=version: backend.switch(to), version)  # type: ignore[misc]
                callers.wait_for(1)
            callers.wait_for(CLIENTS, version)

        assert [call for call in callers.calls if call.status != 200] == []
        with service.store.read() as conn:
            project = projects.get(conn, PROJECT)
            for call in callers.calls:
                assert len(call.items) == len(call.tasks), "one answer for each task"
                (version,) = call.versions
                assert reigns.active(version, call), (version, call.begin, call.end, reigns.switches)
                found = candidates.get(conn, PROJECT, call.tasks, version=version, plan=service.plan.hash)
                for number, item in zip(call.tasks, call.items, strict=True):
                    own = service.predictor.prediction(project, found[number])
                    assert item == own, "whole, and that version's own"
        assert {"v0000", "v0001", "v0002", "v0003"} <= set().union(*(call.versions for call in callers.calls))
