"""Workers in processes of their own, on both databases: one trains a run, one pushes a set, whoever dies."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import both_stores
from test_retrain import TASKS, labelled  # noqa: F401 - a fixture
from worker_process import received_by

from backend.service import Service
from illume_plugin.preferences import fold, preferences_of
from illume_plugin.store import candidates, judgements, projects, runs
from illume_plugin.types import Preference, RunState

pytestmark = both_stores

WORKER = Path(__file__).parent / "worker_process.py"
PATIENCE_S = 120.0


class WorkerProcess:
    """A worker without Label Studio and torch, told by lines what to do; see worker_process.py."""

    def __init__(self, service: Service, **options: Any) -> None:
        settings = {"data_dir": str(service.settings.data_dir), "database_url": service.settings.database_url}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps({"settings": settings, **options})],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def says(self, wanted: str) -> list[str]:
        """Everything it says up to the line that begins with `wanted`, that line last."""
        said: list[str] = []
        while True:
            said.append(self._lines.get(timeout=PATIENCE_S))
            assert said[-1], f"{wanted!r} did not come after {said}"
            if said[-1].startswith(wanted):
                return said

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> None:
        """Kill it, if it lives."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start(labelled: Service) -> Iterator[Any]:  # noqa: F811 - the fixture
    started: list[WorkerProcess] = []

    def begin(**options: Any) -> WorkerProcess:
        started.append(WorkerProcess(labelled, **options))
        return started[-1]

    yield begin
    for worker in started:
        worker.signal(signal.SIGCONT)
        worker.end()


def state(service: Service, run_id: int) -> RunState:
    with service.store.read() as conn:
        return runs.get(conn, run_id).state


def trained(service: Service) -> list[str]:
    """One line for each time that training went to its end, in whatever process."""
    path = service.settings.data_dir / "trained"
    return path.read_text().splitlines() if path.exists() else []


def test_when_a_worker_is_killed_in_the_middle_of_a_run_another_one_ends_it(
    labelled: Service,  # noqa: F811
    start: Any,
) -> None:
    run, _ = labelled.request_training(2, trigger="test")
    killed = start(training="for ever")
    killed.says("training")
    killed.signal(signal.SIGKILL)
    early = start(training="at once")
    assert early.says("run")[-1] == "run none", "its lease has not run out"
    other = start(training="at once", ahead_s=runs.LEASE_S + 1)
    assert other.says("run")[-1] == f"run {run.run_id} promoted"
    assert state(labelled, run.run_id) is RunState.PROMOTED
    assert [meta.version for meta in labelled.registry.versions(2)] == ["v0001"]
    assert len(trained(labelled)) == 1


def test_a_worker_that_slept_longer_than_its_lease_harms_nothing(
    labelled: Service,  # noqa: F811
    start: Any,
) -> None:
    """It and its training process have the folder until they hear that the run is another one's."""
    run, _ = labelled.request_training(2, trigger="test")
    sleeper = start(training="asleep")
    sleeper.says("asleep")
    other = start(training="at once", ahead_s=runs.LEASE_S + 1)
    other.says("waiting")
    assert trained(labelled) == []
    sleeper.signal(signal.SIGCONT)
    assert sleeper.says("run")[-1] == f"run {run.run_id} running", "it is another one's"
    assert other.says("run")[-1] == f"run {run.run_id} promoted"
    assert [meta.version for meta in labelled.registry.versions(2)] == ["v0001"]
    assert len(trained(labelled)) == 1


def test_of_many_workers_each_run_is_trained_by_one(
    labelled: Service,  # noqa: F811
    start: Any,
) -> None:
    wanted = set()
    with labelled.store.write() as conn:
        for project_id in range(2, 8):
            projects.put(conn, project_id, title="t", label_config="<View/>", now=1.0)
            wanted.add(runs.enqueue(conn, project_id, trigger="test", now=1.0)[0])
    workers = [start(training="at once", rounds=20) for _ in range(3)]
    said = [line for worker in workers for line in worker.says("done")]
    taken = [int(line.split()[1]) for line in said if line.startswith("run ") and line != "run none"]
    assert sorted(taken) == sorted(wanted)


def test_of_many_workers_each_set_is_pushed_by_one(
    labelled: Service,  # noqa: F811
    start: Any,
) -> None:
    """Each looks for work again and again, and what was pushed is written into one file by all of them."""
    data = {100 + n: {"image": "/x.png", "question": "q", "answer": "a"} for n in range(60)}
    with labelled.store.write() as conn:
        projects.put_tasks(conn, 2, data.items())
    workers = [start(pushing=True, rounds=40) for _ in range(3)]
    for worker in workers:
        worker.says("done")
    pushed = (labelled.settings.data_dir / "pushed").read_text().splitlines()
    assert sorted(map(int, pushed)) == sorted(data)
    with labelled.store.read() as conn:
        key = {"version": "v0000", "plan": labelled.plan.hash}
        assert candidates.count(conn, 2, **key) == (len(data), len(data))


def test_events_are_applied_by_any_number_of_processes(
    labelled: Service,  # noqa: F811
    start: Any,
) -> None:
    """The same annotations, and deletions of their tasks, in another order in each of three processes."""
    workers = [start(receiving=seed) for seed in range(3)]
    for worker in workers:
        worker.says("done")
    labelled.apply_events()

    bodies = [body for seed in range(3) for body in received_by(seed)]
    wanted = [p for one in fold(bodies).annotations for p in preferences_of(one)]
    with labelled.store.read() as conn:
        found = [one for one in judgements.preferences_in(conn, 2) if one.task_id > TASKS]

    def order(one: Preference) -> tuple[int, int]:
        return one.annotation_id, one.position

    assert sorted(found, key=order) == sorted(wanted, key=order)
