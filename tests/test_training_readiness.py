"""What cannot be learnt from is refused, with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from illume_plugin.errors import RunError
from illume_plugin.examples import LabelledRationale, PairSource, PreferencePair
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.readiness import ONE_ROW, refuse_unready
from illume_plugin.types import Origin, Preference, TrainingRow, TrainingSet, Verdict

TASK: tuple[Any, ...] = (1, "/1.png", "what ?", "a dog")
NOTHING = TrainingSet(1, (), (), "")
FITTING = replace(NOTHING, rows=(TrainingRow(*TASK, "it barks"),))
PAIR = PreferencePair(*TASK, "it barks", "it is red", PairSource.FITS)
KTO_ALONE = {"illume": 0.0, "dress": 0.0, "dpo": 0.0, "kto": 1.0}
DPO_ALONE = {"illume": 0.0, "dress": 0.0, "dpo": 1.0}


def labels(*sides: bool) -> TrainingSet:
    return replace(
        NOTHING, labels=tuple(LabelledRationale(*TASK, f"text {i}", s) for i, s in enumerate(sides))
    )


@pytest.mark.parametrize(
    ("training_set", "settings", "reason"),
    [
        (NOTHING, {}, "0 accepted rationales"),
        (replace(NOTHING, pairs=(PAIR,)), {}, "0 accepted rationales"),
        (FITTING, DPO_ALONE, r"anything to learn from \(records: dpo: 0\)"),
        (replace(FITTING, pairs=(PAIR,)), DPO_ALONE | {"dpo": None}, r"records: dpo: 1\)"),
        (labels(True, True), KTO_ALONE, "All 2 labelled rationales fit"),
        (labels(False), KTO_ALONE, "All 1 labelled rationales do not fit"),
    ],
)
def test_refused(training_set: TrainingSet, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(RunError, match=reason) as caught:
        refuse_unready(training_set, [], ObjectiveSettings(**settings))
    assert caught.value.todo


@pytest.mark.parametrize(
    ("training_set", "settings"),
    [
        (FITTING, {}),
        (replace(NOTHING, pairs=(PAIR,)), DPO_ALONE),
        (labels(True, False), KTO_ALONE),
        (replace(FITTING, labels=labels(True).labels), KTO_ALONE | {"illume": 1.0}),
    ],
)
def test_fine(training_set: TrainingSet, settings: dict[str, Any]) -> None:
    refuse_unready(training_set, [], ObjectiveSettings(**settings))


def ticks(annotation_id: int, *rows: int, shown: int = 4) -> list[Preference]:
    return [
        Preference(
            1,
            annotation_id,
            annotation_id,
            7,
            f"text {row}",
            Verdict.FITS if row in rows else Verdict.UNFIT,
            Origin.CANDIDATE,
            row,
            "v0001",
        )
        for row in range(1, shown + 1)
    ]


@pytest.mark.parametrize(
    ("annotations", "refused"),
    [
        ([ticks(n, 1) for n in range(ONE_ROW)], True),
        ([ticks(n, 3) for n in range(ONE_ROW)] + [ticks(900), ticks(901)], True),
        ([ticks(n, 1) for n in range(ONE_ROW - 1)], False),
        ([ticks(n, 1) for n in range(ONE_ROW)] + [ticks(900, 2)], False),
        ([ticks(n, 1, 2) for n in range(ONE_ROW)], False),
        ([ticks(n, 1, shown=1) for n in range(ONE_ROW)], False),
        ([ticks(n) for n in range(ONE_ROW)], False),
    ],
)
def test_ticks_that_are_all_on_one_row(annotations: list[list[Preference]], refused: bool) -> None:
    said = [each for annotation in annotations for each in annotation]
    if not refused:
        refuse_unready(FITTING, said, ObjectiveSettings())
        return
    with pytest.raises(RunError, match=rf"All {ONE_ROW} annotations .* row \d and no other"):
        refuse_unready(FITTING, said, ObjectiveSettings())
