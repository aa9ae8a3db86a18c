"""ILLUME's mixed loss over the rows of micro-batches, against arithmetic by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.examples import ObjectiveName  # noqa: E402
from illume_plugin.training.logps import RowLogps  # noqa: E402
from illume_plugin.training.micro_batch import MicroBatch, OwnTokens, row_columns  # noqa: E402
from illume_plugin.training.objective import IllumeObjective  # noqa: E402
from illume_plugin.training.terms import Term  # noqa: E402
from illume_plugin.types import TrainingRow  # noqa: E402

pytestmark = pytest.mark.torch

# Probability of a token 3/4 or 1/4.
SURE, UNSURE = math.log(0.75), math.log(0.25)


def batch(*specs: tuple[str, list[float], float]) -> tuple[MicroBatch, RowLogps]:
    """(roles of own tokens, "a" answer, "r" rationale; their log-probabilities; weight) for each row."""
    row = torch.tensor([number for number, spec in enumerate(specs) for _ in spec[0]], dtype=torch.long)
    answer = torch.tensor([letter == "a" for spec in specs for letter in spec[0]], dtype=torch.bool)
    told = MicroBatch(
        numbers=tuple(range(len(specs))),
        rows=tuple(TrainingRow(1, "/1.png", "why ?", "so", "because", spec[2]) for spec in specs),
        inputs={"input_ids": torch.ones(len(specs), 9, dtype=torch.long)},
        own=OwnTokens(row, row_columns(row), row, row, row, row, answer),
        terms=tuple(Term(ObjectiveName.ILLUME, (number,), spec[2]) for number, spec in enumerate(specs)),
    )
    logps = torch.tensor([value for spec in specs for value in spec[1]], requires_grad=True)
    return told, RowLogps(told.by_row(logps))


def loss(objective: IllumeObjective, *parts: tuple[MicroBatch, RowLogps]) -> torch.Tensor:
    totals = torch.stack([objective.counts(told) for told, _ in parts]).sum(dim=0)
    return torch.stack([objective.share(told, logps, totals)[0] for told, logps in parts]).sum()


ACCEPTED = ("arr", [SURE, UNSURE, SURE], 1.0)
HALF = ("arr", [UNSURE, UNSURE, UNSURE], 0.5)
ANSWER_ONLY = ("aa", [UNSURE, SURE], 1.0)

A1, R1 = -SURE, -UNSURE - SURE
A2, R2 = -UNSURE, -2 * UNSURE
A3 = -UNSURE - SURE


@pytest.mark.parametrize(
    ("specs", "w", "expected"),
    [
        ([ACCEPTED], 1.0, A1 + R1 / 2),
        ([ACCEPTED], 4.0, A1 + 4 * R1 / 2),
        ([ANSWER_ONLY], 4.0, A3 / 2),
        ([ACCEPTED, ANSWER_ONLY], 2.0, (A1 + A3) / 3 + 2 * R1 / 2),
        ([ACCEPTED, HALF], 1.0, (A1 + A2) / 2 + (R1 + 0.5 * R2) / (2 + 0.5 * 2)),
    ],
)
def test_by_hand(specs: list[Any], w: float, expected: float) -> None:
    assert loss(IllumeObjective(w), batch(*specs)).item() == pytest.approx(expected, rel=1e-6)


def test_the_shares_of_micro_batches_add_up_to_the_step() -> None:
    specs = [ACCEPTED, HALF, ANSWER_ONLY, ACCEPTED]
    whole = loss(IllumeObjective(3.0), batch(*specs))
    parts = loss(IllumeObjective(3.0), *(batch(spec) for spec in specs))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("spec", [ANSWER_ONLY, ("arr", [SURE] * 3, 0.0)])
def test_nothing_to_learn_is_no_nan(spec: Any) -> None:
    told, logps = batch(spec)
    found = loss(IllumeObjective(10.0), (told, logps))
    (gradient,) = torch.autograd.grad(found, logps.values)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()


def test_own_tokens_by_row() -> None:
    told, logps = batch(ANSWER_ONLY, ACCEPTED)
    assert told.answer_mask.tolist() == [[True, True, False], [True, False, False]]
    assert told.rationale_mask.tolist() == [[False, False, False], [False, True, True]]
    assert logps.values.tolist() == [
        [pytest.approx(UNSURE), pytest.approx(SURE), 0],
        [pytest.approx(SURE), pytest.approx(UNSURE), pytest.approx(SURE)],
    ]
