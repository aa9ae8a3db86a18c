"""Vision-language models of realistic shape with random weights: for speed, weights do not matter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, set_seed

VOCABULARY = 49_152
IMAGE_TOKEN = VOCABULARY - 1
#: Tokens of the words around the picture: start, question, answer and the question why.
WORDS = 20
#: Never said: rows of random weights must not end by chance before the work is done.
END, PAD = VOCABULARY, 0


@dataclass(frozen=True)
class Shape:
    """LLaVA class: a CLIP tower of ViT-B/16 and a Llama text model of 135 M parameters; 221 M together.

    Attributes:
        tiles: parts that a picture is split into, each seen by the tower alone.
        tile: side of a part in pixels; a token for every 16 by 16.
        layers: of the text model.
        vision_layers: of the tower.
    """

    name: str
    tiles: int
    tile: int
    layers: int = 30
    vision_layers: int = 12

    @property
    def picture_tokens(self) -> int:
        """Tokens that one picture becomes."""
        return self.tiles * (self.tile // 16) ** 2

    def with_layers(self, layers: int) -> Shape:
        """The same shape with another number of layers in the text model."""
        return replace(self, layers=layers)

    def model(self, dtype: torch.dtype, device: str) -> Any:
        """The model, weights drawn anew from the same seed."""
        set_seed(0)
        config = LlavaConfig(
            vision_config={
                "model_type": "clip_vision_model",
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": 12,
                "image_size": self.tile,
                "patch_size": 16,
            },
            text_config={
                "model_type": "llama",
                "hidden_size": 576,
                "intermediate_size": 1536,
                "num_hidden_layers": self.layers,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "vocab_size": VOCABULARY,
                "max_position_embeddings": 8192,
                "tie_word_embeddings": True,
                "bos_token_id": None,
                "eos_token_id": None,
            },
            image_token_index=IMAGE_TOKEN,
            tie_word_embeddings=True,
        )
        model = LlavaForConditionalGeneration(config).to(device=device, dtype=dtype)
        model.generation_config.pad_token_id = PAD
        return model.eval().requires_grad_(False)

    def prompts(self, count: int, dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
        """What a processor would give for `count` tasks with a picture each."""
        numbers = torch.Generator().manual_seed(1)
        words = torch.randint(1, IMAGE_TOKEN, (count, WORDS), generator=numbers)
        picture = torch.full((count, self.picture_tokens), IMAGE_TOKEN)
        ids = torch.cat([words[:, :1], picture, words[:, 1:]], dim=1)
        pixels = torch.randn(count * self.tiles, 3, self.tile, self.tile, generator=numbers)
        return {
            "input_ids": ids.to(device),
            "attention_mask": torch.ones_like(ids).to(device),
            "pixel_values": pixels.to(device=device, dtype=dtype),
        }


MEDIUM = Shape("medium", tiles=1, tile=224)
#: As a high-resolution picture is split: 17 parts of 64 tokens.
MEDIUM_LONG = Shape("medium-long", tiles=17, tile=128)
