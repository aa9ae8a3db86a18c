"""Stage 4: the projector learns to say what the tower sees in the symbolic tokens of the language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illume_plugin.embedded.build.language import Symbols, schedule
from illume_plugin.embedded.build.pictures import Cells

#: Patches in one batch; pictures looked at together.
BATCH, TOGETHER = 2048, 100


def join(
    model: Any,
    symbols: Symbols,
    cells: Cells,
    pictures: int,
    steps: int,
    rate: float,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Fit the projector of a LLaVA, by the squared error relative to the symbols' variance."""
    seen, wanted = _pairs(model, symbols, cells, pictures, seed)
    chance = torch.Generator().manual_seed(seed)
    projector = model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(projector.parameters(), weight_decay=0.0)
    for step in range(steps):
        rows = torch.randint(len(seen), (BATCH,), generator=chance)
        loss = (projector(seen[rows]) - wanted[rows]).square().mean() / wanted.var()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(step, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 500 == 0:
            report(f"joining {step + 1}/{steps}  relative error {loss.item():.5f}")


@torch.no_grad()
def _pairs(model: Any, symbols: Symbols, cells: Cells, pictures: int, seed: int) -> tuple[Tensor, Tensor]:
    """What the tower makes of each patch, and the token that it should become: (patches, width) both."""
    seen, wanted = [], []
    rng = np.random.default_rng(seed)
    for _ in range(0, pictures, TOGETHER):
        pixels, held = cells.compose(TOGETHER, rng)
        states = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        seen.append(states[-1].flatten(0, 1))
        wanted.append(symbols(torch.from_numpy(held).long()).flatten(0, 1))
    return torch.cat(seen), torch.cat(wanted)
