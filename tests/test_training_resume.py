"""A run that is killed or stopped, and started again, ends as if nothing had happened: the real process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    PairSource,
    PreferencePair,
)
from illume_plugin.training import RunSpec, TrainConfig, read_result, write_spec
from illume_plugin.training.child import STOPPED
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.spec import ADAPTER_FOLDER, CHECKPOINTS_FOLDER, ERROR_FILE, RESULT_FILE
from illume_plugin.types import JudgedTask, TrainingRow, TrainingSet

#: Each test starts the process several times, and each time it loads its libraries anew.
pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

#: Two epochs of three steps, with dropout, so that random numbers must go on where they were.
CONFIG = TrainConfig(
    rank=2, dropout=0.2, epochs=2, batch_size=4, micro_batch_size=2, checkpoint_steps=1, learning_rate=3e-3
)
STEPS = 6
CHILD = ("-m", "illume_plugin.training.child")
#: The same process, but every row is computed by itself.
PLAIN_CHILD = (
    "-c",
    "import sys\n"
    "from illume_plugin.training.equality import Choice\n"
    "from illume_plugin.training.ways import Ways\n"
    "Ways.choose = lambda self, *_: Choice(self.plain, ())\n"
    "from illume_plugin.training.child import main\n"
    "sys.exit(main(sys.argv[1:]))",
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    """Twelve rows on six pictures, so that rows share them; one held-out task."""
    folder = tmp_path_factory.mktemp("pictures")
    tasks = make_tasks(7, seed=5)
    images = {f"/{index}.png": folder / f"{index}.png" for index in range(7)}
    for task, path in zip(tasks, images.values(), strict=True):
        draw(task.scene, 72).save(path)
    rows = [
        TrainingRow(i, f"/{i}.png", tasks[i].question_text, tasks[i].answer, text)
        for i in range(6)
        for text in ("because i see it .", "there is one .")
    ]
    last = tasks[6]
    held = JudgedTask(6, "/6.png", last.question_text, last.answer, ("because i see it .",), ("no .",))
    return RunSpec(
        base_model=str(base_model_path()),
        parent_adapter=None,
        parent_version="v0000",
        training_set=TrainingSet(1, tuple(rows), (held,), "hash"),
        images={name: str(path) for name, path in images.items()},
        config=CONFIG,
        device="cpu",
    )


def started(run_dir: Path, how: tuple[str, ...] = CHILD) -> subprocess.Popen[str]:
    with (run_dir / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *how, str(run_dir)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def signalled(run_dir: Path, how: tuple[str, ...], step: int, number: int) -> int:
    """Send the child a signal as soon as it tells of `step`; returns its exit code."""
    process = started(run_dir, how)
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)
        if told["stage"] == "training" and told["step"] >= step:
            process.send_signal(number)
            break
    with process.stdout:
        process.stdout.read()
    return process.wait()


def finished(run_dir: Path, how: tuple[str, ...] = CHILD) -> list[dict[str, Any]]:
    """What the child tells until it has done."""
    process = started(run_dir, how)
    told, _ = process.communicate()
    assert process.returncode == 0, (run_dir / "log").read_text()[-3000:]
    return [json.loads(line) for line in told.splitlines()]


def weights(run_dir: Path) -> bytes:
    return (run_dir / ADAPTER_FOLDER / "adapter_model.safetensors").read_bytes()


def with_every_objective(spec: RunSpec) -> RunSpec:
    """The same rows with pairs, single ticks, feedback and contrast over them."""
    rows = spec.training_set.rows
    told = [(row.task_id, row.image, row.question, row.answer) for row in rows[::2]]
    good, poor = (row.rationale or "" for row in rows[:2])
    records: dict[str, Any] = {
        "pairs": tuple(PreferencePair(*each, good, poor, PairSource.FITS) for each in told[:3]),
        "labels": tuple(
            LabelledRationale(*each, good, desirable=index % 2 == 0) for index, each in enumerate(told)
        ),
        "feedback": tuple(
            FeedbackExample(*each, poor, fits=False, condition=Condition(1, None, None, "no ."))
            for each in told[3:]
        ),
        "contrast": tuple(ContrastExample(*each, good, (good,), (poor, "no .")) for each in told[:2]),
    }
    objectives = ObjectiveSettings(dpo=1.0, kto=0.5, dress=1.0, contrast=0.1)
    return replace(
        spec,
        training_set=replace(spec.training_set, **records),
        config=replace(spec.config, objectives=objectives),
    )


@pytest.mark.parametrize(
    ("how", "change"),
    [(CHILD, lambda spec: spec), (PLAIN_CHILD, lambda spec: spec), (CHILD, with_every_objective)],
    ids=["shared prefix", "plain rows", "every objective"],
)
def test_killed_at_random_it_ends_with_the_same_weights(
    spec: RunSpec, tmp_path: Path, how: tuple[str, ...], change: Callable[[RunSpec], RunSpec]
) -> None:
    spec = change(spec)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_spec(whole, spec)
    write_spec(broken, spec)
    unbroken = finished(whole, how)
    count = unbroken[-1]["steps"]

    at = random.Random(os.getpid()).randint(1, count - 1)
    assert signalled(broken, how, at, signal.SIGKILL) == -signal.SIGKILL
    assert not (broken / RESULT_FILE).exists()
    told = finished(broken, how)

    steps = [each["step"] for each in told if each["stage"] == "training"]
    # it told of a step before its checkpoint was complete, so that one may be made again
    assert steps == list(range(steps[0], count + 1))
    assert steps[0] in (at, at + 1), f"killed at {at}"
    losses = {each["step"]: each["loss"] for each in unbroken if each["stage"] == "training"}
    assert [each["loss"] for each in told if each["stage"] == "training"] == [losses[each] for each in steps]
    assert weights(broken) == weights(whole)
    assert read_result(broken).challenger == read_result(whole).challenger
    assert read_result(broken).steps == count
    if steps[0] > 1:
        assert read_result(broken).notes == (
            f"The run goes on after step {steps[0] - 1}, from its checkpoint.",
        )


def test_asked_to_stop_it_leaves_a_checkpoint_and_goes_on_from_there(spec: RunSpec, tmp_path: Path) -> None:
    """No checkpoint is due before the end, so the one that it goes on from was written when it was asked."""
    rare = replace(spec, config=replace(CONFIG, epochs=1, max_steps=STEPS, batch_size=2, checkpoint_steps=99))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_spec(whole, rare)
    write_spec(broken, rare)
    finished(whole)

    assert signalled(broken, CHILD, 2, signal.SIGTERM) == STOPPED
    assert not (broken / ERROR_FILE).exists()
    (checkpoint,) = (broken / CHECKPOINTS_FOLDER).iterdir()
    assert checkpoint.name >= "step-00000002"
    assert not [path for path in checkpoint.iterdir() if path.suffix not in (".safetensors", ".json")]
    finished(broken)
    assert weights(broken) == weights(whole)


def test_a_run_that_died_after_its_last_step_only_evaluates(spec: RunSpec, tmp_path: Path) -> None:
    write_spec(tmp_path, spec)
    finished(tmp_path)
    before = weights(tmp_path)
    (tmp_path / RESULT_FILE).unlink()
    (tmp_path / ADAPTER_FOLDER / "adapter_model.safetensors").unlink()
    told = finished(tmp_path)
    assert "training" not in {each["stage"] for each in told}
    assert weights(tmp_path) == before
    assert read_result(tmp_path).steps == STEPS


def test_two_processes_through_the_same_door(spec: RunSpec, tmp_path: Path) -> None:
    """torchrun on one machine: the same losses as one process, told once; killed, they go on as well."""
    one, two = tmp_path / "one", tmp_path / "two"
    still = replace(spec, config=replace(CONFIG, dropout=0.0))  # each process draws dropout of its own
    write_spec(one, still)
    write_spec(two, still)
    alone = finished(one)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *CHILD)
    together = finished(two, torchrun)
    losses = [[each["loss"] for each in told if each["stage"] == "training"] for told in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert [each["stage"] for each in together] == [each["stage"] for each in alone]

    before = weights(two)
    for path in (two / RESULT_FILE, two / CHECKPOINTS_FOLDER / f"step-{STEPS:08d}" / "checkpoint.json"):
        path.unlink()  # as if killed in the last step
    again = finished(two, torchrun)
    assert [each["step"] for each in again if each["stage"] == "training"] == [STEPS]
    assert weights(two) == before
    files = {path.name for path in (two / CHECKPOINTS_FOLDER / f"step-{STEPS:08d}").iterdir()}
    assert {"random-0.safetensors", "random-1.safetensors"} <= files


def test_the_best_epoch_is_kept_across_a_kill(spec: RunSpec, tmp_path: Path) -> None:
    """Training on a text that only the unfitting rationales have, the first epoch is the best."""
    rows = tuple(replace(row, rationale="no .") for row in spec.training_set.rows[::2])
    task = spec.training_set.held_out[0]
    held = tuple(replace(task, question=f"{task.question} {number}") for number in range(24))
    config = replace(CONFIG, best_epoch=True, epochs=3, batch_size=2, divergence=0.0, learning_rate=3e-2)
    worse = replace(spec, training_set=replace(spec.training_set, rows=rows, held_out=held), config=config)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_spec(whole, worse)
    write_spec(broken, worse)
    finished(whole)
    signalled(broken, CHILD, 5, signal.SIGKILL)
    finished(broken)
    kept = [note for note in read_result(broken).notes if "is kept" in note]
    assert kept == list(read_result(whole).notes)
    assert weights(broken) == weights(whole)
    reported = read_result(whole).challenger.metrics["answer_accuracy"].n
    assert 0 < reported < len(held), "those that the epoch was chosen by are left out"
