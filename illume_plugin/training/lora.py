"""Which layers LoRA adapts, and how."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import LoraConfig

from illume_plugin.errors import ModelError
from illume_plugin.training.config import TrainConfig


def lora_config(config: TrainConfig, target_modules: str) -> LoraConfig:
    """LoRA settings for the layers whose full names match `target_modules`."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_modules,
        use_dora=config.dora,
        use_rslora=config.rslora,
        task_type="CAUSAL_LM",
    )


def language_layers(model: Any) -> str:
    """A pattern for the linear layers in the blocks of the language part, and no others.

    Raises:
        ModelError: the architecture does not say which part is the language part.
    """
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = bare.get_decoder()
    prefix = next((name for name, module in bare.named_modules() if module is decoder), None)
    leaves = _linear_leaves(decoder) if prefix and decoder is not None else []
    if not leaves:
        raise ModelError(
            f"The language blocks of {type(bare).__name__} cannot be told from the rest.",
            why="Only they are trained.",
            todo="Name the layers yourself with the training setting target_modules.",
        )
    return rf"{re.escape(str(prefix))}\.layers\..*\.({'|'.join(map(re.escape, leaves))})"


def _linear_leaves(decoder: Any) -> list[str]:
    names = {
        n for n, m in decoder.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("layers.")
    }
    # A wrapped layer shows its parts, e.g. "layers.0.mlp.up_proj.base_layer".
    inner = re.compile(r"\.(base_layer|lora_[AB])\b.*")
    return sorted({inner.sub("", name).rpartition(".")[2] for name in names})
