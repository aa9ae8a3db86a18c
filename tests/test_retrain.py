"""A run from snapshot to switch, with a stand-in for the training process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import SELECT, SayingGenerator, both_stores
from sqlalchemy import select

import backend.retrain
from backend.retrain import Retrain, due
from backend.service import Service
from backend.snapshot import snapshot
from illume_plugin.errors import ConflictError, RunError
from illume_plugin.examples import PairSource
from illume_plugin.registry import Registry
from illume_plugin.store import candidates, events, projects, runs
from illume_plugin.store.tables import training_sets
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    RESULT_FILE,
    RunResult,
    read_spec,
    write_json,
)
from illume_plugin.types import Candidate, CandidateSet, EvaluationReport, Metric, Run, RunState

pytestmark = both_stores
TASKS = 30


def submitted(task_id: int, ticks: list[str], annotation_id: int | None = None) -> dict[str, Any]:
    texts = [f"text {k} of {task_id}" for k in range(1, 4)]
    meta = {"illume": {"model_version": "v0000", "texts": texts}}
    result = [
        {"from_name": "cand", "type": "textarea", "value": {"text": texts}, "meta": meta},
        {"from_name": "fits", "type": "choices", "value": {"choices": ticks}},
    ]
    data = {"image": f"/data/upload/2/{task_id}.png", "question": f"q{task_id}", "answer": "a"}
    annotation = {
        "id": annotation_id or 100 + task_id,
        "task": task_id,
        "updated_at": "2026-11-22T00:00:00Z",
        "result": result,
        "was_cancelled": False,
        "completed_by": 1,
    }
    task = {"id": task_id, "data": data}
    return {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": {"id": 2}}


@pytest.fixture
def labelled(service: Service, connected: int) -> Service:
    """Project 2 with 30 submitted tasks, two candidates of three ticked on each."""
    for task_id in range(1, TASKS + 1):
        service.receive(submitted(task_id, ["c1", "c3"]))
    service.apply_events()
    return service


def report(version: str, training_set: str, accuracy: float, n: int = 40) -> EvaluationReport:
    right = round(accuracy * n)
    outcomes = tuple([1.0] * right + [0.0] * (n - right))
    metric = Metric(value=accuracy, low=accuracy - 0.1, high=accuracy + 0.1, n=n)
    told = dict.fromkeys(["answer_accuracy", "preference_accuracy"], (metric, outcomes))
    return EvaluationReport(
        version,
        training_set,
        {name: metric for name, (metric, _) in told.items()},
        {name: outcomes for name, (_, outcomes) in told.items()},
    )


class StandInChild:
    """Ends at once with a result: the challenger is as good as `challenger` says."""

    challenger = 0.9
    started = 0
    during: Callable[[], None] = staticmethod(lambda: None)
    error: RunError | None = None

    def __init__(
        self, folder: Path, *, threads: int = 0, processes: int = 1, lock: int | None = None
    ) -> None:
        self.folder = folder
        self.lock = lock
        self.left = 2

    def __enter__(self) -> StandInChild:
        type(self).started += 1
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def running(self) -> bool:
        self.left -= 1
        return self.left > 0

    def wait(self, seconds: float) -> None:
        type(self).during()

    def progress(self) -> dict[str, Any]:
        return {"stage": "training", "step": 1, "steps": 2}

    def result(self) -> RunResult:
        if self.error:
            raise self.error
        spec = read_spec(self.folder)
        adapter = self.folder / ADAPTER_FOLDER
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(b"weights")
        (adapter / "adapter_config.json").write_text("{}")
        content = spec.training_set.content_hash
        result = RunResult(
            active=report(spec.parent_version, content, 0.9),
            challenger=report("challenger", content, self.challenger),
            seconds=1.0,
            rows=len(spec.training_set.rows),
            steps=2,
            base_model_hash="abc",
            versions={},
        )
        write_json(self.folder / RESULT_FILE, asdict(result))
        return result


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[StandInChild]:
    class Fresh(StandInChild):
        pass

    monkeypatch.setattr(backend.retrain, "TrainingChild", Fresh)
    return Fresh


def run_now(service: Service) -> Run:
    service.request_training(2, trigger="test")
    ended = Retrain(service, owner="worker").claim_and_run()
    assert ended is not None
    return ended


def active(service: Service) -> str:
    with service.store.read() as conn:
        return projects.get(conn, 2).active_version


def test_a_good_adapter_is_published_and_serves(
    labelled: Service, child: type[StandInChild], generator: SayingGenerator
) -> None:
    run = run_now(labelled)
    assert run.state is RunState.PROMOTED, run.error
    assert (run.parent, run.version) == ("v0000", "v0001")
    assert run.report["reasons"]
    assert active(labelled) == "v0001"
    assert labelled.setup(2, SELECT) == "v0001"
    assert generator.adapters == {"p2-v0001"}, "it was loaded before it was switched to"
    meta = labelled.registry.verify(2, "v0001")
    assert meta.training_set == run.training_set
    assert meta.config["run_id"] == run.run_id
    assert not list((labelled.settings.data_dir / "runs").iterdir())


def test_the_next_run_continues_from_the_active_adapter(labelled: Service, child: type[StandInChild]) -> None:
    run_now(labelled)
    second = run_now(labelled)
    assert (second.parent, second.version) == ("v0001", "v0002")


def test_a_worse_adapter_is_kept_but_does_not_serve(labelled: Service, child: type[StandInChild]) -> None:
    child.challenger = 0.2
    run = run_now(labelled)
    assert run.state is RunState.HELD
    assert run.version == "v0001"
    assert active(labelled) == "v0000"
    assert any("answer" in reason for reason in run.report["reasons"])


def test_a_failed_run_says_why_and_changes_nothing(labelled: Service, child: type[StandInChild]) -> None:
    child.error = RunError("The loss is not finite.", why="Record 7.", todo="Look at it.")
    run = run_now(labelled)
    assert run.state is RunState.FAILED
    assert run.error == "The loss is not finite. Record 7. Look at it."
    assert active(labelled) == "v0000"
    assert labelled.registry.versions(2) == []


def test_a_bug_ends_the_run_and_is_told(
    labelled: Service, child: type[StandInChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of our own making")

    monkeypatch.setattr(backend.retrain, "decide", broken)
    run = run_now(labelled)
    assert run.state is RunState.FAILED
    assert "of our own making" in (run.error or "")


def test_nothing_ticked_is_refused_with_the_reason(service: Service, connected: int) -> None:
    service.receive(submitted(1, ["none"]))
    run = run_now(service)
    assert run.state is RunState.FAILED
    assert "0 accepted" in (run.error or "")


def test_cancelling_stops_the_child(labelled: Service, child: type[StandInChild]) -> None:
    def cancel() -> None:
        with labelled.store.write() as conn:
            live = runs.live_run(conn, 2)
            assert live is not None
            if not runs.cancel_requested(conn, live.run_id):
                runs.request_cancel(conn, live.run_id, now=labelled.clock())

    child.during = staticmethod(cancel)
    run = run_now(labelled)
    assert run.state is RunState.CANCELLED
    assert active(labelled) == "v0000"


@pytest.mark.parametrize("died", ["after the child", "after publishing"])
def test_a_run_whose_worker_died_is_finished_by_another_without_a_second_adapter(
    labelled: Service, child: type[StandInChild], monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    class Died(BaseException):
        """As if kill -9: nothing of ours handles it."""

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        if died == "after the child":
            patch.setattr(backend.retrain, "decide", die)
        else:
            patch.setattr(Retrain, "_switch", die)
        with pytest.raises(Died):
            run_now(labelled)
    assert active(labelled) == "v0000"
    later = labelled.clock() + runs.LEASE_S + 1
    labelled.clock = lambda: later
    run = Retrain(labelled, owner="another worker").claim_and_run()
    assert run is not None
    assert run.state is RunState.PROMOTED, run.error
    assert [meta.version for meta in labelled.registry.versions(2)] == ["v0001"]
    assert child.started == 1, "what was trained is not trained again"


def test_a_worker_that_is_stopped_leaves_its_run_to_the_next_one(
    labelled: Service, child: type[StandInChild]
) -> None:
    labelled.request_training(2, trigger="test")
    stopped = Retrain(labelled, owner="stopped")

    def stop() -> None:
        stopped.stopping = True

    child.during = staticmethod(stop)
    run = stopped.claim_and_run()
    assert run is not None
    assert run.state is RunState.QUEUED
    child.during = staticmethod(lambda: None)
    again = Retrain(labelled, owner="next").claim_and_run()
    assert again is not None
    assert (again.run_id, again.state) == (run.run_id, RunState.PROMOTED)


def test_a_run_that_went_to_another_worker_does_not_count(
    labelled: Service, child: type[StandInChild]
) -> None:
    def steal() -> None:
        with labelled.store.write() as conn:
            runs.claim(conn, owner="thief", now=labelled.clock() + runs.LEASE_S + 1)

    child.during = staticmethod(steal)
    run = run_now(labelled)
    assert run.state is RunState.RUNNING
    assert active(labelled) == "v0000"


def test_tasks_whose_picture_is_gone_are_left_out(
    labelled: Service, child: type[StandInChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    body = submitted(TASKS + 1, ["c1"])
    body["task"]["data"]["image"] = "/missing.png"
    labelled.receive(body)
    write_spec = backend.retrain.write_spec
    monkeypatch.setattr(
        backend.retrain, "write_spec", lambda folder, spec: (seen.append(spec), write_spec(folder, spec))
    )
    assert run_now(labelled).state is RunState.PROMOTED
    used = {row.task_id for row in (*seen[0].training_set.rows, *seen[0].training_set.held_out)}
    assert used == set(range(1, TASKS + 1))


def test_a_run_is_due_after_enough_new_preferences(service: Service, connected: int) -> None:
    service.settings = service.settings.model_copy(update={"train_after": 6})
    now = [1000.0]
    service.clock = lambda: now[0]

    def judge(task_id: int) -> None:
        now[0] += 1
        service.receive(submitted(task_id, ["c1"]))
        service.apply_events()

    judge(1)
    assert not due(service, 2), "3 of 6"
    judge(2)
    assert due(service, 2), "6 of 6"
    run, _ = service.request_training(2, trigger="threshold")
    assert not due(service, 2), "a run is live"
    with service.store.write() as conn:
        runs.request_cancel(conn, run.run_id, now=now[0])
    assert not due(service, 2), "they were counted for that run"
    judge(3)
    judge(4)
    assert due(service, 2)


def test_held_out_tasks_are_not_learnt_from(labelled: Service) -> None:
    found = snapshot(labelled, 2)
    assert found.held_out
    assert {row.task_id for row in found.rows}.isdisjoint(task.task_id for task in found.held_out)


def test_a_snapshot_has_records_for_the_objectives_that_are_on(labelled: Service) -> None:
    """Of three candidates the first and the last fit: two pairs for each task that trains."""
    found = snapshot(labelled, 2, objectives=ObjectiveSettings(dpo=1))
    training = {row.task_id for row in found.rows}
    sides = {(pair.chosen, pair.rejected) for pair in found.pairs if pair.task_id == min(training)}
    assert sides == {(f"text {k} of {min(training)}", f"text 2 of {min(training)}") for k in (1, 3)}
    assert {pair.task_id for pair in found.pairs} == training
    assert len(found.feedback) == 3 * len(training)
    assert not found.labels
    alone = snapshot(labelled, 2, objectives=ObjectiveSettings(dress=0, dpo=0, kto=1))
    assert not alone.pairs
    assert not alone.feedback
    assert len(alone.labels) == 3 * len(training)


def test_what_nobody_judged_makes_a_pair_while_the_ranks_agree_with_people(labelled: Service) -> None:
    """The gate looks at 20 judged tasks at least, and at each task's newest candidates."""
    data = {100 + n: submitted(100 + n, [])["task"]["data"] for n in range(20)}
    with labelled.store.write() as conn:
        projects.put_tasks(conn, 2, data.items())
        for task_id in [*range(1, TASKS + 1), *data]:
            for version, order in (("v0001", (1, 3, 2)), ("v0000", (2, 3, 1))):
                ranked = tuple(
                    Candidate(f"text {k} of {task_id}", 0.7, 1, rank=1 - place / 2)
                    for place, k in enumerate(order)
                )
                made = CandidateSet(2, task_id, version, "plan", 1, 0.5, ranked)
                candidates.put(conn, made, now=float(version == "v0001"))
    training = snapshot(labelled, 2, objectives=ObjectiveSettings(dpo=1))
    automatic = {pair.task_id: pair for pair in training.pairs if pair.source is PairSource.CSR}
    assert automatic.keys() == set(data) - {task.task_id for task in training.held_out}
    assert all((p.chosen, p.rejected) == (f"text 1 of {n}", f"text 2 of {n}") for n, p in automatic.items())


