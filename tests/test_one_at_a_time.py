"""Of any number of worker processes one does a thing at a time, and another one goes on when it is killed.

The other one is the process of the test, with its clock set forward where a lease has to run out.

Processes, SIGKILL and both databases are real; Label Studio is the small one, over HTTP. Runs that are taken
over in the middle of their training are in test_takeover.py; kills at every point there is, in tests/faults.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from at_work import PROJECT, AtWork, Stored, service_at
from conftest import OnePicture, both_stores
from small_labelstudio import TOKEN, SmallLabelStudio
from whole_worker_process import STEPS
from worker_process import Quick

import backend.retrain
from backend import keeping_step, leasing
from backend.presample import sample_ahead
from backend.service import Service
from backend.settings import Settings
from illume_plugin.fault_points import VARIABLE
from illume_plugin.labelstudio.changes import OVERLAP_S
from illume_plugin.store import candidates, projects, runs
from illume_plugin.types import Project, RunState

pytestmark = [both_stores, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parent / "whole_worker_process.py"
PATIENCE_S = 240.0
QUESTION = {"image": "/data/upload/1/a.png", "question": "does it fly?", "answer": "yes"}


@pytest.fixture
def work() -> Iterator[AtWork]:
    with SmallLabelStudio().running() as studio:
        yield AtWork(studio)


@pytest.fixture
def service(work: AtWork, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with service_at(work.studio, settings, tmp_path) as service:
        service.images = service.sampler.images = OnePicture(tmp_path)  # type: ignore[assignment]
        yield service


class Processes:
    """Starts workers on the service's data and Label Studio, and does itself what they do."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._settings = {
            "data_dir": str(settings.data_dir),
            "database_url": settings.database_url,
            "label_studio_url": settings.label_studio_url,
            "label_studio_token": TOKEN,
            "reconcile_every_s": 5.0,
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, step: str, *, fault: str = "") -> subprocess.Popen[str]:
        options = {"settings": self._settings, "step": step}
        environment = {**os.environ, **({VARIABLE: fault} if fault else {})}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(options)], env=environment, **pipes
        )
        self._started.append(process)
        return process

    def do(self, step: str, *, ahead_s: float = 0.0) -> str:
        """Do one thing in this process, so many seconds later by its clock; what was done."""
        self._service.clock = lambda: time.time() + ahead_s
        return STEPS[step](self._service)

    def die(self, step: str, fault: str) -> None:
        """Let a process begin something and be killed at a point of the code."""
        process = self.start(step, fault=f"{fault}:kill")
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def processes(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setattr(backend.retrain, "TrainingChild", Quick)
    processes = Processes(service)
    yield processes
    processes.end()


def known(service: Service) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, PROJECT)


def tasks_with(work: AtWork, *annotations: Any) -> list[int]:
    """Tasks that can be sampled, in the small Label Studio."""
    tasks = work.import_tasks(*annotations)
    for task_id in tasks:
        work.studio.tasks[task_id]["data"] = dict(QUESTION)
    return tasks


def sampled(service: Service, work: AtWork, count: int) -> list[int]:
    """Tasks with candidates that nobody has pushed."""
    tasks = tasks_with(work, *[None] * count)
    with service.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(task_id, QUESTION) for task_id in tasks])
    assert sample_ahead(service, known(service), limit=count) == count
    return tasks


def pushed(work: AtWork) -> Counter[int]:
    return Counter(one["task"] for one in work.studio.predictions.values())


def test_a_killed_pusher_is_waited_for_and_then_another_one_pushes(
    service: Service, work: AtWork, processes: Processes
) -> None:
    tasks = sampled(service, work, 15)
    processes.die("push", "push.before")
    assert processes.do("push") == "pushed 0", "it may still be at it, for all that anybody knows"
    assert pushed(work) == {}
    assert processes.do("push", ahead_s=leasing.LEASE_S + 1) == f"pushed {len(tasks)}"
    assert pushed(work) == Counter(tasks)
    assert processes.do("push", ahead_s=2 * leasing.LEASE_S) == "pushed 0"


