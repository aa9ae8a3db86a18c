"""The language blocks in few bits: what is quantised, that it trains, what is said where it cannot be."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks, rationales
from illume_plugin.errors import ModelError
from illume_plugin.quantization import Quantization
from illume_plugin.training import RunSpec, TrainConfig, read_spec, write_spec
from illume_plugin.training.estimate import Work, from_shape
from illume_plugin.training.shape import ModelShape, model_shape
from illume_plugin.training.spec import run_identity
from illume_plugin.types import TrainingRow, TrainingSet

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from illume_plugin.base_model import BaseModel, load_base_model  # noqa: E402
from illume_plugin.base_model.quantized import refuse_unless_possible  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator  # noqa: E402
from illume_plugin.training.trainer import train_adapter  # noqa: E402

CONFIG = TrainConfig(rank=4, batch_size=8, micro_batch_size=4, max_steps=5, warmup=0.0)
FEW = [Quantization.NF4, Quantization.INT8]


@dataclass(frozen=True)
class Trained:
    """A base model, the adapter "new" trained on it, and what the run told."""

    base: BaseModel
    folder: Path
    losses: list[float]
    notes: list[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Quantization], Trained]:
    """Trains on four tasks of the picture world, two rationales each; once for each kind."""
    folder = tmp_path_factory.mktemp("run")
    rows, images = [], {}
    for index, task in enumerate(make_tasks(4, seed=3)):
        name = f"/{index}.png"
        images[name] = folder / f"{index}.png"
        draw(task.scene, 144).save(images[name])
        for variant in range(2):
            told = rationales(task.scene, task.question, task.answer, random.Random(100 * variant + index))
            rows.append(TrainingRow(index, name, task.question_text, task.answer, told))
    done: dict[Quantization, Trained] = {}

    def train(kind: Quantization) -> Trained:
        pytest.importorskip("bitsandbytes")
        if kind not in done:
            base = load_base_model(base_model_path(), device="cpu", quantization=kind)
            made = Trained(base, folder / kind.value, [], [])
            train_adapter(
                base,
                "new",
                TrainingSet(1, tuple(rows), held_out=(), content_hash=""),
                images,
                CONFIG,
                parent=None,
                scratch=folder / "scratch",
                progress=lambda _step, _steps, loss, _eta: made.losses.append(loss),
                notice=made.notes.append,
            )
            base.adapters.save("new", made.folder)
            done[kind] = made
        return done[kind]

    return train


@pytest.mark.torch
@pytest.mark.parametrize("kind", FEW)
def test_the_language_blocks_and_nothing_else_are_in_few_bits(
    trained: Callable[[Quantization], Trained], kind: Quantization
) -> None:
    base = trained(kind).base
    bnb = pytest.importorskip("bitsandbytes")
    few = bnb.nn.Linear4bit if kind is Quantization.NF4 else bnb.nn.Linear8bitLt
    with base.adapters.using(None) as model:
        bare = model.get_base_model()
    blocks = {id(module) for module in bare.get_decoder().layers.modules()}
    quantised = [module for module in bare.modules() if isinstance(module, few)]
    assert len(quantised) == 28, "4 blocks of 7 layers"
    assert {id(module) for module in quantised} <= blocks
    assert base.quantization is kind
    assert not any(getattr(module, "support_avx512bf16_for_cpu", False) for module in quantised)


@pytest.mark.torch
@pytest.mark.parametrize("kind", FEW)
def test_it_is_the_same_model_and_learns_the_same(
    trained: Callable[[Quantization], Trained], kind: Quantization
) -> None:
    """Also: rows that share a picture are one sequence, as their comparison with plain rows allows it."""
    whole, few = trained(Quantization.NONE), trained(kind)
    assert few.losses[0] == pytest.approx(whole.losses[0], rel=0.01)
    assert few.losses[0] != whole.losses[0], "nothing was quantised"
    assert few.losses[-1] < 0.9 * few.losses[0]
    assert few.losses == pytest.approx(whole.losses, rel=0.05)
    assert few.notes == []


@pytest.mark.torch
@pytest.mark.parametrize("kind", FEW)
def test_its_adapter_is_a_plain_one(trained: Callable[[Quantization], Trained], kind: Quantization) -> None:
    """It loads beside itself with the weights that were trained, and on the whole base model."""
    few, whole = trained(kind), trained(Quantization.NONE)
    weights = load_file(few.folder / "adapter_model.safetensors")
    assert weights.keys() == load_file(whole.folder / "adapter_model.safetensors").keys()
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    few.base.adapters.load("again", few.folder)
    few.base.adapters.save("again", few.folder.with_name(f"{kind.value}-again"))
    again = load_file(few.folder.with_name(f"{kind.value}-again") / "adapter_model.safetensors")
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())
    few.base.adapters.drop("again")
    whole.base.adapters.load(kind.value, few.folder)
    whole.base.adapters.drop(kind.value)


@pytest.mark.torch
def test_in_4_bits_it_samples_and_scores_the_fast_way(trained: Callable[[Quantization], Trained]) -> None:
    facts = TransformersGenerator(trained(Quantization.NF4).base).facts()
    assert facts.concern == ""
    assert facts.place.endswith("language blocks in nf4")
    whole = TransformersGenerator(trained(Quantization.NONE).base).facts()
    assert "blocks" not in whole.place


@pytest.mark.torch
def test_4_bits_score_alike_before_and_after_evaluation(trained: Callable[[Quantization], Trained]) -> None:
    """A pass without gradients must leave nothing behind that changes a pass with them."""
    base = trained(Quantization.NF4).base
    given = torch.arange(12)[None]
    with base.adapters.training("new") as model:
        model.eval()
        first = model(input_ids=given).logits
        with torch.no_grad():
            alone = model(input_ids=given).logits
        again = model(input_ids=given).logits
        again.sum().backward()
        gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
        model.zero_grad()
    assert torch.equal(first, again)
    assert torch.allclose(first, alone, rtol=1e-4, atol=1e-4)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("kind", FEW)
def test_without_bitsandbytes(kind: Quantization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=rf"ILLUME_QUANTIZATION={kind.value} needs bitsandbytes.*\[qlora\]"):
        load_base_model(base_model_path(), device="cpu", quantization=kind)


@pytest.mark.parametrize("kind", FEW)
def test_on_a_device_that_it_does_not_run_on(kind: Quantization) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ModelError, match=rf"{kind.value}: bitsandbytes does not work on meta: "):
        refuse_unless_possible(kind, torch.device("meta"))


@pytest.mark.parametrize("kind", FEW)
def test_on_this_processor_it_runs(kind: Quantization) -> None:
    pytest.importorskip("bitsandbytes")
    refuse_unless_possible(kind, torch.device("cpu"))


@pytest.mark.parametrize(
    ("kind", "width", "least", "most"),
    [("none", 4, 4, 4), ("none", 2, 2, 2), ("nf4", 4, 0.5, 0.52), ("nf4", 2, 0.5, 0.52), ("int8", 2, 1, 1)],
)
def test_bytes_of_a_weight(kind: str, width: int, least: float, most: float) -> None:
    assert least <= Quantization(kind).weight_bytes(width) <= most


def test_the_estimate_knows_of_it() -> None:
    """LLaVA 1.5 7B: 6.5 billion of its weights are in the language blocks."""
    shape = ModelShape(7_063_427_072, 6_738_939_904, 14_126_854_144, 32, 4096, 11008, 32064, 4096, 576)
    assert shape.block_weights == 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    work = Work({}, {}, texts=10, steps=5, characters=1000, longest=100)

    def memory(kind: Quantization) -> int:
        return from_shape(work, CONFIG, shape, weight_bytes=2, speed=lambda: 1e12, quantization=kind).memory

    saved = (memory(Quantization.NONE) - memory(Quantization.NF4)) / shape.block_weights
    assert saved == pytest.approx(2 - 0.516, abs=0.001)
    assert (memory(Quantization.NONE) - memory(Quantization.INT8)) == shape.block_weights


@pytest.mark.torch
def test_the_weights_of_the_blocks_are_counted_right() -> None:
    shape = model_shape(base_model_path())
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        layers = model.get_decoder().layers
    inside = [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]
    assert shape.block_weights == sum(math.prod(module.weight.shape) for module in inside)


def test_a_run_keeps_it(tmp_path: Path) -> None:
    spec = RunSpec("base", None, "v0000", TrainingSet(1, (), (), "abc"), {}, CONFIG)
    few = replace(spec, quantization=Quantization.NF4)
    write_spec(tmp_path, few)
    assert read_spec(tmp_path) == few
    assert read_spec(tmp_path).quantization is Quantization.NF4
    assert run_identity(few) != run_identity(spec), "its checkpoints are its own"
