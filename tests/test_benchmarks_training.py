"""Benchmarks of training at toy size: both sides learn the same, and what is written says so."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

pytest.importorskip("torch")
pytest.importorskip("trl")

import torch  # noqa: E402
import training  # noqa: E402
import training_scaling  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from figures import LeftOutError, figure  # noqa: E402
from setting import Setting  # noqa: E402
from shapes import Shape  # noqa: E402
from training_pairs import against_dpo  # noqa: E402
from training_parts import StepClock, agreed  # noqa: E402
from training_scaling import threads_of, together, told  # noqa: E402
from training_work import against_sft  # noqa: E402

from illume_plugin.generation import SamplingPlan  # noqa: E402

TOY = Shape("toy", tiles=1, tile=32, layers=1, vision_layers=1)
SETTING = Setting("cpu", torch.float32, 1, None, SamplingPlan.paper())
#: TRL and peft warn of what is theirs.
quiet = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def losses(one: dict[str, Any]) -> list[float]:
    """(peer's, ours) of the last step."""
    return [float(each) for each in one["detail"]["told"].split(",")[0].removeprefix("loss ").split(" / ")]


@quiet
def test_a_step_of_sft_is_the_same_on_both_sides() -> None:
    one = against_sft(TOY, goal=5)(SETTING)
    assert one["detail"]["mode"].startswith("rows that share a picture as one sequence")
    assert losses(one)[1] == pytest.approx(losses(one)[0], rel=1e-4)
    assert len(one["detail"]["peer_seconds"]) == one["n"] == 1


@quiet
@pytest.mark.parametrize("kept", [False, True], ids=["peer computes its reference", "peer is given it"])
def test_a_step_of_dpo_is_the_same_on_both_sides(kept: bool) -> None:
    one = against_dpo(TOY, goal=20, kept=kept)(SETTING)
    assert one["detail"]["pairs"] == 16
    assert losses(one)[1] == pytest.approx(losses(one)[0], rel=1e-4)
    assert abs(losses(one)[1] - math.log(2)) > 1e-3  # the adapter changes something, or nothing is shown
    assert one["detail"]["reference_seconds"] > 0


def test_two_processes_learn_what_one_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_scaling, "STEPS", 2)
    monkeypatch.setattr(training_scaling, "RUNS", (1, 2))
    one = together(TOY, goal=1e-5)(SETTING)
    assert one["n"] == 2
    assert one["max"] <= 1e-5
    assert not one["higher_is_better"]
    assert one["detail"]["dtype"] == "float32"


def clock(loss: float, norm: float) -> StepClock:
    made = StepClock()
    made.on_log(logs={"loss": loss, "grad_norm": norm})
    made.on_log(logs={"train_runtime": 1.0})
    return made


def test_contenders_that_learn_different_things_are_no_benchmark() -> None:
    assert agreed(clock(1.0, 2.0), clock(1.00005, 2.0), torch.float32).startswith("loss 1.00000 / 1.00005")
    for other in (clock(1.001, 2.0), clock(1.0, 2.1), clock(float("nan"), 2.0)):
        with pytest.raises(AssertionError, match="different things"):
            agreed(clock(1.0, 2.0), other, torch.float32)


def test_scaling_is_told_from_timed_steps_by_hand() -> None:
    def run(*seconds: float) -> dict[str, Any]:
        return {"mode": "tries", "took": [{"seconds": each} for each in (9.0, *seconds)]}

    found = told({1: [run(4.0, 4.0), run(6.0)], 2: [run(2.0), run(2.0, 3.0)]})
    assert found["speedup"] == 2.0
    assert found["seconds_1"] == [4.0, 4.0, 6.0]
    assert found["omp_num_threads"] == {1: torch.get_num_threads(), 2: threads_of(2)}


@pytest.mark.parametrize("code", [0, 1], ids=["nothing written", "failed"])
def test_processes_that_fail_say_why(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    ended = subprocess.CompletedProcess([], code, "", "no room for the picture")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(RuntimeError, match=f"2 processes ended with {code}: no room for the picture"):
        training_scaling.launch(TOY, 2)


def test_what_cannot_be_measured_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Setting) -> Any:
        raise LeftOutError("TRL is not here")

    def measured(setting: Setting) -> Any:
        return figure([6.0], goal=5, detail={"layers": setting.layers})

    monkeypatch.setattr(training, "FIGURES", {"P2": missing, "P2D": measured})
    out = tmp_path / "results" / "training.json"
    done = CliRunner().invoke(training.main, ["--only", "P2,P2D", "--quick", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "P2        left out: TRL is not here" in done.output
    (one,) = json.loads(out.read_text()).values()
    assert one["detail"]["layers"] == training.QUICK_LAYERS
    assert one["detail"]["quick"]
    assert {"torch", "transformers", "trl", "peft"} <= one["detail"]["versions"].keys()
