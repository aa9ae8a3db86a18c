"""Whether a faster way of computing rows gives the loss and the gradients of plain rows, on real data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from illume_plugin.scoring.model_facts import REFUSALS
from illume_plugin.training.objective import Objective
from illume_plugin.training.packing import Packing
from illume_plugin.training.step import step_share, step_totals
from illume_plugin.training.traits import Traits

log = logging.getLogger(__name__)

#: Largest difference of the loss, and of all gradients together (Euclidean norm), as a share of their size.
#: A wrong mask or position moves them by a tenth and more; rounding, by type of the weights, by less.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True, slots=True)
class Choice:
    """The way that a run takes.

    Attributes:
        whys: what was wrong with the faster ways.
    """

    packing: Packing
    whys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What some rows teach: the loss, and the gradient of every weight that is trained, in float32."""

    loss: float
    gradients: list[torch.Tensor]


def choose(
    model: Any, ways: Iterable[Packing], plain: Packing, rows: Sequence[int], objectives: Sequence[Objective]
) -> Choice:
    """The first of `ways` that equals plain rows; plain rows where none does, with the reasons in the log.

    Dropout is off meanwhile, and gradients are cleared afterwards.

    Args:
        model: with the adapter that is about to be trained.
        ways: the fastest first; the next one is only made when it is needed.
        rows: what is compared on.
    """
    expected = lesson(model, plain, rows, objectives)
    whys: list[str] = []
    for way in ways:
        why = _difference(model, way, rows, objectives, expected)
        if not why:
            return Choice(way, tuple(whys))
        whys.append(f"{way.name}: {why}")
        log.warning("Training goes a slower way than it could. %s.", whys[-1])
    return Choice(plain, tuple(whys))


def lesson(model: Any, packing: Packing, rows: Sequence[int], objectives: Sequence[Objective]) -> Lesson:
    """Loss and gradients of some rows as one optimiser step, without dropout."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    traits, was_training = Traits.of(model), model.training
    model.eval()
    try:
        batches = packing.micro_batches(rows)
        totals = step_totals(batches, objectives, weights[0].device)
        loss = 0.0
        for batch in batches:
            share = step_share(model, packing, batch, traits, objectives, totals)
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        return Lesson(loss, [_gradient(weight) for weight in weights])
    finally:
        model.train(was_training)
        model.zero_grad()


def _difference(
    model: Any, way: Packing, rows: Sequence[int], objectives: Sequence[Objective], expected: Lesson
) -> str:
    """What is wrong with a way; empty where it teaches the same."""
    try:
        found = lesson(model, way, rows, objectives)
    except torch.OutOfMemoryError:  # tells nothing about the model
        raise
    except REFUSALS as error:
        return f"it fails ({type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200})"
    allowed = _allowed(model)
    off = abs(found.loss - expected.loss) / max(abs(expected.loss), 1e-12)
    if not off <= allowed:
        return f"its loss differs by {off:.2g} ({allowed:g} allowed)"
    off = _norm([a - b for a, b in zip(found.gradients, expected.gradients, strict=True)])
    off /= max(_norm(expected.gradients), 1e-12)
    return "" if off <= allowed else f"its gradients differ by {off:.2g} ({allowed:g} allowed)"


def _allowed(model: Any) -> float:
    most = max(TOLERANCE.values())
    if getattr(model, "is_loaded_in_8bit", False):
        return most  # which columns its layers do not round hangs on the rows that come together (adr/0016)
    return TOLERANCE.get(next(model.parameters()).dtype, most)


def _gradient(weight: torch.nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().float().clone()


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())
