"""From training rows to the tensors of one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from illume_plugin.base_model import Piece, Prompts, encode_rows, open_image
from illume_plugin.types import TrainingRow


def pieces(prompts: Prompts, row: TrainingRow) -> list[Piece]:
    """The text of a row: with its rationale where it has one, otherwise question and answer alone."""
    if row.rationale is None:
        return prompts.answer_only(row.question, row.answer)
    return prompts.explained(row.question, row.answer, row.rationale)


@dataclass(frozen=True)
class RowCollator:
    """Encodes rows of both kinds into one padded batch.

    The batch holds what the processor gives, `answer_mask` and `rationale_mask` (bool, rows x longest)
    and `weight` (float, rows), the weight of each row's rationale.
    """

    prompts: Prompts
    images: Mapping[str, Path]

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        """Encode `rows`."""
        pictures = [open_image(self.images[row.image]) for row in rows]
        batch = encode_rows(self.prompts, [pieces(self.prompts, row) for row in rows], pictures)
        return {**batch, "weight": torch.tensor([row.weight for row in rows])}