def test_a_run_of_ticks_on_one_row_alone_is_refused(
    service: Service, connected: int, child: type[StandInChild]
) -> None:
    for task_id in range(1, TASKS + 1):
        service.receive(submitted(task_id, ["c1"]))
    run = run_now(service)
    assert run.state is RunState.FAILED
    assert "ticked row 1 and no other" in (run.error or "")
    assert child.started == 0


def test_the_training_set_is_kept_under_its_hash(labelled: Service, child: type[StandInChild]) -> None:
    run = run_now(labelled)
    with labelled.store.read() as conn:
        query = select(training_sets.c.content).filter_by(content_hash=run.training_set)
        kept = conn.execute(query).scalar_one()
        assert events.count(conn, 2) == TASKS
    assert len(kept["rows"]) == run.report["rows"]


def test_registry_and_store_agree_on_what_serves(labelled: Service, child: type[StandInChild]) -> None:
    run_now(labelled)
    run_now(labelled)
    assert labelled.rollback(2, reason="test") == ("v0002", "v0001")
    assert active(labelled) == "v0001"
    assert labelled.rollback(2, reason="test") == ("v0001", "v0000")
    assert isinstance(labelled.registry, Registry)
    assert labelled.versions() == ["v0000", "v0001", "v0002"]


def interrupted(service: Service, child: type[StandInChild]) -> Run:
    """A run that was cancelled after its child had written a checkpoint."""
    folders = service.settings.data_dir / "runs"

    def checkpoint_then_cancel() -> None:
        (folder,) = folders.iterdir()
        (folder / CHECKPOINTS_FOLDER / "step-00000001").mkdir(parents=True, exist_ok=True)
        with service.store.write() as conn:
            live = runs.live_run(conn, 2)
            assert live is not None
            if not runs.cancel_requested(conn, live.run_id):
                runs.request_cancel(conn, live.run_id, now=service.clock())

    child.during = staticmethod(checkpoint_then_cancel)
    run = run_now(service)
    child.during = staticmethod(lambda: None)
    assert run.state is RunState.CANCELLED
    return run


