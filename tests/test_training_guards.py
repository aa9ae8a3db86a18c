"""What ends a run, what it does when memory runs out, and the ways of training that can be asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.errors import RunError, SettingsError
from illume_plugin.training import TrainConfig
from illume_plugin.types import TrainingRow, TrainingSet

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from transformers.integrations import integration_utils  # noqa: E402

import illume_plugin.training.arguments as arguments_module  # noqa: E402
import illume_plugin.training.step as step_module  # noqa: E402
from illume_plugin.base_model import BaseModel, load_base_model  # noqa: E402
from illume_plugin.training.checkpoints import Checkpoints  # noqa: E402
from illume_plugin.training.guards import is_out_of_memory, until_it_fits  # noqa: E402
from illume_plugin.training.reports import DivergenceGuard  # noqa: E402
from illume_plugin.training.trainer import train_adapter  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = TrainConfig(rank=2, batch_size=4, micro_batch_size=4, max_steps=2, warmup=0.0)
#: Its token is nowhere else in the rows.
POISON = "triangle"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, dict[str, Path]]:
    """Four rows with a picture each."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, images = [], {}
    for index, task in enumerate(make_tasks(4, seed=3)):
        name = f"/{index}.png"
        images[name] = folder / f"{index}.png"
        draw(task.scene, 72).save(images[name])
        rows.append(TrainingRow(10 + index, name, "what is it ?", "red", f"because {index} is red ."))
    return TrainingSet(1, tuple(rows), held_out=(), content_hash="hash"), images


@pytest.fixture
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


def trained(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    folder: Path,
    config: TrainConfig,
    **more: Any,
) -> dict[str, torch.Tensor]:
    """The weights after training."""
    settings: dict[str, Any] = {"parent": None, "progress": lambda *_: None, **more}
    train_adapter(base, "new", *world, config, scratch=folder / "scratch", **settings)
    base.adapters.save("new", folder / "adapter")
    return dict(load_file(folder / "adapter" / "adapter_model.safetensors"))


