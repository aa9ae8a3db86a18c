"""Real runs of the embedded model with each objective: rows shared or plain, reference, what is learnt."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from illume_plugin.base_model import BaseModel, load_base_model  # noqa: E402
from illume_plugin.embedded import base_model_path, draw, make_tasks, rationales  # noqa: E402
from illume_plugin.examples import (  # noqa: E402
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    ObjectiveName,
    PairSource,
    PreferencePair,
)
from illume_plugin.feedback import FITS, UNFIT  # noqa: E402
from illume_plugin.training import TrainConfig  # noqa: E402
from illume_plugin.training.anchors import with_own_anchors  # noqa: E402
from illume_plugin.training.contrast_objective import HEAD, projection_head  # noqa: E402
from illume_plugin.training.equality import lesson  # noqa: E402
from illume_plugin.training.logps import row_logps  # noqa: E402
from illume_plugin.training.lora import language_layers, lora_config  # noqa: E402
from illume_plugin.training.objectives.settings import ObjectiveSettings  # noqa: E402
from illume_plugin.training.objectives.shares import masked_sum  # noqa: E402
from illume_plugin.training.reference import reference_logps, referred  # noqa: E402
from illume_plugin.training.run_objectives import run_objectives  # noqa: E402
from illume_plugin.training.terms import run_terms  # noqa: E402
from illume_plugin.training.trainer import train_adapter  # noqa: E402
from illume_plugin.training.traits import Traits  # noqa: E402
from illume_plugin.training.ways import Ways  # noqa: E402
from illume_plugin.types import TrainingRow, TrainingSet  # noqa: E402

pytestmark = pytest.mark.torch

TASKS = 4
OFF = {"illume": 0.0, "dress": 0.0, "dpo": 0.0}
ALONE: dict[str, dict[str, float]] = {
    "illume": OFF | {"illume": 1.0},
    "dress": OFF | {"dress": 1.0},
    "dpo": OFF | {"dpo": 1.0},
    "kto": OFF | {"kto": 1.0},
    "contrast": OFF | {"contrast": 1.0},
}
SUM = {"illume": 1.0, "dress": 0.5, "dpo": 1.0, "kto": 0.5, "contrast": 0.1}
CONFIG = TrainConfig(rank=4, batch_size=16, micro_batch_size=16, learning_rate=3e-3, warmup=0.0)


@dataclass(frozen=True)
class Judged:
    """Tasks of the embedded world, each with a rationale that fits and two that do not."""

    training_set: TrainingSet
    images: Mapping[str, Path]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("pictures")
    rows, pairs, labels, feedback, contrast, images = [], [], [], [], [], {}
    tasks = make_tasks(TASKS, seed=11)
    told = [rationales(t.scene, t.question, t.answer, random.Random(i)) for i, t in enumerate(tasks)]
    for index, task in enumerate(tasks):
        name = f"/{index}.png"
        images[name] = folder / f"{index}.png"
        draw(task.scene, 144).save(images[name])
        key: tuple[Any, ...] = (index, name, task.question_text, task.answer)
        good, bad, worse = told[index], told[(index + 1) % TASKS], told[(index + 2) % TASKS]
        rows.append(TrainingRow(*key, good))
        pairs += [PreferencePair(*key, good, text, PairSource.FITS, 0.5) for text in (bad, worse)]
        labels += [LabelledRationale(*key, good, True), LabelledRationale(*key, bad, False)]
        feedback += [
            FeedbackExample(*key, good, fits=True, condition=replace(FITS, critique="says what is there")),
            FeedbackExample(*key, bad, fits=False, condition=UNFIT),
            FeedbackExample(*key, good, fits=True, condition=FITS, before=bad, refinement="look again"),
        ]
        contrast.append(ContrastExample(*key, f"it is {task.answer}", (good,), (bad, worse)))
    records = tuple(pairs), tuple(labels), tuple(feedback), tuple(contrast)
    return Judged(TrainingSet(1, tuple(rows), (), "", *records), images)


@pytest.fixture
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


@dataclass(frozen=True)
class Setup:
    """A model with an adapter that is about to be trained, and the ways of computing its rows."""

    model: Any
    ways: Ways
    config: TrainConfig

    def objectives(self, training_set: TrainingSet, packing: Any, reference: torch.Tensor) -> Any:
        return run_objectives(training_set, self.config, self.model, packing, reference)


def configured(weights: Mapping[str, float], **more: Any) -> TrainConfig:
    return replace(CONFIG, objectives=ObjectiveSettings(**weights), **more)


@pytest.fixture
def ready(base: BaseModel, judged: Judged, tmp_path: Path) -> Iterator[Any]:
    """Makes a Setup for some weights; every weight of its adapter has a gradient."""
    with base.adapters.using(None) as model:
        layers = language_layers(model)
    base.adapters.create("new", lora_config(CONFIG, layers))
    with base.adapters.training("new") as model, projection_head(model, base.device):
        torch.manual_seed(5)
        for name, weight in model.named_parameters():
            if weight.requires_grad and "lora" in name:
                torch.nn.init.normal_(weight, std=0.05)

        def make(weights: Mapping[str, float], **more: Any) -> Setup:
            config = configured(weights, **more)
            run = run_terms(judged.training_set, config)
            return Setup(model, Ways(base, model, run, judged.images, config, tmp_path), config)

        yield make


@pytest.mark.parametrize(
    ("weights", "size"),
    [*((weights, 16) for weights in ALONE.values()), (ALONE["dpo"], 2), (ALONE["contrast"], 2), (SUM, 4)],
    ids=[*ALONE, "dpo in parts", "contrast in parts", "sum in parts"],
)
def test_sharing_pictures_gives_loss_and_gradients_of_plain_rows(
    ready: Any, judged: Judged, weights: dict[str, float], size: int
) -> None:
    setup = ready(weights, micro_batch_size=size)
    numbers = list(range(len(setup.ways.terms)))
    reference = -10 * torch.rand(len(setup.ways.rows), generator=torch.Generator().manual_seed(1))
    plain = setup.ways.plain
    expected = lesson(setup.model, plain, numbers, setup.objectives(judged.training_set, plain, reference))
    assert expected.loss > 0
    shared = next(setup.ways.shared(with_last="contrast" in weights))
    found = lesson(setup.model, shared, numbers, setup.objectives(judged.training_set, shared, reference))
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert sum(float(gradient.norm()) > 0 for gradient in expected.gradients) > 10
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(other.norm()) + 1e-7


def test_the_reference_is_the_adapter_that_the_run_starts_from(
    base: BaseModel, judged: Judged, tmp_path: Path, ready: Any
) -> None:
    """Computed before the first step, by another adapter with the same weights."""
    setup = ready(SUM)
    base.adapters.save("new", tmp_path / "parent")
    base.adapters.load("parent", tmp_path / "parent")
    packing = next(setup.ways.shared())
    found = reference_logps(setup.model, packing, setup.ways.terms, len(setup.ways.rows))
    rows = referred(setup.ways.terms)
    assert all(bool(found[row] < 0) is (row in rows) for row in range(len(found)))
    with base.adapters.using("parent") as parent, torch.no_grad():
        for batch in setup.ways.plain.packed([replace(setup.ways.terms[0], rows=(row,)) for row in rows]):
            values = row_logps(parent, batch, Traits.of(parent)).values
            expected = masked_sum(values, batch.rationale_mask)
            assert torch.allclose(found[list(batch.numbers)], expected, rtol=1e-4, atol=1e-3)


def trained(
    base: BaseModel, judged: Judged, folder: Path, weights: Mapping[str, float], **more: Any
) -> list[Mapping[str, float]]:
    """Train adapter "new"; what each step told of each objective."""
    figures: list[Mapping[str, float]] = []
    train_adapter(
        base,
        "new",
        judged.training_set,
        judged.images,
        configured(weights, **{"max_steps": 24, **more}),
        parent=None,
        scratch=folder / "scratch",
        progress=lambda *_: None,
        figures=figures.append,
    )
    return figures


def logps(
    base: BaseModel, adapter: str | None, judged: Judged, weights: Mapping[str, float], folder: Path
) -> Any:
    """Log-probability of the rationale of each of the run's texts, by an adapter; and the terms."""
    run = run_terms(judged.training_set, configured(weights))
    with base.adapters.using(adapter) as model:
        ways = Ways(base, model, run, judged.images, configured(weights), folder)
        everything = [replace(term, objective=ObjectiveName.KTO) for term in run.terms]
        return reference_logps(model, ways.plain, everything, len(run.texts)), run


