"""A training process that is killed is started again, as long as it gets further."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_retrain import StandInChild, child, labelled, report, run_now  # noqa: F401 - fixtures among them

import backend.child
from backend.child import KilledError, TrainingChild, until_it_ends
from backend.held_run import lock_file
from backend.retrain import run_folder
from backend.service import Service
from faults import light_child
from faults.programs import TESTS
from illume_plugin.errors import RunError
from illume_plugin.store import runs
from illume_plugin.training.spec import CHECKPOINTS_FOLDER, RESULT_FILE, RunResult, RunSpec, write_spec
from illume_plugin.types import RunState, TrainingSet

RESULT = RunResult(report("v0000", "set", 0.9), report("challenger", "set", 0.9), 1.0, 2, 2, "hash", {})


def attempts(folder: Path, *outcomes: int | Exception) -> Callable[[], RunResult]:
    """Training processes in a row: each is killed after so many checkpoints, or fails; the last one ends."""
    left: Iterator[int | Exception] = iter(outcomes)

    def attempt() -> RunResult:
        outcome = next(left, None)
        if outcome is None:
            return RESULT
        if isinstance(outcome, Exception):
            raise outcome
        for step in range(1, outcome + 1):
            (folder / CHECKPOINTS_FOLDER / f"step-{step:08d}").mkdir(parents=True, exist_ok=True)
        raise KilledError("It was killed.")

    return attempt


@pytest.mark.parametrize(
    ("outcomes", "ends_well"),
    [
        ((), True),
        ((0,), True),  # killed before its first checkpoint, once
        ((0, 0), False),
        ((0, 1, 2, 3, 4), True),
        ((1, 1), False),
        ((3, 4, 4), False),
    ],
)
def test_it_is_started_again_while_it_gets_further(
    outcomes: tuple[int, ...], ends_well: bool, tmp_path: Path
) -> None:
    attempt = attempts(tmp_path, *outcomes)
    if ends_well:
        assert until_it_ends(tmp_path, attempt) is RESULT
    else:
        with pytest.raises(KilledError):
            until_it_ends(tmp_path, attempt)


def test_what_failed_by_itself_is_not_started_again(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="The loss became nan"):
        until_it_ends(tmp_path, attempts(tmp_path, RunError("The loss became nan.")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run for the light training process."""
    monkeypatch.setattr(backend.child, "MODULE", light_child.__name__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    spec = RunSpec("none", None, "v0000", TrainingSet(1, (), (), "hash"), {})
    write_spec(tmp_path / "run", spec)
    return tmp_path / "run"


def test_a_real_process_is_killed_and_goes_on_where_it_was(folder: Path) -> None:
    killed_after: list[str] = []

    def attempt() -> RunResult:
        with TrainingChild(folder) as process:
            while process.running():
                made = sorted(path.name for path in folder.glob(f"{CHECKPOINTS_FOLDER}/step-*"))
                if len(killed_after) < 2 and made and made[-1] not in killed_after:
                    killed_after.append(made[-1])
                    os.kill(process._process.pid, signal.SIGKILL)
                process.wait(0.01)
        return process.result()

    assert until_it_ends(folder, attempt).steps == light_child.STEPS
    assert len(killed_after) == 2
    weights = (folder / "adapter" / "adapter_model.safetensors").read_text()
    assert weights == '{"training_set": "hash", "steps": [1, 2, 3, 4, 5, 6]}'


def test_killed_after_its_result_it_has_ended_well(folder: Path) -> None:
    def attempt() -> RunResult:
        with TrainingChild(folder) as process:
            while process.running():
                process.wait(0.05)
            process._process.returncode = -signal.SIGKILL
        assert (folder / RESULT_FILE).is_file()
        return process.result()

    assert until_it_ends(folder, attempt).steps == light_child.STEPS


def test_what_dead_workers_left_goes_with_the_next_run(
    labelled: Service,  # noqa: F811 - a fixture
    child: type[StandInChild],  # noqa: F811 - a fixture
) -> None:
    """A worker died when its run was over and before it had tidied up, another one while it published."""
    first = run_now(labelled)
    assert first.state is RunState.PROMOTED
    left = [
        run_folder(labelled.settings, first.run_id),
        labelled.registry.store.root / "project-2" / ".staging-1",
    ]
    for path in left:
        path.mkdir(parents=True)
        os.utime(path, (1.0, 1.0))
    lock = lock_file(labelled.settings, first.run_id)
    lock.touch()
    second = run_now(labelled)
    assert not any(path.exists() for path in [*left, lock])
    with labelled.store.read() as conn:
        assert runs.get(conn, second.run_id).state is RunState.PROMOTED
