"""P4: /predict of tasks with stored candidates, 16 clients at once, while a training run is on.

Ours runs as `illume serve --with-worker` starts it, with the embedded model; its worker has taken up a run,
and the run's child process trains throughout. Another client asks for /health and one for /setup, ten times
a second each. The official app answers the same calls of as many clients in turn with ours, on the same
machine with the same run on; its model has everything in memory.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import stored_candidates
from backend_process import free_port, python_process
from figures import Figure, figure, in_turns, quantile
from http_load import Answer, Client, request, under_load
from live_backend import PROJECT, SECRET, LiveBackend, live_backend, task_data, world
from service_setting import ServiceSetting

import label_config
from backend.cli.serve import THREADS
from backend.service import Service
from illume_plugin.embedded import WorldTask
from illume_plugin.store import projects, runs
from illume_plugin.types import BASE_VERSION, RunState

CLIENTS = 16
GOAL_MS, GOAL_OTHERS_MS = 50.0, 100.0
#: Tasks with stored candidates, of which a fifth is held out in the run, and tasks to learn from.
STORED, JUDGED = 4_000, 120
#: Each judged task's annotation numbers from here on.
FIRST_JUDGED = 1_000_000
OTHERS_EVERY_S = 0.1
TRAINING_WITHIN_S = 300.0
#: Many more epochs than it gets to before it is cancelled, at a rate at which so many do not spoil it.
TRAIN = {"epochs": 1000, "learning_rate": 1e-6}
Window = dict[str, list[Answer]]
_EXPECTED = (RunState.QUEUED, RunState.RUNNING, RunState.CANCELLED)


@dataclass(frozen=True)
class Server:
    """Where one of the two listens."""

    port: int
    tasks: int
    secret: str = ""

    def window(self, seconds: float, clients: int = CLIENTS) -> Window:
        """All clients at it for so long.

        Raises:
            RuntimeError: it refused a call.
        """
        asking = [Client("predict", self._predictions()) for _ in range(clients)]
        asking += [
            Client("health", self._health(), OTHERS_EVERY_S),
            Client("setup", self._setup(), OTHERS_EVERY_S),
        ]
        found = under_load(self.port, asking, seconds=seconds)
        refused = [one.status for answers in found.values() for one in answers if one.status != 200]
        if refused:
            raise RuntimeError(f"{len(refused)} calls were refused, one with {refused[0]}.")
        return found

    def _predictions(self) -> Iterator[bytes]:
        while True:
            number = next(_numbers) % self.tasks + 1
            task = {"id": number, "data": task_data(number, _WORLD), "annotations": [], "predictions": []}
            body = {"tasks": [task], "label_config": _CONFIG, **_OF_PROJECT, "params": {"context": None}}
            yield request("POST", "/predict", body, secret=self.secret)

    def _health(self) -> Iterator[bytes]:
        return itertools.repeat(request("GET", "/health"))

    def _setup(self) -> Iterator[bytes]:
        return itertools.repeat(
            request("POST", "/setup", {"schema": _CONFIG, **_OF_PROJECT}, secret=self.secret)
        )


_CONFIG = label_config.read("select")
_OF_PROJECT = {"project": f"{PROJECT}.1"}
_WORLD: list[WorldTask] = world()
_numbers = itertools.count()


def measure(setting: ServiceSetting) -> dict[str, Figure]:
    """P4, P4_health and P4_setup: milliseconds that 99 of 100 calls keep below."""
    stored = STORED // 10 if setting.quick else STORED
    with (
        TemporaryDirectory(prefix="illume-p4-") as name,
        live_backend(Path(name), _WORLD, adapters=0, worker=True, train=TRAIN) as backend,
        _official(Path(name), stored) as peer,
    ):
        ours = Server(backend.port, stored, SECRET)
        fill(backend.service, stored)
        steps = Training(backend)
        others, own = in_turns(
            lambda: steps.during(peer, setting.seconds),
            lambda: steps.during(ours, setting.seconds),
            setting.repeats,
        )
        steps.end()
    return figures(own, others, steps.seen)


def figures(own: Sequence[Window], others: Sequence[Window], steps: Sequence[int]) -> dict[str, Figure]:
    """The three figures.

    Args:
        steps: that the run made in each window, those of the peer among them.
    """

    def of(windows: Sequence[Window], name: str, share: float) -> list[float]:
        return [quantile([answer.ms for answer in window[name]], share) for window in windows]

    detail: dict[str, Any] = {
        "clients": CLIENTS,
        "calls": sum(len(window["predict"]) for window in own),
        "steps_meanwhile": list(steps),
        "p50_ms": of(own, "predict", 0.5),
        "peer": "label-studio-ml 1.0.9, init_app, a model that answers at once",
        "peer_p50_ms": of(others, "predict", 0.5),
        "peer_p99_ms": of(others, "predict", 0.99),
        "peer_health_p99_ms": of(others, "health", 0.99),
        "peer_setup_p99_ms": of(others, "setup", 0.99),
    }
    told = f"p50 {median(detail['p50_ms']):.1f} ms, peer {median(detail['peer_p50_ms']):.1f} ms"
    told += f", its p99 {median(detail['peer_p99_ms']):.1f} ms"
    while_on = "while a run is on, 16 clients"

    def lower(name: str, goal: float, **more: Any) -> Figure:
        return figure(of(own, name, 0.99), goal=goal, detail={**detail, **more}, higher_is_better=False)

    return {
        "P4": lower(
            "predict", GOAL_MS, told=told, what=f"ms, p99 of /predict with stored candidates {while_on}"
        ),
        "P4_health": lower("health", GOAL_OTHERS_MS, what=f"ms, p99 of /health {while_on}"),
        "P4_setup": lower("setup", GOAL_OTHERS_MS, what=f"ms, p99 of /setup {while_on}"),
    }


class Training:
    """A run that the backend's worker has taken up and that goes on while others are measured.

    Attributes:
        seen: optimiser steps during each window.
    """

    def __init__(self, backend: LiveBackend) -> None:
        self._service = backend.service
        self._run_id = self._service.request_training(PROJECT, trigger="benchmark")[0].run_id
        self._wait(lambda: self._step() > 0)
        self.seen: list[int] = []

    def during(self, server: Server, seconds: float) -> Window:
        """A window, in which the run has gone on.

        Raises:
            RuntimeError: it has not.
        """
        before = self._step()
        window = server.window(seconds)
        # the worker looks at its child now and then
        self._wait(lambda: self._step() > before)
        self.seen.append(self._step() - before)
        return window

    def end(self) -> None:
        """Cancel it and wait until it is over."""
        with self._service.store.write() as conn:
            runs.request_cancel(conn, self._run_id, now=self._service.clock())
        self._wait(lambda: self._run().state is RunState.CANCELLED)

    def _run(self) -> Any:
        with self._service.store.read() as conn:
            return runs.get(conn, self._run_id)

    def _step(self) -> int:
        run = self._run()
        return int(run.progress.get("step", 0)) if run.progress.get("stage") == "training" else 0

    def _wait(self, reached: Any) -> None:
        until = time.monotonic() + TRAINING_WITHIN_S
        while not reached():
            run = self._run()
            if time.monotonic() > until or run.state not in _EXPECTED:
                raise RuntimeError(f"The run is {run.state.value}: {run.error or run.progress}")
            time.sleep(0.1)


def fill(service: Service, stored: int) -> None:
    """Tasks with candidates of the base model, and judged ones to learn from."""
    numbers = range(1, stored + 1)
    with service.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(number, task_data(number, _WORLD)) for number in numbers])
    stored_candidates.keep(service, PROJECT, numbers)
    for number in range(FIRST_JUDGED, FIRST_JUDGED + JUDGED):
        service.receive(_judged(number))
    service.apply_events()


def _judged(number: int) -> dict[str, Any]:
    texts = stored_candidates.texts(number)
    meta = {"illume": {"model_version": BASE_VERSION, "texts": texts}}
    result = [
        {"from_name": "cand", "type": "textarea", "value": {"text": texts}, "meta": meta},
        {"from_name": "fits", "type": "choices", "value": {"choices": ["c1", f"c{number % 9 + 2}"]}},
    ]
    annotation = {"id": number, "task": number, "updated_at": "2026-11-22T00:00:00Z", "result": result}
    task = {"id": number, "data": task_data(number, _WORLD)}
    return {
        "action": "ANNOTATION_CREATED",
        "project": {"id": PROJECT},
        "annotation": {**annotation, "was_cancelled": False, "completed_by": 1},
        "task": task,
    }


@contextmanager
def _official(folder: Path, tasks: int) -> Iterator[Server]:
    port = free_port()
    words = [str(Path(__file__).with_name("official_app.py")), str(port), str(THREADS), str(folder / "jobs")]
    with python_process(words, port, folder / "peer.log", {}):
        body = {"schema": _CONFIG, **_OF_PROJECT}
        httpx.post(f"http://127.0.0.1:{port}/setup", json=body, timeout=30).raise_for_status()
        yield Server(port, tasks)
