"""How large a base model is, from its configuration and the heads of its weight files. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illume_plugin.errors import ModelError

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
#: Parts of a model that are not its language part, by the name of their weights.
_NOT_LANGUAGE = ("vision", "visual", "projector", "connector")
#: Tokens of a picture where the configuration does not say (a 24 by 24 grid, as LLaVA 1.5 has).
_PICTURE_TOKENS = 576


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and time depend on.

    Attributes:
        parameters: of all parts.
        language: of these, those of the language part.
        stored: bytes of the weight files.
        layers, hidden, inner, vocabulary: blocks of the language part, width, width within the MLP, tokens.
        key_values: width of the keys of all attention heads together.
        picture_tokens: tokens that a picture takes.
    """

    parameters: int
    language: int
    stored: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    key_values: int
    picture_tokens: int

    @property
    def block_weights(self) -> int:
        """Weights in the linear layers of the language blocks, about: those that may be kept in few bits."""
        attention = 2 * self.hidden * (self.hidden + self.key_values)
        of_all = self.layers * (attention + 3 * self.hidden * self.inner)
        return min(of_all, self.language)

    @property
    def lora_width(self) -> int:
        """Parameters that a LoRA of rank 1 has on attention and MLP of all blocks."""
        attention = 2 * (self.hidden + self.hidden) + 2 * (self.hidden + self.key_values)
        return self.layers * (attention + 3 * (self.hidden + self.inner))


def model_shape(folder: Path) -> ModelShape:
    """Read the shape of the base model in a folder.

    Raises:
        ModelError: its files cannot be read, or say too little.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        sizes = [each for path in sorted(folder.glob("*.safetensors")) for each in _sizes(path)]
        language = [count for name, count, _ in sizes if not any(part in name for part in _NOT_LANGUAGE)]
        text = config.get("text_config", config)
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        head = int(text.get("head_dim") or hidden // heads)
        return ModelShape(
            parameters=sum(count for _, count, _ in sizes),
            language=sum(language),
            stored=sum(count * width for _, count, width in sizes),
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            inner=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            key_values=head * int(text.get("num_key_value_heads") or heads),
            picture_tokens=int(config.get("image_seq_length") or _PICTURE_TOKENS),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"How large the base model in {folder} is cannot be told: {type(error).__name__} {error}."
        ) from error


def _sizes(path: Path) -> list[tuple[str, int, int]]:
    """(name, numbers, bytes of each) of every tensor in a safetensors file, from its head."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head: Mapping[str, Any] = json.loads(file.read(length))
    return [
        (name, math.prod(each["shape"]), _BYTES.get(each["dtype"], 4))
        for name, each in head.items()
        if name != "__metadata__"
    ]
