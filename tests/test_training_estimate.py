"""What is told before a run: how much there is to learn from, how long it takes and how much memory."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.errors import ModelError
from illume_plugin.examples import LabelledRationale, PairSource, PreferencePair
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.estimate import Pace, Work, from_past, from_shape, work_of
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.shape import ModelShape, model_shape
from illume_plugin.types import TrainingRow, TrainingSet

#: LLaVA 1.5 7B, from its model card and configuration.
LLAVA = ModelShape(
    parameters=7_063_000_000,
    language=6_738_000_000,
    stored=14_126_000_000,
    layers=32,
    hidden=4096,
    inner=11008,
    vocabulary=32064,
    key_values=4096,
    picture_tokens=576,
)
WORK = Work({"illume": 1000}, {}, texts=1000, steps=315, characters=100_000, longest=400)


def asked(index: int) -> tuple[int, str, str, str]:
    return index, f"/{index}.png", "what is it ?", "a cat"


def test_the_work_of_a_run() -> None:
    rows = tuple(TrainingRow(*asked(index), f"because {index} .") for index in range(30))
    pairs = (
        PreferencePair(*asked(0), "because 0 .", "no .", PairSource.FITS),
        PreferencePair(*asked(1), "because 1 .", "no .", PairSource.EDITED),
        PreferencePair(*asked(2), "because 2 .", "never .", PairSource.FITS),
    )
    labels = (LabelledRationale(*asked(5), "because 5 .", desirable=True),)
    training_set = TrainingSet(1, rows, (), "", pairs=pairs, labels=labels)
    config = TrainConfig(
        batch_size=4, micro_batch_size=4, epochs=3, objectives=ObjectiveSettings(dpo=1, kto=1)
    )
    work = work_of(training_set, config)
    assert work.records == {"illume": 30, "dpo": 3, "kto": 1}
    assert work.sources == {"fits": 2, "edited": 1}
    assert work.texts == 33, "three rejected texts are new"
    assert work.steps == 3 * 9
    assert work.longest == len("what is it ?a catbecause 10 .")
    assert work_of(training_set, replace(config, max_steps=5)).steps == 5


def test_nothing_to_learn_from_is_no_work() -> None:
    assert work_of(TrainingSet(1, (), (), ""), TrainConfig()) == Work({}, {}, 0, 0, 0, 0)


def test_a_past_run_tells_the_time() -> None:
    pace = Pace("m", batch_size=8, micro_batch_size=8, step_s=2.0, other_s=100.0, peak_memory=5)
    found = from_past(WORK, TrainConfig(batch_size=16), pace)
    assert (found.seconds, found.memory) == (100 + 315 * 4.0, 5)


def test_what_a_report_says_of_its_pace() -> None:
    pace = Pace("m", 8, 8, 2.0, 100.0, 5)
    assert Pace.of({"pace": asdict(pace)}) == pace
    assert Pace.of({"rows": 3}) is None
    assert Pace.of({"pace": asdict(replace(pace, step_s=0.0))}) is None


def test_the_shape_of_a_large_model_tells_its_order() -> None:
    """LLaVA 1.5 7B in bfloat16 at 300 TFLOP/s: more than its 14 GB of weights, minutes and not hours."""
    found = from_shape(WORK, TrainConfig(batch_size=16), LLAVA, weight_bytes=2, speed=lambda: 3e14)
    assert 20e9 < found.memory < 120e9
    assert 600 < found.seconds < 3600
    # its LoRA of rank 16: q, k, v, o of 4096 by 4096 and three of 4096 by 11008, 32 times
    assert LLAVA.lora_width * 16 == 39_976_960


@given(st.integers(1, 64), st.integers(1, 10_000))
def test_more_takes_more(rows: int, longest: int) -> None:
    def memory(**change: object) -> int:
        config = TrainConfig(batch_size=rows, micro_batch_size=rows)
        work = replace(WORK, longest=longest)
        return from_shape(work, replace(config, **change), LLAVA, weight_bytes=2, speed=lambda: 1e14).memory

    assert memory(gradient_checkpointing=True) < memory()
    assert memory() < memory(batch_size=2 * rows, micro_batch_size=2 * rows)
    assert memory() < memory(rank=64)


def test_shapes_are_read_off_the_files(tmp_path: Path) -> None:
    text = {
        "hidden_size": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "intermediate_size": 16,
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text, "image_seq_length": 9}))
    head = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "model.language_model.embed_tokens.weight": {"dtype": "BF16", "shape": [100, 8]},
            "model.vision_tower.weight": {"dtype": "F32", "shape": [5]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    shape = model_shape(tmp_path)
    assert (shape.parameters, shape.language, shape.stored) == (805, 800, 1620)
    assert (shape.layers, shape.key_values, shape.picture_tokens) == (3, 4, 9)


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": 8}'])
def test_a_shape_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="cannot be told"):
        model_shape(tmp_path)