def apart(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_a_record_that_gives_no_number_is_named(
    base: BaseModel, world: tuple[TrainingSet, dict[str, Path]], tmp_path: Path
) -> None:
    rows = list(world[0].rows)
    rows[2] = replace(rows[2], rationale=f"because of the {POISON} .")
    (token,) = base.processor.tokenizer(f" {POISON}", add_special_tokens=False).input_ids

    def poison(_module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((inputs[0] == token)[..., None], float("nan"))

    with base.adapters.using(None) as model:
        hook = model.get_input_embeddings().register_forward_hook(poison)
    checkpoints = Checkpoints(tmp_path / "checkpoints", run="one")
    with pytest.raises(RunError, match="The loss became nan at step 1 of 2") as caught:
        trained(
            base, (replace(world[0], rows=tuple(rows)), world[1]), tmp_path, SMALL, checkpoints=checkpoints
        )
    hook.remove()
    assert f"task 12 ('because of the {POISON} .')" in caught.value.what
    assert not any(f"task {other}" in caught.value.what for other in (10, 11, 13))
    assert checkpoints.newest() is None


def test_weights_that_were_broken_are_not_blamed_on_a_record(
    base: BaseModel, world: tuple[TrainingSet, dict[str, Path]], tmp_path: Path
) -> None:
    wild = replace(SMALL, learning_rate=1e30, max_grad_norm=1e9, max_steps=9)
    with pytest.raises(RunError, match=r"became (nan|inf) at step \d of 9 for every record") as caught:
        trained(base, world, tmp_path, wild)
    assert "smaller learning_rate" in caught.value.todo


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["GPU", "processor", "Python"],
)
def test_when_memory_runs_out_less_is_taken_at_a_time(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    config = replace(SMALL, dropout=0.0)
    expected = trained(base, world, tmp_path / "before", config)
    base.adapters.drop("new")
    fits_up_to_one_picture(monkeypatch, error)
    notes: list[str] = []
    found = trained(base, world, tmp_path / "after", config, notice=notes.append)
    assert apart(found, expected) < 1e-5
    assert [note.split(" rows")[0][-1] for note in notes] == ["4", "2"]
    assert notes[-1].endswith("from here on it is 1.")


def fits_up_to_one_picture(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """In the steps, a forward pass over more than one row runs out of memory."""
    real: Callable[..., Any] = step_module.row_logps

    def small(model: Any, batch: Any, *args: Any, **more: Any) -> Any:
        if model.training and len(batch.rows) > 1:
            raise error
        return real(model, batch, *args, **more)

    monkeypatch.setattr(step_module, "row_logps", small)


def test_when_one_row_is_too_much_the_run_ends(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(model: Any, *args: Any, **more: Any) -> Any:
        if model.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, *args, **more)

    real: Callable[..., Any] = step_module.row_logps
    monkeypatch.setattr(step_module, "row_logps", never)
    with pytest.raises(RunError, match="Memory ran out with 1 row at a time") as caught:
        trained(base, world, tmp_path, SMALL)
    assert "gradient_checkpointing" in caught.value.todo


def test_other_errors_are_not_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


@pytest.mark.parametrize(
    ("limit", "steps", "losses", "words"),
    [
        (2.0, 30, [1.0] * 5 + [1.5] * 5 + [2.4] * 5, ""),
        (2.0, 30, [0.01] * 5 + [0.1] * 5 + [0.5] * 5, ""),  # still small
        (2.0, 30, [1.0] * 5 + [1.5] * 5 + [2.6] * 5, "1 in its first 5 steps, 2.6 in its last 5 at step 15"),
        (2.0, 30, [1.0] * 5 + [9.0] * 5, ""),  # too few steps to tell
        (2.0, 30, [1.0] * 13 + [50.0] * 2, ""),  # single steps are no trend
        (2.0, 100, [1.0] * 10 + [9.0] * 15, ""),  # in a longer run more steps are looked at
        (2.0, 100, [1.0] * 10 + [9.0] * 20, "1 in its first 10 steps, 9 in its last 10"),
        (2.0, 9999, [1.0] * 60 + [9.0] * 15, "1 in its first 20 steps, 9 in its last 20"),
        (2.0, 9999, [1.0] * 60 + [9.0] * 5, ""),
        (0.0, 30, [1.0] * 5 + [99.0] * 15, ""),
    ],
)
@pytest.mark.parametrize("name", ["illume/answer_ce", "illume/rationale_ce", "dpo/loss"])
def test_a_loss_that_grows_ends_the_run(
    limit: float, steps: int, losses: list[float], words: str, name: str
) -> None:
    history = [{"loss": 1.0, "illume/loss": 1.0, "dpo/margin": 1.0, name: loss} for loss in losses]
    state = SimpleNamespace(log_history=history, global_step=len(losses), max_steps=steps)
    guard = DivergenceGuard(limit)
    if not words:
        guard.on_log(None, state, None)
        return
    with pytest.raises(RunError, match=re.escape(f"{name} is {words}")):
        guard.on_log(None, state, None)


def test_steps_without_a_rationale_are_not_compared_with_steps_that_have_one() -> None:
    """Of many tasks few are judged: the sum of a step is next to nothing, or w times a rationale's loss."""
    few = [0.0] * 19 + [3.5] + [0.0, 3.5] * 40
    history = [
        {"loss": 5e-5 + 40 * each, "illume/answer_ce": 5e-5, "illume/rationale_ce": each} for each in few
    ]
    state = SimpleNamespace(log_history=history, global_step=len(few), max_steps=9999)
    DivergenceGuard(2.0).on_log(None, state, None)
    history += [dict(history[1]) | {"illume/rationale_ce": 9.0}] * 60
    state.global_step = len(history)
    with pytest.raises(RunError, match=re.escape("illume/rationale_ce is 3.5 in its first 20 steps, 9 in")):
        DivergenceGuard(2.0).on_log(None, state, None)


def test_a_run_that_diverges_is_ended(
    base: BaseModel, world: tuple[TrainingSet, dict[str, Path]], tmp_path: Path
) -> None:
    """The model knows these answers; steps that are far too long make it forget all it knows."""
    known = tuple(
        TrainingRow(10 + index, f"/{index}.png", task.question_text, task.answer)
        for index, task in enumerate(make_tasks(4, seed=3))
    )
    wild = replace(SMALL, learning_rate=0.05, warmup=0.9, max_steps=24)
    with pytest.raises(RunError, match="The loss diverges"):
        trained(base, (replace(world[0], rows=known), world[1]), tmp_path, wild)


def test_activations_computed_anew_change_nothing(
    base: BaseModel, world: tuple[TrainingSet, dict[str, Path]], tmp_path: Path
) -> None:
    expected = trained(base, world, tmp_path / "kept", SMALL)
    base.adapters.drop("new")
    anew = trained(base, world, tmp_path / "anew", replace(SMALL, gradient_checkpointing=True))
    assert apart(anew, expected) < 1e-6


def test_arithmetic_in_bf16_is_near_that_in_fp32(
    base: BaseModel, world: tuple[TrainingSet, dict[str, Path]], tmp_path: Path
) -> None:
    losses: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for precision, told in losses.items():
        config = replace(SMALL, precision=precision)
        trained(
            base,
            world,
            tmp_path / precision,
            config,
            progress=lambda *event, told=told: told.append(event[2]),
        )
        base.adapters.drop("new")
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"precision": "fp16"}, "precision is fp16"), ({"report_to": ("nothing_such",)}, "nothing_such")],
)
def test_what_cannot_be_had_here_is_said(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(SettingsError, match=words):
        trained(base, world, tmp_path, replace(SMALL, **change))


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "mlflow", "wandb"])
def test_a_tracker_is_told_of_every_step_and_objective(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracker: str,
) -> None:
    told: list[dict[str, float]] = []

    class Tracker(TrainerCallback):  # type: ignore[misc]
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            told.append(logs)

    there = {tracker: Tracker}  # as if its package were installed, and no other's
    monkeypatch.setattr(integration_utils, "INTEGRATION_TO_CALLBACK", there)
    monkeypatch.setattr(arguments_module, "get_available_reporting_integrations", lambda: list(there))
    trained(base, world, tmp_path, replace(SMALL, report_to=(tracker,)))
    steps = [logs for logs in told if "loss" in logs]
    assert len(steps) == SMALL.max_steps
    assert all({"illume/loss", "learning_rate", "grad_norm"} <= logs.keys() for logs in steps)
    base.adapters.drop("new")
    with pytest.raises(SettingsError, match="report_to names nowhere"):
        trained(base, world, tmp_path, replace(SMALL, report_to=(tracker, "nowhere")))


