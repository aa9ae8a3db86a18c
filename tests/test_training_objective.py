"""ILLUME's mixed loss against arithmetic by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.training.objective import mixed_loss, token_counts  # noqa: E402

pytestmark = pytest.mark.torch

# Two words. The logits of position t predict token t + 1: probability 3/4 or 1/4 of word 1.
SURE, UNSURE = [0.0, math.log(3)], [math.log(3), 0.0]
CE_SURE, CE_UNSURE = -math.log(0.75), -math.log(0.25)


def rows(*specs: tuple[str, list[list[float]], float]) -> tuple[Any, dict[str, Any]]:
    """(roles of tokens: "." prompt, "a" answer, "r" rationale; logits; weight) for each row; tokens are 1."""
    roles = [spec[0] for spec in specs]
    batch = {
        "input_ids": torch.ones(len(specs), len(roles[0]), dtype=torch.long),
        "answer_mask": torch.tensor([[c == "a" for c in row] for row in roles]),
        "rationale_mask": torch.tensor([[c == "r" for c in row] for row in roles]),
        "weight": torch.tensor([spec[2] for spec in specs]),
    }
    return torch.tensor([spec[1] for spec in specs]), batch


ACCEPTED = (".a.rr", [SURE, SURE, UNSURE, SURE, SURE], 1.0)
HALF = (".a.rr", [UNSURE, SURE, UNSURE, UNSURE, SURE], 0.5)
ANSWER_ONLY = (".aa..", [UNSURE, SURE, SURE, SURE, SURE], 1.0)

A1, R1 = CE_SURE, CE_UNSURE + CE_SURE  # token t is predicted by the logits of t - 1
A2, R2 = CE_UNSURE, 2 * CE_UNSURE
A3 = CE_UNSURE + CE_SURE


@pytest.mark.parametrize(
    ("specs", "w", "loss"),
    [
        ([ACCEPTED], 1.0, A1 + R1 / 2),
        ([ACCEPTED], 4.0, A1 + 4 * R1 / 2),
        ([ANSWER_ONLY], 4.0, A3 / 2),
        ([ACCEPTED, ANSWER_ONLY], 2.0, (A1 + A3) / 3 + 2 * R1 / 2),
        ([ACCEPTED, HALF], 1.0, (A1 + A2) / 2 + (R1 + 0.5 * R2) / (2 + 0.5 * 2)),
    ],
)
def test_by_hand(specs: list[Any], w: float, loss: float) -> None:
    logits, batch = rows(*specs)
    assert float(mixed_loss(logits, batch, token_counts(batch), w)) == pytest.approx(loss, rel=1e-6)


def test_the_shares_of_micro_batches_add_up_to_the_step() -> None:
    specs = [ACCEPTED, HALF, ANSWER_ONLY, ACCEPTED]
    logits, batch = rows(*specs)
    whole = mixed_loss(logits, batch, token_counts(batch), 3.0)
    parts = [rows(spec) for spec in specs]
    counts = torch.stack([token_counts(part) for _, part in parts]).sum(dim=0)
    shares = [float(mixed_loss(l, part, counts, 3.0)) for l, part in parts]  # noqa: E741
    assert sum(shares) == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("spec", [ANSWER_ONLY, (".....", [SURE] * 5, 1.0), (".a.rr", [SURE] * 5, 0.0)])
def test_nothing_to_learn_is_no_nan(spec: Any) -> None:
    logits, batch = rows(spec)
    logits.requires_grad_()
    loss = mixed_loss(logits, batch, token_counts(batch), 10.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_prompt_tokens_are_not_trained() -> None:
    logits, batch = rows(ACCEPTED, ANSWER_ONLY)
    logits.requires_grad_()
    mixed_loss(logits, batch, token_counts(batch), 1.0).backward()
    trained = (logits.grad.abs().sum(dim=-1) > 0).tolist()
    assert trained == [[True, False, True, True, False], [True, True, False, False, False]]
