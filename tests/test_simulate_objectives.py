"""Simulations with any objectives, and what a folder refuses to go on with: another gate, for instance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli import main
from backend.simulate import Options, Simulation
from backend.simulate.options import OPTIONS_FILE, freeze, frozen
from illume_plugin.errors import ConflictError
from illume_plugin.training.objectives.settings import ObjectiveSettings


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Simulation]:
    """The simulations that the command began, none of which does anything."""
    simulations: list[Simulation] = []
    monkeypatch.setattr(Simulation, "run", lambda simulation: simulations.append(simulation))
    return simulations


def wanted(folder: Path, **changed: Any) -> dict[str, Any]:
    options = Options(**changed)
    return frozen(options, options.settings(folder))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ObjectiveSettings()),
        ({"objectives": {"dpo": 0.5, "kto": 2.0}}, ObjectiveSettings(dpo=0.5, kto=2.0)),
        ({"objectives": {"illume": 0.0, "dress": 1.0}}, ObjectiveSettings(illume=0.0, dress=1.0)),
        ({"train": {"objectives": {"dpo": 1.0, "beta": 0.2}}}, ObjectiveSettings(dpo=1.0, beta=0.2)),
        (
            {"train": {"objectives": {"dpo": 1.0, "beta": 0.2}}, "objectives": {"dpo": 3.0}},
            ObjectiveSettings(dpo=3.0, beta=0.2),
        ),
    ],
)
def test_runs_train_with_the_objectives_that_were_asked_for(
    options: dict[str, Any], expected: ObjectiveSettings
) -> None:
    assert Options(**options).train_config().objectives == expected


def test_the_command_takes_every_objective(tmp_path: Path, begun: list[Simulation]) -> None:
    weights = {"illume": 0.5, "dress": 1.0, "dpo": 0.1, "kto": 2.0, "contrast": 0.1}
    asked = [word for name, weight in weights.items() for word in ("--objective", f"{name}={weight}")]
    result = CliRunner().invoke(main, ["simulate", "--out", str(tmp_path), *asked])
    assert result.exit_code == 0, result.output
    assert begun[0].options.objectives == weights
    assert begun[0].frozen()["objectives"] == weights


@pytest.mark.parametrize(
    ("asked", "words"),
    [("ppo=1", "'ppo=1' is not NAME=WEIGHT"), ("dpo", "'dpo' is not"), ("dpo=-1", "dpo must be a number of")],
)
def test_the_command_refuses_other_ones(
    tmp_path: Path, begun: list[Simulation], asked: str, words: str
) -> None:
    result = CliRunner().invoke(main, ["simulate", "--out", str(tmp_path), "--objective", asked])
    assert result.exit_code != 0
    assert words in f"{result.output} {result.exception}"
    assert begun == []


def test_other_objectives_are_another_simulation(tmp_path: Path) -> None:
    freeze(tmp_path, wanted(tmp_path, objectives={"dpo": 0.1}))
    freeze(tmp_path, wanted(tmp_path, objectives={"dpo": 0.1}))
    with pytest.raises(ConflictError, match=r"objectives was \{'dpo': 0.1\} and is \{'dpo': 1.0\} now"):
        freeze(tmp_path, wanted(tmp_path, objectives={"dpo": 1.0}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ILLUME_GATE_POLICY", "gate.toml", "gate was .*'alpha': 0.05.* and is .*'alpha': 0.2"),
        ("ILLUME_DTYPE", "bfloat16", "dtype was 'auto' and is 'bfloat16' now"),
        ("ILLUME_QUANTIZATION", "nf4", "quantization was 'none' and is 'nf4' now"),
    ],
)
def test_settings_that_the_figures_depend_on_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gate.toml").write_text("alpha = 0.2\n[blind]\nenabled = true\n")
    freeze(tmp_path, wanted(tmp_path))
    monkeypatch.setenv(name, value)
    with pytest.raises(ConflictError, match=words):
        freeze(tmp_path, wanted(tmp_path))


def test_a_gate_policy_that_changes_between_two_starts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "gate.toml"
    monkeypatch.setenv("ILLUME_GATE_POLICY", str(policy))
    policy.write_text("least_items = 7\n")
    freeze(tmp_path, wanted(tmp_path))
    freeze(tmp_path, wanted(tmp_path))
    policy.write_text("least_items = 8\n")
    with pytest.raises(ConflictError, match="gate was"):
        freeze(tmp_path, wanted(tmp_path))


def test_a_folder_from_before_goes_on(tmp_path: Path) -> None:
    """It names the one objective that there was, and neither gate nor types of weights."""
    now = wanted(tmp_path)
    before = {name: now[name] for name in now if name not in {"objectives", "gate", "dtype", "quantization"}}
    (tmp_path / OPTIONS_FILE).write_text(json.dumps({**before, "objective": "illume"}))
    freeze(tmp_path, now)
    with pytest.raises(ConflictError, match=r"objectives was \{\} and is"):
        freeze(tmp_path, wanted(tmp_path, objectives={"kto": 1.0}))