@pytest.mark.parametrize(
    ("change", "words"), [({"dora": True}, "use_dora"), ({"rslora": True}, "use_rslora")]
)
def test_kinds_of_lora(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    """Trained, written, and read by plain peft into a model that says the same."""
    import json

    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    weights = trained(base, world, tmp_path, replace(SMALL, **change))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())[words] is True
    assert any("magnitude" in name for name in weights) is bool(change.get("dora"))
    plain = AutoModelForImageTextToText.from_pretrained(base_model_path(), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    found = {name: weight for name, weight in loaded.state_dict().items() if "lora_" in name}
    assert len(found) == len(weights)
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        assert any(key.startswith(stem) and torch.equal(value, weight) for key, value in found.items()), name


def test_memory_that_runs_out_before_the_first_step(
    base: BaseModel,
    world: tuple[TrainingSet, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ways are compared on several rows at once, in evaluation mode."""
    real: Callable[..., Any] = step_module.row_logps

    def small(model: Any, batch: Any, *args: Any, **more: Any) -> Any:
        if not model.training and len(batch.rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch, *args, **more)

    monkeypatch.setattr(step_module, "row_logps", small)
    notes: list[str] = []
    one = replace(world[0], rows=tuple(replace(row, image="/0.png") for row in world[0].rows))
    trained(base, (one, world[1]), tmp_path, replace(SMALL, micro_batch_size=4), notice=notes.append)
    assert notes == [
        f"Memory ran out before the first step with {size} rows at a time; from here on it is {size // 2}."
        for size in (4, 2)
    ]


def test_with_one_row_there_is_no_less() -> None:
    def attempt() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    notes: list[str] = []
    with pytest.raises(RunError, match="Memory ran out with 1 row"):
        until_it_fits(attempt, SimpleNamespace(size=6), notes.append)
    assert [note.split(" rows")[0][-1] for note in notes] == ["6", "3"]
