"""A worker in a process of its own for test_takeover.py: no torch, no Label Studio.

Says on standard output what it does, a line each, and "done" at its end.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from conftest import SECRET, OnePicture, SayingGenerator
from test_retrain import TASKS, StandInChild, submitted

import backend.held_run
import backend.retrain
import backend.run_lock
from backend.presample import push_ahead, sample_ahead
from backend.retrain import Retrain
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.errors import IllumeError
from illume_plugin.store import projects


def say(what: str) -> None:
    print(what, flush=True)


class Sitting(StandInChild):
    """A training process that does nothing, and ends with its parent as the real one does."""

    def __enter__(self) -> Sitting:
        code = "import sys; sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            pass_fds=() if self.lock is None else (self.lock,),
        )
        say("training")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.01)


class Asleep(Sitting):
    """Its worker stops, as a laptop does that is closed; between two writes, since SQLite has one writer."""

    slept = False

    def wait(self, seconds: float) -> None:
        if not self.slept:
            self.slept = True
            say("asleep")
            os.kill(os.getpid(), signal.SIGSTOP)
        super().wait(seconds)


class Quick(StandInChild):
    """Trains at once, and leaves a line in the file `trained`."""

    def result(self) -> Any:
        found = super().result()
        append(self.folder.parents[1] / "trained", str(os.getpid()))
        return found


def append(path: Path, *lines: str) -> None:
    """Add lines to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
    os.close(descriptor)


class WritingLabelStudio:
    """Writes down the tasks of the predictions that it is given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def push_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        append(self.path, *(str(one["task"]) for one in predictions))
        return len(predictions)


def train(service: Service, how: str, rounds: int) -> None:
    kinds = {"for ever": Sitting, "asleep": Asleep, "at once": Quick}
    backend.retrain.TrainingChild = kinds[how]  # type: ignore[misc,assignment]
    backend.retrain.HEARTBEAT_S = backend.held_run.HEARTBEAT_S = 0.02
    taken = backend.run_lock._taken

    def told(descriptor: int) -> bool:
        free = taken(descriptor)
        if not free:
            say("waiting")
        return free

    backend.run_lock._taken = told
    for _ in range(rounds):
        run = Retrain(service, owner=f"process {os.getpid()}").claim_and_run()
        say("run none" if run is None else f"run {run.run_id} {run.state.value}")


def push(service: Service, rounds: int) -> None:
    service.label_studio = WritingLabelStudio(service.settings.data_dir / "pushed")  # type: ignore[assignment]
    for _ in range(rounds):
        with service.store.read() as conn:
            project = projects.get(conn, 2)
        sample_ahead(service, project)
        push_ahead(service, project, everything=True)


def received_by(seed: int) -> list[dict[str, Any]]:
    """What one process receives: ticks that are changed, on tasks some of which are deleted meanwhile."""
    draw = random.Random(seed)
    bodies: list[dict[str, Any]] = []
    for n, minute in itertools.product(range(12), range(3)):
        body = submitted(TASKS + 1 + n, draw.sample(["c1", "c2", "c3"], k=2))
        body["annotation"]["updated_at"] = f"2026-11-22T00:{minute:02d}:00Z"
        bodies.append(body)
    gone = [{"id": TASKS + 1 + n} for n in range(0, 12, 4)]
    bodies.append({"action": "TASKS_DELETED", "tasks": gone, "project": {"id": 2}})
    draw.shuffle(bodies)
    return bodies


def receive(service: Service, seed: int) -> None:
    for body in received_by(seed):
        service.receive(body)
        service.apply_events()


def main(options: Mapping[str, Any]) -> None:
    settings = load_settings(**options["settings"], secret=SECRET, train_after=0)
    ahead = options.get("ahead_s", 0.0)
    service = Service(settings, clock=lambda: time.time() + ahead)
    service.engine._generator = SayingGenerator()
    folder = settings.data_dir / f"process-{os.getpid()}"
    folder.mkdir(parents=True)
    service.images = service.sampler.images = OnePicture(folder)  # type: ignore[assignment]
    rounds = options.get("rounds", 1)
    try:
        if "training" in options:
            train(service, options["training"], rounds)
        if "pushing" in options:
            push(service, rounds)
        if "receiving" in options:
            receive(service, options["receiving"])
    except IllumeError as error:
        say(f"error {error}")
        raise
    say("done")
    service.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