def test_dpo_raises_the_margin_of_its_pairs(base: BaseModel, judged: Judged, tmp_path: Path) -> None:
    told = trained(base, judged, tmp_path, ALONE["dpo"])
    assert told[0]["dpo/loss"] == pytest.approx(0.6931, abs=1e-3), (
        "at first nothing differs from the reference"
    )
    assert told[0]["dpo/margin"] == pytest.approx(0, abs=1e-3)
    before, run = logps(base, None, judged, ALONE["dpo"], tmp_path)
    after, _ = logps(base, "new", judged, ALONE["dpo"], tmp_path)
    change = after - before
    gains = [float(change[term.rows[0]] - change[term.rows[1]]) for term in run.terms]
    assert sum(gain > 0 for gain in gains) / len(gains) > 0.9
    assert sum(gains) / len(gains) > 5


def test_kto_tells_what_fits_from_what_does_not(base: BaseModel, judged: Judged, tmp_path: Path) -> None:
    told = trained(base, judged, tmp_path, ALONE["kto"])
    assert told[0]["kto/loss"] == pytest.approx(0.5, abs=0.02)
    before, run = logps(base, None, judged, ALONE["kto"], tmp_path)
    after, _ = logps(base, "new", judged, ALONE["kto"], tmp_path)
    gains = {side: [] for side in (True, False)}  # type: dict[bool, list[float]]
    for term in run.terms:
        gains[term.desirable].append(float((after - before)[term.rows[0]]))
    assert sum(gains[True]) / len(gains[True]) > sum(gains[False]) / len(gains[False]) + 5


