"""What a base model can read at once."""

from __future__ import annotations

import torch

from illume_plugin.base_model import BaseModel
from illume_plugin.errors import TaskError


def must_fit(base: BaseModel, batch: dict[str, torch.Tensor], steps: int) -> None:
    """Make sure that every prompt of a batch, with what is said after it, is as long as the base model reads.

    A model that reads past its positions does not fail: it says anything.

    Args:
        batch: of `encode_prompts`.
        steps: new tokens at most.

    Raises:
        TaskError: a prompt is too long.
    """
    longest = int(batch["attention_mask"].sum(dim=1).max())
    if base.context is not None and longest + steps > base.context:
        raise TaskError(
            f"Picture, question and answer are {longest} tokens; the base model reads {base.context}, "
            f"{steps} of which are for what it says.",
            why="It would not see the question, or say anything at all.",
            todo="Shorten the task's question or answer, or choose a base model with a longer context.",
        )
