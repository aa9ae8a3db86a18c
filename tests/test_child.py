"""The training child as the worker runs it: watched, listened to, ended with its reason."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from backend.child import SECRETS, KilledError, TrainingChild
from illume_plugin.embedded import base_model_path
from illume_plugin.errors import RunError
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.spec import CHECKPOINTS_FOLDER, ERROR_FILE, RunSpec, read_spec, write_spec
from illume_plugin.types import TrainingRow, TrainingSet

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two rows and one step."""
    Image.new("RGB", (72, 72), (220, 40, 40)).save(tmp_path / "red.png")
    question = "what color is the object in the center ?"
    rows = (
        TrainingRow(1, "/red.png", question, "red", "because i see a red square in the center ."),
        TrainingRow(2, "/red.png", question, "red"),
    )
    spec = RunSpec(
        base_model=str(base_model_path()),
        parent_adapter=None,
        parent_version="v0000",
        training_set=TrainingSet(1, rows, (), "hash"),
        images={"/red.png": str(tmp_path / "red.png")},
        config=TrainConfig(rank=2, batch_size=2, micro_batch_size=2, max_steps=1),
    )
    write_spec(tmp_path / "run", spec)
    return tmp_path / "run"


def test_a_run_to_its_end(folder: Path) -> None:
    stages = []
    with TrainingChild(folder, threads=1) as child:
        while child.running():
            child.wait(0.05)
            stages.append(child.progress()["stage"])
    # the pipe that it watches was open to the end: a thread waiting on it must not harm its exit
    assert child.result().rows == 2
    assert "training" in stages or child.progress()["stage"] == "done"


def test_a_run_of_two_processes_to_its_end(folder: Path) -> None:
    with TrainingChild(folder, threads=1, processes=2) as child:
        started = together(child)
        while child.running():
            child.wait(0.05)
    result = child.result()
    assert (result.rows, result.steps) == (2, 1)
    assert child.progress()["stage"] == "done"
    assert len(started) == 2
    assert gone(started)


@pytest.mark.parametrize("end", ["one of them is killed", "torchrun is killed", "we leave early"])
def test_two_processes_end_together(folder: Path, end: str) -> None:
    spec = read_spec(folder)
    write_spec(folder, replace(spec, config=replace(spec.config, max_steps=100_000)))
    with TrainingChild(folder, threads=1, processes=2) as child:
        started = together(child)
        while child.progress()["stage"] != "training":
            assert child.running(), (folder / "child.log").read_text()
            child.wait(0.05)
        if end == "one of them is killed":
            started[1].kill()
        if end == "torchrun is killed":
            child._process.kill()
        while end != "we leave early" and child.running():
            child.wait(0.05)
    assert gone(started)
    with pytest.raises(KilledError):
        child.result()


def together(child: TrainingChild) -> list[psutil.Process]:
    """The processes that train, once torchrun has started them."""
    while child.running():
        found = psutil.Process(child._process.pid).children()
        if len(found) == child.processes:
            return found
        child.wait(0.05)
    raise AssertionError("torchrun ended before it had started them.")


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all of them end, within a time that only a process that hangs would take."""
    return not psutil.wait_procs(processes, timeout=60)[1]


def test_a_killed_child_is_told_by_its_signal(folder: Path) -> None:
    with TrainingChild(folder) as child:
        os.kill(child._process.pid, signal.SIGKILL)
        while child.running():
            child.wait(0.05)
    with pytest.raises(RunError, match="-9"):
        child.result()


def test_a_reason_that_the_child_gives_is_passed_on(folder: Path) -> None:
    (folder / "spec.json").write_text("{}")
    with TrainingChild(folder) as child:
        while child.running():
            child.wait(0.05)
    with pytest.raises(RunError, match="spec"):
        child.result()


def test_leaving_early_ends_it(folder: Path) -> None:
    with TrainingChild(folder) as child:
        pid = child._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_gets_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hush")
    with TrainingChild(folder) as child:
        environment = Path(f"/proc/{child._process.pid}/environ").read_bytes()
    assert b"hush" not in environment


def test_leaving_while_it_trains_leaves_a_checkpoint(folder: Path) -> None:
    """What a cancelled run, or a worker that is stopped, leaves behind."""
    spec = read_spec(folder)
    write_spec(folder, replace(spec, config=replace(spec.config, max_steps=10_000, checkpoint_steps=9_999)))
    with TrainingChild(folder, threads=1) as child:
        while child.running() and child.progress().get("step", 0) < 2:
            child.wait(0.05)
    left = {path.name.partition("-")[0] for path in (folder / CHECKPOINTS_FOLDER).iterdir()}
    assert left == {"step"}, "complete ones, and no draft"
    assert not (folder / ERROR_FILE).exists()
