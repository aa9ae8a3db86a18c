"""The background loop: sampling ahead, pushing, and surviving what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from conftest import SELECT, SayingGenerator, both_stores, task
from test_retrain import submitted

from backend.presample import push_ahead, sample_ahead, waiting
from backend.service import Service
from backend.worker import Worker
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio.pages import ProjectNow
from illume_plugin.registry import ADAPTER_FILES
from illume_plugin.store import candidates, projects, runs, versions
from illume_plugin.types import Project

pytestmark = both_stores


class TakingLabelStudio:
    """Takes predictions; refuses while it is told to."""

    def __init__(self) -> None:
        self.pushed: list[Mapping[str, Any]] = []
        self.refuse = False

    def project_now(self, project_id: int) -> ProjectNow:
        raise LabelStudioError("Label Studio is down.")

    def push_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        if self.refuse:
            raise LabelStudioError("Label Studio is down.")
        self.pushed += predictions
        return len(predictions)


@pytest.fixture
def label_studio(service: Service, monkeypatch: pytest.MonkeyPatch) -> TakingLabelStudio:
    taking = TakingLabelStudio()
    monkeypatch.setattr(service, "label_studio", taking)
    return taking


@pytest.fixture
def project(service: Service, connected: int) -> Project:
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(i, task(i)["data"]) for i in range(1, 21)])
        return projects.get(conn, 2)


def publish_version(service: Service, folder: Path) -> None:
    """The next version of project 2."""
    for name in ADAPTER_FILES:
        (folder / "staged").mkdir(exist_ok=True)
        (folder / "staged" / name).write_text("{}")
    service.registry.publish(
        2,
        folder / "staged",
        parent="v0000",
        base_model="embedded",
        base_model_hash="",
        training_set="set",
        config={},
        seed=0,
        metrics={},
        versions={},
    )


def sample_all(service: Service, project: Project) -> None:
    while sample_ahead(service, project):
        pass


def test_every_unjudged_task_is_sampled_once_and_pushed_in_bulk(
    service: Service, project: Project, label_studio: TakingLabelStudio, generator: SayingGenerator
) -> None:
    service.receive(submitted(3, ["c1"]))
    service.apply_events()
    sample_all(service, project)
    assert sorted(chain.from_iterable(generator.calls)) == [i for i in range(1, 21) if i != 3]
    assert push_ahead(service, project, everything=False) == 0, "a bulk push is dear: wait for more"
    assert push_ahead(service, project, everything=True) == 19
    assert push_ahead(service, project, everything=True) == 0
    assert {one["model_version"] for one in label_studio.pushed} == {"v0000"}
    assert all(0 <= one["score"] <= 1 for one in label_studio.pushed)


def test_a_new_version_means_fresh_candidates(
    service: Service, project: Project, label_studio: TakingLabelStudio, tmp_path: Path
) -> None:
    sample_all(service, project)
    publish_version(service, tmp_path)
    with service.store.write() as conn:
        versions.switch(conn, 2, "v0001", reason="test", now=1.0)
        newer = projects.get(conn, 2)
    assert len(waiting(service, newer)) == 20
    sample_all(service, newer)
    push_ahead(service, newer, everything=True)
    assert {one["model_version"] for one in label_studio.pushed} == {"v0001"}


def test_what_label_studio_refused_is_pushed_later(
    service: Service, project: Project, label_studio: TakingLabelStudio
) -> None:
    sample_all(service, project)
    label_studio.refuse = True
    with pytest.raises(LabelStudioError):
        push_ahead(service, project, everything=True)
    label_studio.refuse = False
    assert push_ahead(service, project, everything=True) == 20


def test_a_task_that_was_deleted_before_its_push_holds_up_nobody(
    service: Service, project: Project, label_studio: TakingLabelStudio
) -> None:
    """Label Studio refuses a prediction of a task that it does not have, and those that come with it."""
    sample_all(service, project)
    service.receive({"action": "TASKS_DELETED", "tasks": [{"id": 7}], "project": {"id": 2}})
    service.apply_events()
    assert push_ahead(service, project, everything=True) == 19
    assert 7 not in {one["task"] for one in label_studio.pushed}
    assert push_ahead(service, project, everything=True) == 0


def test_a_task_that_cannot_be_sampled_waits_and_does_not_block_the_others(
    service: Service, project: Project, generator: SayingGenerator
) -> None:
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(5, task(5, image="/missing.png")["data"]), (6, {"image": "x"})])
    sample_all(service, project)
    assert waiting(service, project) == {}
    with service.store.read() as conn:
        problems = candidates.problems(conn, 2, version="v0000")
    assert set(problems) == {5, 6}
    now = service.clock()
    service.clock = lambda: now + 31
    assert list(waiting(service, project)) == [5, 6], "tried again after half a minute"


def run_until(worker: Worker, done: threading.Event) -> None:
    thread = threading.Thread(target=worker.run, kwargs={"handle_signals": False})
    thread.start()
    assert done.wait(60)
    worker.shut_down()
    thread.join(60)
    assert not thread.is_alive()


def test_the_worker_does_it_all_and_outlives_errors(
    service: Service, project: Project, label_studio: TakingLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.worker.AFTER_ERROR_S", 0.01)
    label_studio.refuse = True
    worker, done, failures = Worker(service), threading.Event(), []
    push = label_studio.push_predictions

    def refuse_twice(project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        label_studio.refuse = len(failures) < 2
        failures.append(1)
        stored = push(project_id, predictions)
        done.set()
        return stored

    monkeypatch.setattr(label_studio, "push_predictions", refuse_twice)
    run_until(worker, done)
    assert len(label_studio.pushed) == 20
    assert len(failures) == 3


def test_a_due_run_is_started_and_its_failure_told(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.settings = service.settings.model_copy(update={"train_after": 3})
    worker, done = Worker(service), threading.Event()
    carry_out = worker.retrain.claim_and_run

    def claim_and_run() -> Any:
        run = carry_out()
        if run is not None:
            done.set()
        return run

    monkeypatch.setattr(worker.retrain, "claim_and_run", claim_and_run)
    service.receive(submitted(1, ["none"]))
    run_until(worker, done)
    with service.store.read() as conn:
        (run,) = runs.recent(conn)
    assert run.trigger == "threshold"
    assert "accepted" in (run.error or "")


def test_two_workers_share_a_project_by_its_lease(service: Service, project: Project) -> None:
    one, two = Worker(service), Worker(service)
    assert one._ours(project)
    assert not two._ours(project)
    one._give_back()
    assert two._ours(project)


def test_a_project_that_does_not_fit_keeps_up_no_other_one(
    service: Service, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody took our tags out of project 2; project 3 goes on."""
    with service.store.write() as conn:
        projects.put(conn, 2, title="broken", label_config="<View/>", now=2.0)
        projects.put(conn, 3, title="whole", label_config=SELECT, now=2.0)
        projects.put_tasks(conn, 3, [(7, task(7)["data"])])
        whole = projects.get(conn, 3)
    assert Worker(service)._round()
    assert waiting(service, whole) == {}
    assert "project 2: The labelling configuration does not fit" in caplog.text
