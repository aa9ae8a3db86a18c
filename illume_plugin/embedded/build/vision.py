"""Stage 1: the vision tower learns what every cell of a picture holds, and then stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from illume_plugin.embedded.build.language import schedule
from illume_plugin.embedded.build.pictures import Cells
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute

#: Logits for each attribute (empty, or one of its values), then for the place.
WIDTHS = [*(1 + len(VALUES[attribute]) for attribute in Attribute), len(PLACES)]


def train_tower(
    tower: Any, cells: Cells, steps: int, batch: int, rate: float, seed: int, report: Callable[[str], None]
) -> None:
    """Train the tower with a linear layer that names what each patch shows; freeze it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = nn.Linear(tower.config.hidden_size, sum(WIDTHS))
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.02)
    started = time.perf_counter()
    for step in range(steps):
        logits, labels = _look(tower, head, cells, batch, rng)
        loss = sum(
            (functional.cross_entropy(found, label) for found, label in zip(logits, labels, strict=True)),
            start=torch.zeros(()),
        )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(step, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0:
            found = f"loss {loss.item():.3f} all right {_right(logits, labels):.4f}"
            report(f"sight {step + 1}/{steps} {time.perf_counter() - started:.0f} s  {found}")
    tower.requires_grad_(False)
    tower.eval()


def _look(
    tower: Any, head: nn.Linear, cells: Cells, batch: int, rng: np.random.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of each head and the labels, both by patch."""
    pixels, held = cells.compose(batch, rng)
    seen = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
    logits = list(head(seen).flatten(0, 1).split(WIDTHS, dim=-1))
    places = torch.arange(len(PLACES)).repeat(batch)
    return logits, [*torch.from_numpy(held).long().flatten(0, 1).unbind(-1), places]


def _right(logits: list[Tensor], labels: list[Tensor]) -> float:
    """Share of patches of which everything is named right."""
    each = torch.stack([found.argmax(-1) == label for found, label in zip(logits, labels, strict=True)])
    return each.all(0).float().mean().item()
