"""From training rows to a micro-batch of plain rows: one sequence for each, with its own picture.

This is the computation that all others must equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from illume_plugin.base_model import Prompts, encode_rows, open_image
from illume_plugin.training.micro_batch import MicroBatch, OwnTokens, row_columns
from illume_plugin.training.rows import pieces
from illume_plugin.training.terms import Text


@dataclass(frozen=True)
class RowCollator:
    """Encodes rows of all kinds into one batch, padded on the right.

    Attributes:
        two_way_prompt: whether the model reads the prompt in both directions (`Traits`). It is told where
            the prompt ends, or it would see the answer before it has to give it.
    """

    prompts: Prompts
    images: Mapping[str, Path]
    two_way_prompt: bool = False

    def __call__(self, rows: Mapping[int, Text]) -> MicroBatch:
        """Encode rows, given by their numbers in the run; the terms over them are not known here.

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the processor's tokens are not the tokenizer's.
        """
        pictures = [open_image(self.images[row.image]) for row in rows.values()]
        inputs = encode_rows(self.prompts, [pieces(self.prompts, row) for row in rows.values()], pictures)
        answer, rationale = inputs.pop("answer_mask"), inputs.pop("rationale_mask")
        own = answer | rationale
        if self.two_way_prompt:
            inputs["token_type_ids"] = (own.cumsum(dim=1) > 0).long()
        row, place = own.nonzero(as_tuple=True)
        tokens = OwnTokens(
            row=row,
            column=row_columns(row),
            sequence=row,
            predictor=place - 1,
            place=place,
            token=inputs["input_ids"][own],
            answer=answer[own],
        )
        return MicroBatch(tuple(rows), tuple(rows.values()), inputs, tokens)