def resumed(service: Service, run: Run, config: TrainConfig | None = None) -> Run:
    with service.store.write() as conn:
        assert runs.resume(conn, run.run_id).state is RunState.QUEUED
    ended = Retrain(service, owner="later", config=config).claim_and_run()
    assert ended is not None
    assert ended.run_id == run.run_id
    return ended


def test_a_cancelled_run_is_resumed_as_it_was_begun(labelled: Service, child: type[StandInChild]) -> None:
    run = interrupted(labelled, child)
    assert run.error == f"cancelled. It can go on: illume train --resume {run.run_id}"
    labelled.receive(submitted(TASKS + 1, ["c1"]))  # what is said meanwhile is for the next run
    ended = resumed(labelled, run, TrainConfig(rank=3))
    assert ended.state is RunState.PROMOTED, ended.error
    assert ended.training_set == run.training_set
    meta = labelled.registry.verify(2, ended.version or "")
    assert (meta.training_set, meta.config["rank"]) == (run.training_set, TrainConfig().rank)
    assert not list((labelled.settings.data_dir / "runs").iterdir())


@pytest.mark.parametrize("change", ["a picture is gone", "no checkpoint", "the spec is damaged"])
def test_a_run_that_cannot_go_on_begins_anew(
    labelled: Service, child: type[StandInChild], change: str
) -> None:
    run = interrupted(labelled, child)
    (folder,) = (labelled.settings.data_dir / "runs").iterdir()
    match change:
        case "a picture is gone":
            Path(next(iter(read_spec(folder).images.values()))).unlink()
        case "no checkpoint":
            shutil.rmtree(folder / CHECKPOINTS_FOLDER)
        case "the spec is damaged":
            (folder / "spec.json").write_text("{")
    ended = resumed(labelled, run, TrainConfig(rank=3))
    assert ended.state is RunState.PROMOTED, ended.error
    assert labelled.registry.verify(2, ended.version or "").config["rank"] == 3


