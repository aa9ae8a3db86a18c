"""What several processes share out: parts that are the whole together, and a reference in parts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded import base_model_path, draw, make_tasks, rationales
from illume_plugin.examples import PairSource, PreferencePair
from illume_plugin.training import TrainConfig
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import TrainingSet

torch = pytest.importorskip("torch")

from illume_plugin.base_model import load_base_model  # noqa: E402
from illume_plugin.training.lora import language_layers, lora_config  # noqa: E402
from illume_plugin.training.reference import reference_logps, referred  # noqa: E402
from illume_plugin.training.sharing import Share  # noqa: E402
from illume_plugin.training.terms import run_terms  # noqa: E402
from illume_plugin.training.ways import Ways  # noqa: E402


@given(st.lists(st.integers()), st.integers(1, 9))
def test_the_parts_are_the_whole_in_its_order(items: list[int], processes: int) -> None:
    parts = [Share(index, processes).part(items) for index in range(processes)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_has_it_all_and_asks_nobody() -> None:
    alone = Share()
    assert alone.part("abc") == "abc"
    assert alone.smallest(3) == 3
    assert alone.summed(torch.ones(2)).tolist() == [1.0, 1.0]


@pytest.mark.torch
def test_each_process_computes_its_part_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they have memory for different numbers of rows at a time."""
    pairs, images = [], {}
    for index, task in enumerate(make_tasks(3, seed=7)):
        images[f"/{index}.png"] = tmp_path / f"{index}.png"
        draw(task.scene, 144).save(images[f"/{index}.png"])
        good, bad = (rationales(task.scene, task.question, task.answer, random.Random(s)) for s in (1, 2))
        key = index, f"/{index}.png", task.question_text, task.answer
        pairs.append(PreferencePair(*key, good, f"{bad} or so", PairSource.FITS))
    config = TrainConfig(rank=2, objectives=ObjectiveSettings(illume=0, dpo=1))
    run = run_terms(TrainingSet(1, (), (), "", pairs=tuple(pairs)), config)
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        layers = language_layers(model)
    base.adapters.create("new", lora_config(config, layers))
    monkeypatch.setattr(Share, "summed", lambda _self, values: values)
    with base.adapters.training("new") as model:
        ways = Ways(base, model, run, images, replace(config, micro_batch_size=2), tmp_path)
        packing = next(ways.shared())
        whole = reference_logps(model, packing, run.terms, len(run.texts))
        first = reference_logps(model, packing, run.terms, len(run.texts), Share(0, 2))
        packing.size = 1
        second = reference_logps(model, packing, run.terms, len(run.texts), Share(1, 2))
    half = len(referred(run.terms)) // 2
    assert [int((part != 0).sum()) for part in (first, second)] == [half, half]
    assert torch.allclose(first + second, whole, rtol=1e-4)
