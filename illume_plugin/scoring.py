"""How likely the model itself finds a rationale: teacher-forced log-probabilities."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from illume_plugin.base_model import BaseModel, encode_rows, open_image


def logprob_mean(
    base: BaseModel,
    image: Path,
    question: str,
    answer: str,
    texts: Sequence[str],
    *,
    adapter: str | None = None,
    batch_size: int = 32,
) -> list[float]:
    """Mean log-probability per token of each rationale, given picture, question and answer.

    The end token counts as one token: a rationale that stops where the model would go on is less
    likely. Probabilities are the model's own, at temperature 1 over the whole vocabulary, whatever the
    temperature a text was sampled at.

    Args:
        adapter: name of a loaded adapter, None for the base model.
        batch_size: texts scored in one forward pass.

    Returns:
        One value in nats (at most 0) for each text.
    """
    picture = open_image(image)
    scores: list[float] = []
    for start in range(0, len(texts), batch_size):
        rows = [base.prompts.told(question, answer, text) for text in texts[start : start + batch_size]]
        batch = encode_rows(base.prompts, rows, [picture] * len(rows))
        mask = batch.pop("rationale_mask")
        del batch["answer_mask"]
        with base.adapters.using(adapter) as model, torch.inference_mode():
            scores += _mean_logprobs(model, batch, mask, base.device)
    return scores


def _mean_logprobs(
    model: Any, batch: dict[str, torch.Tensor], mask: torch.Tensor, device: torch.device
) -> list[float]:
    """Mean over the masked tokens of log P(token | everything before it); shape (rows,)."""
    # All rows share one prompt, so nothing before the first masked token is scored.
    kept = mask.shape[1] - int(mask.int().argmax(dim=1).min())
    moved = {key: value.to(device) for key, value in batch.items()}
    logits = model(**moved, **_keep_last(model, kept + 1)).logits[:, -(kept + 1) : -1].float()
    targets = moved["input_ids"][:, -kept:]
    logprobs = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    weights = mask[:, -kept:].to(logprobs)
    means: list[float] = ((logprobs * weights).sum(dim=1) / weights.sum(dim=1)).tolist()
    return means


def _keep_last(model: Any, count: int) -> dict[str, int]:
    """Ask for the last logits only, where the architecture can: a vocabulary may have 150,000 tokens."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    can = "logits_to_keep" in inspect.signature(bare.forward).parameters
    return {"logits_to_keep": count} if can else {}
