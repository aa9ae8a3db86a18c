"""What the shared-prefix step must know about a model: its masks, its positions, what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Traits:
    """How an architecture attends, and which arguments its forward pass has.

    Attributes:
        windows: kind of layer -> how many tokens back its sight goes, None for all of them.
        mask_per_kind: whether a mask for each kind of layer can be given; otherwise one serves them all.
        two_way_prompt: the prompt is read in both directions up to the first piece's end (PaliGemma).
        keeps_logits: whether logits can be asked for at chosen positions only.
        takes_features: whether finished picture features can be given instead of pixels.
    """

    windows: Mapping[str, int | None]
    mask_per_kind: bool
    two_way_prompt: bool
    keeps_logits: bool
    takes_features: bool

    @classmethod
    def of(cls, model: Any) -> Traits:
        """Read them off a model, bare or with adapters."""
        inner = bare(model)
        accepted = inspect.signature(inner.forward).parameters
        two_way = inner.config.model_type == "paligemma"
        return cls(
            windows=_windows(inner.config.get_text_config()),
            mask_per_kind=not two_way,  # PaliGemma makes its own mask for each kind, and takes one tensor
            two_way_prompt=two_way,
            keeps_logits="logits_to_keep" in accepted,
            takes_features="mm_encoder_outputs" in accepted and hasattr(inner, "get_image_features"),
        )

    def sees_all(self, tokens: int) -> bool:
        """Whether rows of so many tokens can be masked: every window is masked by its kind or long enough."""
        shortest = min((window for window in self.windows.values() if window), default=tokens)
        return self.mask_per_kind or len(self.windows) == 1 or tokens <= shortest


def bare(model: Any) -> Any:
    """The transformers model itself, out of its adapters' wrapping."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _windows(config: Any) -> dict[str, int | None]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or [SLIDING if window else FULL]
    return {kind: window if kind == SLIDING else None for kind in dict.fromkeys(kinds)}


def head_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Rotary positions of one prompt's tokens, and of the first token behind it.

    Args:
        inputs: what the processor gives for one prompt with its picture.

    Returns:
        Shape (axes, tokens): one axis, or three where pictures have positions on a grid (Qwen's mrope),
        which only the model itself can count.
    """
    length = inputs["input_ids"].shape[1]
    inner = bare(model)
    counter = getattr(getattr(inner, "model", inner), "get_rope_index", None)
    if counter is None or "image_grid_thw" not in inputs:
        return torch.arange(length)[None], length
    known = inspect.signature(counter).parameters
    positions, shift = counter(**{key: value for key, value in inputs.items() if key in known})
    return positions[:, 0], length + int(shift.reshape(-1)[0])