def test_dress_learns_every_rationale_under_what_was_said_of_it(
    base: BaseModel, judged: Judged, tmp_path: Path
) -> None:
    """Those that do not fit, and those of a second turn, as well."""
    always = {**ALONE["dress"], "drop_critique": 0.0, "drop_condition": 0.0}
    told = trained(base, judged, tmp_path, always)
    assert told[-1]["dress/loss"] < 0.6 * told[0]["dress/loss"]
    before, run = logps(base, None, judged, always, tmp_path)
    after, _ = logps(base, "new", judged, always, tmp_path)
    own = [run.terms[number].rows[0] for number in run.in_epoch(0)]
    gains: dict[tuple[bool, bool], list[float]] = {}
    for row in own:
        text = run.texts[row]
        assert isinstance(text, FeedbackExample)
        gains.setdefault((text.fits, bool(text.refinement)), []).append(float((after - before)[row]))
    assert gains.keys() == {(True, False), (False, False), (True, True)}
    assert all(sum(each) / len(each) > 3 for each in gains.values())


def test_contrast_brings_what_fits_nearer_to_the_anchor(
    base: BaseModel, judged: Judged, tmp_path: Path
) -> None:
    told = trained(base, judged, tmp_path, ALONE["contrast"])
    first, last = told[:3], told[-3:]
    assert sum(each["contrast/loss"] for each in last) < 0.8 * sum(each["contrast/loss"] for each in first)
    base.adapters.save("new", tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all("lora" in name for name in weights), "the head is thrown away"
    with base.adapters.using("new") as model:
        assert not hasattr(model, HEAD)


def test_anchors_are_what_the_model_says_itself(base: BaseModel, judged: Judged) -> None:
    config = configured(ALONE["contrast"])
    found = with_own_anchors(base, None, judged.training_set, judged.images, config)
    assert {each.anchor for each in found.contrast}.isdisjoint(
        each.anchor for each in judged.training_set.contrast
    )
    assert found == with_own_anchors(base, None, judged.training_set, judged.images, config)
    first = found.contrast[0]
    own = ContrastExample(*_key(first), "x", (first.anchor, first.positives[0]), (first.anchor,))
    one_sided = replace(judged.training_set, contrast=(own,))
    assert with_own_anchors(base, None, one_sided, judged.images, config).contrast == ()
    off = configured(ALONE["illume"])
    assert with_own_anchors(base, None, judged.training_set, judged.images, off) is judged.training_set


def _key(example: ContrastExample) -> tuple[Any, ...]:
    return example.task_id, example.image, example.question, example.answer


def test_all_together_tell_of_each(base: BaseModel, judged: Judged, tmp_path: Path) -> None:
    told = trained(base, judged, tmp_path, SUM, max_steps=4)
    assert {name.partition("/")[0] for each in told for name in each} == set(ALONE)
    assert all(torch.isfinite(torch.tensor(list(each.values()))).all() for each in told)


def test_a_condition_that_nobody_gave_is_the_plain_prompt(
    base: BaseModel, judged: Judged, tmp_path: Path
) -> None:
    """What feedback dropout leaves of a first turn reads as ILLUME's own row does."""
    each = judged.training_set.feedback[0]
    bare = replace(each, condition=Condition())
    both = Judged(
        replace(judged.training_set, rows=judged.training_set.rows[:1], feedback=(bare,)), judged.images
    )
    weights = OFF | {"illume": 1.0, "dress": 1.0}
    found, run = logps(base, None, both, weights, tmp_path)
    assert len(run.texts) == 2
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-4)