def test_what_was_pushed_and_noted_is_not_pushed_again(
    service: Service, work: AtWork, processes: Processes
) -> None:
    tasks = sampled(service, work, 15)
    processes.die("push", "push.noted")
    assert processes.do("push", ahead_s=leasing.LEASE_S + 1) == "pushed 0"
    assert pushed(work) == Counter(tasks)


def test_a_killed_reconciler_is_waited_for_and_then_another_one_goes_on(
    service: Service, work: AtWork, processes: Processes
) -> None:
    tasks = tasks_with(work, ["c1"], None, ["none"])
    processes.die("reconcile", "reconcile.before_commit")
    asked = len(work.studio.asked)
    assert processes.do("reconcile") == "found False"
    assert len(work.studio.asked) == asked, "nobody asks beside it"
    work.submit(tasks[1], "c2")
    work.studio.clock += int(OVERLAP_S) + 1
    assert processes.do("reconcile", ahead_s=keeping_step.LEASE_S + 1) == "found True"
    stored = Stored(service)
    assert stored.preferences() == work.preferences()
    assert stored.data() == work.data()


def test_a_killed_run_is_taken_up_by_one(service: Service, work: AtWork, processes: Processes) -> None:
    judged(service, work)
    run, _ = service.request_training(PROJECT, trigger="test")
    processes.die("run", "run.trained")
    assert processes.do("run") == "run none"
    ahead = runs.LEASE_S + 1
    assert processes.do("run", ahead_s=ahead) == f"run {run.run_id} promoted"
    assert processes.do("run", ahead_s=2 * ahead) == "run none"
    assert [meta.version for meta in service.registry.versions(PROJECT)] == ["v0001"]
    assert len(trained(service)) == 1, "what was trained is not trained again"


def judged(service: Service, work: AtWork) -> None:
    """Enough to learn from, known here."""
    from at_work import reconcile

    tasks_with(work, *[["c1"], ["c2"]] * 15)
    reconcile(service, page=500)


def trained(service: Service) -> list[str]:
    """One line for each time that training went to its end, in whatever process."""
    path = service.settings.data_dir / "trained"
    return path.read_text().splitlines() if path.exists() else []


class Crowd:
    """Counts how many ask for pages of tasks at the same moment."""

    def __init__(self, studio: SmallLabelStudio) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        view = studio.app.view_functions["tasks"]
        studio.app.view_functions["tasks"] = lambda: self._counted(view)

    def _counted(self, view: Callable[[], Any]) -> Any:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return view()
        finally:
            with self._lock:
                self._now -= 1


def test_three_workers_at_once_do_everything_once(
    service: Service, work: AtWork, processes: Processes
) -> None:
    """One run, candidates for every task of whatever version serves, what no event told: each by one."""
    judged(service, work)
    crowd = Crowd(work.studio)
    run, _ = service.request_training(PROJECT, trigger="test")
    waiting = tasks_with(work, *[None] * 40)  # told by no event
    workers = [processes.start("work") for _ in range(3)]
    wait_until(lambda: everything_done(service, work, run.run_id, waiting))
    for worker in workers:
        said, _ = worker.communicate(timeout=PATIENCE_S)
        assert said.split() == ["working", "worked"]
    assert crowd.most == 1, "one asks what changed at a time"
    assert len(trained(service)) == 1
    assert [meta.version for meta in service.registry.versions(PROJECT)] == ["v0001"]
    versions = {(one["task"], one["model_version"]) for one in work.studio.predictions.values()}
    assert len(versions) == len(work.studio.predictions), "no set was pushed twice"
    assert {task_id for task_id, version in versions if version == "v0001"} == set(waiting)


def everything_done(service: Service, work: AtWork, run_id: int, waiting: list[int]) -> bool:
    with service.store.read() as conn:
        run = runs.get(conn, run_id)
        project = projects.get(conn, PROJECT)
        key = {"version": project.active_version, "plan": service.sampler.key(project)}
        _, in_label_studio = candidates.count(conn, PROJECT, **key)
    assert run.state in (RunState.QUEUED, RunState.RUNNING, RunState.PROMOTED), run.error
    return run.state is RunState.PROMOTED and in_label_studio == len(waiting)


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again; a test that waits for other processes has nothing to wait on."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.2)):
        if condition():
            return
        pause.wait(0.2)
    pytest.fail(f"not within {PATIENCE_S:g} s")
