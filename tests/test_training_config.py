"""The knobs of a training run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.errors import SettingsError
from illume_plugin.training import TrainConfig


@given(
    st.builds(
        TrainConfig,
        rank=st.integers(1, 64),
        learning_rate=st.floats(1e-6, 1e-1),
        dropout=st.floats(0, 0.9),
        max_steps=st.none() | st.integers(1, 9),
        seed=st.integers(0, 2**31),
        fresh=st.booleans(),
    )
)
def test_json_round_trip(config: TrainConfig) -> None:
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", 1.5),
        ("rank", True),
        ("learning_rate", float("nan")),
        ("learning_rate", "1e-3"),
        ("learning_rate", 0),
        ("dropout", 1.0),
        ("warmup", -0.1),
        ("weight_decay", -1),
        ("max_steps", 0),
        ("seed", -1),
        ("seed", None),
        ("fresh", "no"),
        ("target_modules", "("),
        ("micro_batch_size", 5),
        ("w_min", 200.0),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        TrainConfig(**{name: value})


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"Unknown training settings: lr\."):
        TrainConfig.from_json({"lr": 1e-3})


@pytest.mark.parametrize(
    ("answer_only", "accepted", "settings", "w"),
    [
        (100, 10, {}, 10.0),  # the paper's regime
        (300, 10, {}, 30.0),
        (300, 10, {"w_multiplier": 0.5}, 15.0),
        (50, 10, {}, 10.0),
        (50, 10, {"w_min": 1.0}, 5.0),
        (0, 10, {}, 10.0),  # guard: 0 would switch rationales off
        (0, 10, {"w_min": 0.001}, 1.0),
        (1, 100, {"w_min": 0.001}, 0.01),
        (5000, 1, {}, 100.0),
        (5000, 1, {"w_max": 1000.0}, 1000.0),
        (5, 0, {}, 10.0),
    ],
)
def test_w(answer_only: int, accepted: int, settings: dict[str, float], w: float) -> None:
    assert TrainConfig(**settings).w(answer_only=answer_only, accepted=accepted) == pytest.approx(w)
