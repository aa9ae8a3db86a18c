"""The run's own process, started as the retrain hook starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.errors import RunError
from illume_plugin.training import RunSpec, TrainConfig, read_result, write_spec
from illume_plugin.training.spec import ADAPTER_FOLDER, ERROR_FILE, RESULT_FILE, SPEC_FILE
from illume_plugin.types import JudgedTask, TrainingRow, TrainingSet

pytestmark = pytest.mark.torch


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """Two steps on four rows, two held-out tasks."""
    tasks = make_tasks(6, seed=8)
    names = [f"/{index}.png" for index in range(6)]
    for name, task in zip(names, tasks, strict=True):
        draw(task.scene, 144).save(tmp_path / name[1:])
    rows = [
        TrainingRow(i, names[i], tasks[i].question_text, tasks[i].answer, "because i see it .")
        for i in range(3)
    ]
    rows.append(TrainingRow(3, names[3], tasks[3].question_text, tasks[3].answer))
    held = [
        JudgedTask(i, names[i], tasks[i].question_text, tasks[i].answer, ("because i see it .",), ("no",))
        for i in (4, 5)
    ]
    return RunSpec(
        base_model=str(base_model_path()),
        parent_adapter=None,
        parent_version="v0000",
        training_set=TrainingSet(1, tuple(rows), tuple(held), "hash"),
        images={name: str(tmp_path / name[1:]) for name in names},
        config=TrainConfig(rank=4, max_steps=2, batch_size=4, micro_batch_size=2),
        device="cpu",
    )


def child(run_dir: Path, *options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "illume_plugin.training.child", str(run_dir), *options],
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


def test_a_run_and_its_continuation(spec: RunSpec, tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    write_spec(first, spec)
    done = child(first)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["stage"] for e in events] == ["loading", *["training"] * 2, *["evaluating"] * 4, "done"]
    assert [(e["step"], e["steps"]) for e in events if e["stage"] == "training"] == [(1, 2), (2, 2)]
    assert [(e["step"], e["steps"]) for e in events if e["stage"] == "evaluating"] == [
        (k, 4) for k in range(1, 5)
    ]

    result = read_result(first)
    assert (result.rows, result.steps) == (4, 2)
    assert (result.active.version, result.challenger.version) == ("v0000", "challenger")
    assert result.challenger.metrics["fit_logprob"].value > result.active.metrics["fit_logprob"].value
    assert sorted(path.name for path in (first / ADAPTER_FOLDER).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]

    write_spec(second, replace(spec, parent_adapter=str(first / ADAPTER_FOLDER), parent_version="v0001"))
    assert child(second).returncode == 0
    again = read_result(second)
    assert again.active.version == "v0001"
    assert again.active.outcomes.keys() == result.challenger.outcomes.keys()
    for name, outcomes in again.active.outcomes.items():
        assert outcomes == pytest.approx(result.challenger.outcomes[name], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model": "/no/such/folder"}, "/no/such/folder does not exist"),
        ({"parent_adapter": "/no/adapter"}, "/no/adapter is not an adapter"),
        (
            {"config": TrainConfig(learning_rate=1e20, max_grad_norm=1e9, warmup=0.0, max_steps=9)},
            "loss became nan",
        ),
    ],
)
def test_a_run_that_fails_says_why_and_leaves_no_result(
    spec: RunSpec, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    write_spec(tmp_path / "run", replace(spec, **change))
    assert child(tmp_path / "run").returncode == 1
    assert not (tmp_path / "run" / RESULT_FILE).exists()
    with pytest.raises(RunError, match=words) as caught:
        read_result(tmp_path / "run")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", '{"base_model": 1}'])
def test_a_damaged_spec(tmp_path: Path, text: str) -> None:
    (tmp_path / SPEC_FILE).write_text(text)
    done = child(tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert SPEC_FILE in json.loads((tmp_path / ERROR_FILE).read_text())["what"]


def test_it_dies_with_its_parent(spec: RunSpec, tmp_path: Path) -> None:
    """Closed standard input is what a dead parent looks like."""
    write_spec(tmp_path / "run", replace(spec, config=TrainConfig(max_steps=10_000, epochs=10_000)))
    done = child(tmp_path / "run", "--watch-stdin", stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 1
    assert not (tmp_path / "run" / RESULT_FILE).exists()
    assert not (tmp_path / "run" / ADAPTER_FOLDER).exists()