def test_a_resumed_run_is_compared_with_what_serves_by_then(
    labelled: Service, child: type[StandInChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_now(labelled)
    run = interrupted(labelled, child)
    labelled.rollback(2, reason="test")
    seen: list[Any] = []
    write_spec = backend.retrain.write_spec
    monkeypatch.setattr(
        backend.retrain, "write_spec", lambda folder, spec: (seen.append(spec), write_spec(folder, spec))
    )
    resumed(labelled, run)
    assert (seen[0].parent_version, seen[0].active_version, seen[0].active_adapter) == (
        "v0001",
        "v0000",
        None,
    )


def test_what_can_be_resumed_goes_when_a_later_run_has_ended(
    labelled: Service, child: type[StandInChild]
) -> None:
    interrupted(labelled, child)
    assert len(list((labelled.settings.data_dir / "runs").iterdir())) == 1
    run_now(labelled)
    assert not list((labelled.settings.data_dir / "runs").iterdir())


def test_only_a_run_that_failed_or_was_cancelled_is_resumed(
    labelled: Service, child: type[StandInChild]
) -> None:
    run = interrupted(labelled, child)
    done = run_now(labelled)
    with labelled.store.write() as conn, pytest.raises(ConflictError, match="promoted"):
        runs.resume(conn, done.run_id)
    labelled.request_training(2, trigger="test")
    with labelled.store.write() as conn, pytest.raises(ConflictError, match=r"queued.*illume cancel"):
        runs.resume(conn, run.run_id)
