"""Log-probabilities of the rows' own tokens out of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.traits import Traits, bare


@dataclass(frozen=True, slots=True)
class RowLogps:
    """What every objective is given of a micro-batch, whichever way it was computed.

    Attributes:
        values: log-probability of each of a row's own tokens (`MicroBatch.answer_mask` and
            `rationale_mask` say which are which), nats, float32, shape (rows, most own tokens), 0 behind.
        hidden: last hidden state of each own token, shape (rows, most own tokens, width); None unless it
            was asked for.
    """

    values: torch.Tensor
    hidden: torch.Tensor | None = None


def row_logps(
    model: Any,
    batch: MicroBatch,
    traits: Traits,
    *,
    pictures: Mapping[str, Any] | None = None,
    hidden: bool = False,
) -> RowLogps:
    """Run the model, with gradients, on a micro-batch that is on its device.

    Args:
        model: with the adapter that is trained, also wrapped for several processes.
        pictures: arguments about the pictures, where the batch has none.
        hidden: give last hidden states; the batch must have been made with the rows' last tokens.
    """
    needed = _needed(batch)
    inputs = {**batch.inputs, **(pictures or {}), "use_cache": False}
    if batch.sight is not None:
        inputs["attention_mask"] = batch.sight.masks(traits, _dtype(model))
    if traits.keeps_logits:
        inputs["logits_to_keep"] = needed
    if hidden:
        inputs["output_hidden_states"] = True
    outputs = model(**inputs)
    logits = outputs.logits if traits.keeps_logits else outputs.logits[needed]
    return RowLogps(
        values=batch.by_row(_picked(logits, needed, batch)),
        hidden=batch.by_row(_states(outputs, batch)) if hidden else None,
    )


def _needed(batch: MicroBatch) -> torch.Tensor:
    """Where something is predicted: bool, shape (sequences, tokens)."""
    needed = torch.zeros_like(batch.inputs["input_ids"], dtype=torch.bool)
    needed[batch.own.sequence, batch.own.predictor] = True
    return needed


def _picked(logits: torch.Tensor, needed: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """log P of each own token.

    Args:
        logits: of the needed places only, in order, shape (places, vocabulary).
    """
    number = (needed.flatten().cumsum(0) - 1).view_as(needed)
    at = number[batch.own.sequence, batch.own.predictor]
    norms = logits.float().logsumexp(dim=-1)
    return logits[at, batch.own.token].float() - norms[at]


def _states(outputs: Any, batch: MicroBatch) -> torch.Tensor:
    states: torch.Tensor = outputs.hidden_states[-1]
    return states[batch.own.sequence, batch.own.place]


def _dtype(model: Any) -> torch.dtype:
    inner = bare(model.module if hasattr(model, "module") else model)
    dtype: torch.dtype = inner.dtype
    return dtype
