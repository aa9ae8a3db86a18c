"""Which objectives are on for a training set, and what each weighs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from illume_plugin.errors import SettingsError
from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    ObjectiveName,
    PairSource,
    PreferencePair,
)
from illume_plugin.training import TrainConfig
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import TrainingRow, TrainingSet

TASK = (1, "/1.png", "q", "a")
PAIR = PreferencePair(*TASK, "x", "y", PairSource.FITS)
LABEL = LabelledRationale(*TASK, "x", desirable=True)
IMPLIED = FeedbackExample(*TASK, "x", fits=True, condition=Condition(4), implied=True)
CONTRAST = ContrastExample(*TASK, "x", ("y",), ("z",))
NOTHING = TrainingSet(1, (TrainingRow(*TASK, "x"),), (), "h")
ILLUME = {"illume": 1.0}


@pytest.mark.parametrize(
    ("settings", "records", "weights"),
    [
        ({}, {}, ILLUME),
        ({}, {"pairs": (PAIR,) * 999}, ILLUME),
        ({"dpo": None}, {"pairs": (PAIR,) * 199}, ILLUME),
        ({"dpo": None}, {"pairs": (PAIR,) * 200}, ILLUME | {"dpo": 0.1}),
        ({"dpo": None, "pairs_needed": 2}, {"pairs": (PAIR,) * 2}, ILLUME | {"dpo": 0.1}),
        ({"dpo": 0.5}, {"pairs": (PAIR,)}, ILLUME | {"dpo": 0.5}),
        ({"dpo": 0.5}, {}, ILLUME),
        ({"dpo": 0}, {"pairs": (PAIR,) * 200}, ILLUME),
        # a tick alone is no feedback: stars, a critique and a wish are
        ({}, {"feedback": (IMPLIED,)}, ILLUME),
        ({}, {"feedback": (IMPLIED, replace(IMPLIED, implied=False))}, ILLUME | {"dress": 1.0}),
        (
            {},
            {"feedback": (replace(IMPLIED, condition=Condition(1, critique="no")),)},
            ILLUME | {"dress": 1.0},
        ),
        ({}, {"feedback": (replace(IMPLIED, before="y", refinement="z"),)}, ILLUME | {"dress": 1.0}),
        ({"dress": 2}, {"feedback": (IMPLIED,)}, ILLUME | {"dress": 2}),
        ({"dress": 0}, {"feedback": (replace(IMPLIED, implied=False),)}, ILLUME),
        ({}, {"labels": (LABEL,), "contrast": (CONTRAST,)}, ILLUME),
        (
            {"kto": 1.0, "contrast": 0.1},
            {"labels": (LABEL,), "contrast": (CONTRAST,)},
            ILLUME | {"kto": 1.0, "contrast": 0.1},
        ),
        ({"illume": 0, "kto": 1.0}, {"labels": (LABEL,)}, {"kto": 1.0}),
    ],
)
def test_weights(settings: dict[str, Any], records: dict[str, Any], weights: dict[str, float]) -> None:
    assert ObjectiveSettings(**settings).weights(replace(NOTHING, **records)) == weights


@pytest.mark.parametrize(
    ("settings", "possible"),
    [
        ({}, {"illume", "dress"}),
        ({"dpo": None}, {"illume", "dress", "dpo"}),
        ({"dress": 0, "dpo": 0.0, "kto": 1}, {"illume", "kto"}),
        ({"illume": 0, "dpo": 0.5, "contrast": 0.1}, {"dress", "dpo", "contrast"}),
    ],
)
def test_what_a_training_set_must_hold_records_for(settings: dict[str, Any], possible: set[str]) -> None:
    assert ObjectiveSettings(**settings).possible == {ObjectiveName(name) for name in possible}


@pytest.mark.parametrize(
    ("pairs", "settings", "learnt"),
    [
        (0, {}, ["x", "y"]),
        (200, {}, ["x", "y"]),
        (199, {"dpo": None}, ["x", "y"]),
        (200, {"dpo": None}, ["x"]),
        (200, {"dpo": 0}, ["x", "y"]),
        (1, {"dpo": 1}, ["x"]),
    ],
)
def test_kto_leaves_to_dpo_what_is_in_pairs(pairs: int, settings: dict[str, Any], learnt: list[str]) -> None:
    labels = (LABEL, replace(LABEL, rationale="y", paired=True))
    training_set = replace(NOTHING, labels=labels, pairs=(PAIR,) * pairs)
    found = ObjectiveSettings(kto=1.0, **settings).labels(training_set)
    assert [label.rationale for label in found] == learnt


@pytest.mark.parametrize(
    ("fits", "unfits", "settings", "lambdas"),
    [
        (4, 4, {}, (1.0, 1.0)),
        (2, 8, {}, (4.0, 1.0)),
        (8, 2, {}, (1.0, 4.0)),
        (1, 50, {}, (10.0, 1.0)),
        (5, 0, {}, (1.0, 1.0)),
        (0, 0, {}, (1.0, 1.0)),
        (2, 8, {"desirable_weight": 1.0}, (1.0, 1.0)),
        (8, 2, {"desirable_weight": 2.0, "undesirable_weight": 0.5}, (2.0, 0.5)),
    ],
)
def test_the_sides_of_kto_weigh_the_same(
    fits: int, unfits: int, settings: dict[str, Any], lambdas: tuple[float, float]
) -> None:
    labels = [LABEL] * fits + [replace(LABEL, desirable=False)] * unfits
    assert ObjectiveSettings(**settings).kto_lambdas(labels) == lambdas


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("illume", -1),
        ("illume", None),
        ("dress", "1"),
        ("dpo", float("nan")),
        ("kto", True),
        ("contrast", None),
        ("beta", 0),
        ("tau", -0.1),
        ("drop_critique", 1.1),
        ("drop_condition", -0.1),
        ("pairs_needed", 0),
        ("pairs_needed", 1.5),
        ("desirable_weight", -1),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        ObjectiveSettings(**{name: value})


def test_nothing_to_minimise_is_refused() -> None:
    with pytest.raises(SettingsError, match="every objective is off"):
        ObjectiveSettings(illume=0, dress=0, dpo=0)


@pytest.mark.parametrize("values", [{"ipo": 1.0}, 3, None, ["dpo"]])
def test_json_that_is_none_of_ours_is_refused(values: Any) -> None:
    with pytest.raises(SettingsError, match=r"[Oo]bjectives"):
        TrainConfig.from_json({"objectives": values})


def test_a_run_takes_them_from_json() -> None:
    config = TrainConfig(objectives=ObjectiveSettings(dress=None, dpo=0.5, kto=1.0, beta=0.2))
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert TrainConfig.from_json({"objectives": {"dpo": 0.5}}).objectives == ObjectiveSettings(dpo=0.5)
    assert TrainConfig.from_json({}).objectives == ObjectiveSettings()
    assert asdict(config)["objectives"]["beta"] == 0.2


def test_a_run_takes_nothing_else() -> None:
    with pytest.raises(SettingsError, match="objectives"):
        TrainConfig(objectives={"dpo": 1.0})  # type: ignore[arg-type]
