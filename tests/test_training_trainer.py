"""Training the embedded model: what is trained, what is invariant, what stops it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks, rationales
from illume_plugin.errors import IllumeError, ModelError, RunError
from illume_plugin.examples import LabelledRationale, PairSource, PreferencePair
from illume_plugin.training import RunSpec, TrainConfig, write_spec
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import TrainingRow, TrainingSet

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from illume_plugin.base_model import BaseModel, load_base_model  # noqa: E402
from illume_plugin.training.collator import RowCollator  # noqa: E402
from illume_plugin.training.equality import Choice  # noqa: E402
from illume_plugin.training.lora import language_layers  # noqa: E402
from illume_plugin.training.trainer import train_adapter  # noqa: E402
from illume_plugin.training.ways import Ways  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = TrainConfig(rank=4, batch_size=4, micro_batch_size=4, max_steps=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[TrainingRow], dict[str, Path]]:
    """Eight rows; every third has an answer only, and weights differ."""
    import random

    folder = tmp_path_factory.mktemp("pictures")
    rows, images = [], {}
    for index, task in enumerate(make_tasks(8, seed=3)):
        name = f"/{index}.png"
        images[name] = folder / f"{index}.png"
        draw(task.scene, 144).save(images[name])
        told = rationales(task.scene, task.question, task.answer, random.Random(index))
        text = None if index % 3 == 2 else told
        rows.append(TrainingRow(index, name, task.question_text, task.answer, text, 1 - index / 16))
    return rows, images


@pytest.fixture
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


def trained(
    base: BaseModel,
    world: tuple[Sequence[TrainingRow], dict[str, Path]],
    folder: Path,
    config: TrainConfig = SMALL,
    **more: Any,
) -> dict[str, torch.Tensor]:
    """The weights after training."""
    training_set = TrainingSet(1, tuple(world[0]), held_out=(), content_hash="")
    return trained_on(base, training_set, world[1], folder, config, **more)


def trained_on(
    base: BaseModel,
    training_set: TrainingSet,
    images: dict[str, Path],
    folder: Path,
    config: TrainConfig,
    **more: Any,
) -> dict[str, torch.Tensor]:
    settings: dict[str, Any] = {"parent": None, "progress": lambda *_: None, **more}
    train_adapter(base, "new", training_set, images, config, scratch=folder / "scratch", **settings)
    base.adapters.save("new", folder / "adapter")
    base.adapters.drop("new")
    return dict(load_file(folder / "adapter" / "adapter_model.safetensors"))


def judged(rows: Sequence[TrainingRow]) -> TrainingSet:
    """Each rationale is preferred to the next one, and fits where that one does not."""
    told = [row for row in rows if row.rationale]
    pairs, labels = [], []
    for row, other in zip(told, [*told[1:], told[0]], strict=True):
        key = row.task_id, row.image, row.question, row.answer
        pairs.append(PreferencePair(*key, row.rationale, other.rationale, PairSource.FITS, row.weight))
        labels.append(LabelledRationale(*key, f"{row.rationale} too", desirable=row.task_id % 2 == 0))
    return TrainingSet(1, tuple(rows), (), "", pairs=tuple(pairs), labels=tuple(labels))


def distance(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_the_collator_pads_marks_and_weighs(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]]
) -> None:
    rows, images = world
    batch = RowCollator(base.prompts, images)({7: rows[1], 4: rows[2]})
    assert batch.numbers == (7, 4)
    tokens = batch.by_row(batch.own.token)
    read = base.processor.tokenizer.decode
    told = [read(row[mask]) for row, mask in zip(tokens, batch.rationale_mask, strict=True)]
    said = [read(row[mask]) for row, mask in zip(tokens, batch.answer_mask, strict=True)]
    assert told == [f" {rows[1].rationale}</s>", ""]
    assert said == [f" {rows[1].answer}</s>", f" {rows[2].answer}</s>"]
    assert torch.equal(batch.inputs["input_ids"][batch.own.sequence, batch.own.place], batch.own.token)
    assert torch.equal(batch.own.predictor, batch.own.place - 1)


def test_the_same_run_twice_gives_the_same_weights(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    one = trained(base, world, tmp_path / "1")
    assert distance(one, trained(base, world, tmp_path / "2")) == 0
    assert distance(one, trained(base, world, tmp_path / "3", replace(SMALL, seed=1))) > 1e-4


@pytest.mark.parametrize("micro", [1, 2])
def test_micro_batches_change_nothing(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path, micro: int
) -> None:
    """One row at a time, some micro-batches hold no rationale at all."""
    whole = replace(SMALL, batch_size=8, max_steps=3, warmup=0.0)
    losses: dict[int, list[float]] = {}

    def run(size: int) -> dict[str, torch.Tensor]:
        return trained(
            base,
            world,
            tmp_path / str(size),
            replace(whole, micro_batch_size=size),
            progress=lambda _step, _steps, loss, _eta: losses.setdefault(size, []).append(loss),
        )

    one, other = run(8), run(micro)
    assert losses[micro] == pytest.approx(losses[8], rel=1e-3)
    assert distance(one, other) < 2e-4


def test_sharing_pictures_changes_nothing(
    base: BaseModel,
    world: tuple[list[TrainingRow], dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, images = world
    more = [*rows, *(replace(row, rationale=f"there is {row.answer}") for row in rows if row.rationale)]
    config = replace(SMALL, batch_size=8, micro_batch_size=4, max_steps=3, warmup=0.0)
    shared = trained(base, (more, images), tmp_path / "shared", config)
    compared = []

    def plainly(self: Ways, objectives: Any) -> Choice:
        compared.append(choose(self, objectives).packing.name)
        return Choice(self.plain, ())

    choose = Ways.choose
    monkeypatch.setattr(Ways, "choose", plainly)
    assert distance(shared, trained(base, (more, images), tmp_path / "plain", config)) < 2e-4
    assert compared == ["rows that share a picture as one sequence, pictures features kept"]


PREFERRED = ObjectiveSettings(dpo=1.0, kto=0.5)


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
#: Its way of starting several processes that needs no MPI; on which device they train is ours to say.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
ACCELERATE += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]


@pytest.mark.parametrize(
    ("objectives", "launcher"),
    [(ObjectiveSettings(), TORCHRUN), (PREFERRED, TORCHRUN), (ObjectiveSettings(), ACCELERATE)],
    ids=["illume", "with references", "accelerate"],
)
def test_two_processes_make_the_same_steps_as_one(
    base: BaseModel,
    world: tuple[list[TrainingRow], dict[str, Path]],
    tmp_path: Path,
    objectives: ObjectiveSettings,
    launcher: list[str],
) -> None:
    """With the reference, each of them computes a part of it."""
    config = replace(SMALL, batch_size=8, micro_batch_size=2, max_steps=2, warmup=0.0, objectives=objectives)
    training_set, images = judged(world[0]), world[1]
    losses: list[float] = []
    one = trained_on(
        base, training_set, images, tmp_path / "one", config, progress=lambda *told: losses.append(told[2])
    )
    pictures = {name: str(path) for name, path in images.items()}
    spec = RunSpec(str(base_model_path()), None, "v0000", training_set, pictures, config)
    write_spec(tmp_path / "two", spec)
    script = Path(__file__).parent / "train_in_processes.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert found == pytest.approx(losses, rel=1e-5)
    two = load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors")
    assert distance(one, dict(two)) < 2e-4


def test_training_lowers_the_loss_and_leaves_the_base_model_alone(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    with base.adapters.using(None) as model:
        before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[tuple[int, int, float, float]] = []
    config = replace(SMALL, batch_size=8, micro_batch_size=8, max_steps=8)
    trained(base, world, tmp_path, config, progress=lambda *event: seen.append(event))
    assert [(step, steps) for step, steps, _, _ in seen] == [(k, 8) for k in range(1, 9)]
    assert seen[-1][2] < 0.8 * seen[0][2]
    assert seen[-1][3] == 0
    assert all(math.isfinite(eta) and eta >= 0 for *_, eta in seen)
    with base.adapters.using(None) as model:
        after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_run_goes_on_from_its_parent_unless_it_is_to_be_fresh(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    parent = trained(base, world, tmp_path / "parent")
    still = replace(SMALL, learning_rate=1e-12)
    folder = tmp_path / "parent" / "adapter"
    assert distance(parent, trained(base, world, tmp_path / "child", still, parent=folder)) < 1e-9
    fresh = trained(base, world, tmp_path / "fresh", replace(SMALL, fresh=True), parent=folder)
    assert distance(parent, fresh) == 0


def test_a_parent_that_is_loaded_is_not_touched(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    parent = trained(base, world, tmp_path / "parent")
    base.adapters.load("parent", tmp_path / "parent" / "adapter")
    child = trained(base, world, tmp_path / "child", parent=tmp_path / "parent" / "adapter")
    base.adapters.save("parent", tmp_path / "again")
    assert distance(parent, dict(load_file(tmp_path / "again" / "adapter_model.safetensors"))) == 0
    assert distance(parent, child) > 1e-4


def test_a_loss_that_is_no_number_stops_the_run(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    wild = replace(SMALL, learning_rate=1e20, max_grad_norm=1e9, warmup=0.0, max_steps=9)
    with pytest.raises(RunError, match="The loss became nan at step"):
        trained(base, world, tmp_path, wild)


def test_layers_that_do_not_exist(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        trained(base, world, tmp_path, replace(SMALL, target_modules="nowhere"))
    assert base.adapters.names == []


def test_the_language_layers_are_found_under_an_adapter_too(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    with base.adapters.using(None) as model:
        bare = language_layers(model)
    trained(base, world, tmp_path)
    base.adapters.load("one", tmp_path / "adapter")
    with base.adapters.using(None) as model:
        assert language_layers(model) == bare
    assert bare == (
        r"model\.language_model\.layers\..*\.(down_proj|gate_proj|k_proj|o_proj|q_proj|up_proj|v_proj)"
    )


def test_a_missing_picture_is_an_error_of_ours(
    base: BaseModel, world: tuple[list[TrainingRow], dict[str, Path]], tmp_path: Path
) -> None:
    rows, images = world
    with pytest.raises(IllumeError, match=r"gone\.png"):
        trained(base, (rows, dict.fromkeys(images, tmp_path / "gone.png")), tmp_path)
