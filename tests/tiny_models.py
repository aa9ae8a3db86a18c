"""Tiny random vision-language models of several architectures, with a processor that needs no torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from illume_plugin.base_model import Adapters, BaseModel, Prompts

WORDS = re.findall(
    r"\w+", "the a red blue dog cat ball is on grass runs here there because why so not Q A seeing that"
)
SPECIALS = ["<pad>", "<s>", "</s>", "<image>"]
VOCABULARY = {word: index for index, word in enumerate([*SPECIALS, "[UNK]", *WORDS, *".,:?"])}
IMAGE = VOCABULARY["<image>"]
SIZE = 28

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.4,  # large, so that a wrong mask or position shows
}
_EYES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 14,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A word for a token; a full stop is a word of its own."""
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="[UNK]",
        extra_special_tokens=["<image>"],
    )


class TinyProcessor:
    """Turns pictures into the tensors of one architecture and one placeholder into its picture tokens.

    Args:
        look: pictures -> the tensors that the architecture wants.
        picture_tokens: tokens of one picture.
        types: name of the tensor that says of each token what it is, and its value for pictures and words.
        refuses_words_alone: whether a prompt without a picture is an error.
    """

    chat_template = None
    image_token = "<image>"

    def __init__(
        self,
        look: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
        picture_tokens: int,
        types: tuple[str, int, int] | None = None,
        *,
        refuses_words_alone: bool = False,
    ) -> None:
        self.tokenizer = tokenizer()
        self._look = look
        self._picture_tokens = picture_tokens
        self._types = types
        self._refuses = refuses_words_alone

    def __call__(
        self, text: Sequence[str], images: Sequence[Image.Image] | None = None, **settings: Any
    ) -> dict[str, torch.Tensor]:
        if images is None and self._refuses:
            raise ValueError("pictures are expected")
        spread = [each.replace("<image>", "<image>" * self._picture_tokens) for each in text]
        batch = dict(self.tokenizer(spread, return_token_type_ids=False, **settings))
        if images is not None:
            batch |= self._look(torch.stack([_pixels(image) for image in images]))
        if self._types:
            name, picture, word = self._types
            batch[name] = torch.where(batch["input_ids"] == IMAGE, picture, word)
        return batch


def _pixels(image: Image.Image) -> torch.Tensor:
    """Shape (3, SIZE, SIZE), about -1 to 1."""
    small = image.convert("RGB").resize((SIZE, SIZE))
    flat = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).float()
    return flat.reshape(SIZE, SIZE, 3).permute(2, 0, 1) / 127.5 - 1


def _whole(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": pixels}


def _tiles(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The picture and a smaller copy of it, as image-splitting models have them."""
    return {"pixel_values": torch.stack([pixels, pixels.roll(3, dims=-1)], dim=1)}


def _patches(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Qwen's flat patches: 4 x 4 of 7 pixels, two frames alike."""
    rows = pixels.shape[0]
    cut = pixels.reshape(rows, 3, 4, 7, 4, 7).permute(0, 2, 4, 1, 3, 5)
    flat = cut[:, :, :, :, None].expand(-1, -1, -1, -1, 2, -1, -1).reshape(rows * 16, -1)
    return {"pixel_values": flat, "image_grid_thw": torch.tensor([[1, 4, 4]] * rows)}


def _llava() -> tuple[Any, TinyProcessor]:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_EYES), text_config=LlamaConfig(**_TEXT), image_token_index=IMAGE
    )
    return LlavaForConditionalGeneration(config), TinyProcessor(_whole, 4)


def _idefics3() -> tuple[Any, TinyProcessor]:
    eyes = {**_EYES, "patch_size": 7}
    config = Idefics3Config(
        vision_config=eyes,
        text_config={**_TEXT, "model_type": "llama"},
        scale_factor=2,
        image_token_id=IMAGE,
        pad_token_id=0,
    )
    return Idefics3ForConditionalGeneration(config), TinyProcessor(_tiles, 8)


def _qwen2_vl() -> tuple[Any, TinyProcessor]:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 100.0}
    eyes = {"depth": 2, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 32, "patch_size": 7}
    config = Qwen2VLConfig(
        text_config={**_TEXT, "rope_parameters": rope},
        vision_config=eyes,
        image_token_id=IMAGE,
        vision_start_token_id=1,
    )
    return Qwen2VLForConditionalGeneration(config), TinyProcessor(_patches, 4, ("mm_token_type_ids", 1, 0))


def _paligemma() -> tuple[Any, TinyProcessor]:
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_EYES),
        text_config=GemmaConfig(**_TEXT),
        image_token_index=IMAGE,
        projection_dim=32,
        hidden_size=32,
    )
    processor = TinyProcessor(_whole, 4, ("token_type_ids", 0, 0), refuses_words_alone=True)
    return PaliGemmaForConditionalGeneration(config), processor


def _gemma3(window: int) -> tuple[Any, TinyProcessor]:
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**{**_EYES, "patch_size": 7}),
        text_config=Gemma3TextConfig(
            **{**_TEXT, "sliding_window": window, "layer_types": kinds, "query_pre_attn_scalar": 8}
        ),
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
    )
    return Gemma3ForConditionalGeneration(config), TinyProcessor(_whole, 4, ("token_type_ids", 1, 0))


ARCHITECTURES: Mapping[str, Callable[[], tuple[Any, TinyProcessor]]] = {
    "llava": _llava,
    "idefics3": _idefics3,
    "qwen2_vl": _qwen2_vl,
    "paligemma": _paligemma,
    "gemma3": lambda: _gemma3(64),
    "gemma3, narrow window": lambda: _gemma3(6),
}


def _onevision() -> tuple[Any, TinyProcessor]:
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_EYES),
        text_config=Qwen2Config(**{k: v for k, v in _TEXT.items() if k != "head_dim"}),
        image_token_index=IMAGE,
        image_grid_pinpoints=[[SIZE, SIZE]],
        vision_feature_select_strategy="full",
    )
    return LlavaOnevisionForConditionalGeneration(config), TinyProcessor(_overview, 10)


def _overview(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The picture small and in one tile, 4 tokens each, and 2 that end the tile's lines."""
    sizes = torch.tensor([[SIZE, SIZE]] * len(pixels))
    return {"pixel_values": torch.stack([pixels, pixels.roll(3, dims=-1)], dim=1), "image_sizes": sizes}


def _smolvlm() -> tuple[Any, TinyProcessor]:
    config = SmolVLMConfig(
        vision_config={**_EYES, "patch_size": 7},
        text_config={**_TEXT, "model_type": "llama"},
        scale_factor=2,
        image_token_id=IMAGE,
        pad_token_id=0,
    )
    return SmolVLMForConditionalGeneration(config), TinyProcessor(_tiles, 8)


def _qwen2_5_vl() -> tuple[Any, TinyProcessor]:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 100.0}
    eyes = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 7,
        "window_size": 28,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config={**_TEXT, "rope_parameters": rope},
        vision_config=eyes,
        image_token_id=IMAGE,
        vision_start_token_id=1,
    )
    return Qwen2_5_VLForConditionalGeneration(config), TinyProcessor(_patches, 4, ("mm_token_type_ids", 1, 0))


def _paligemma2(window: int) -> tuple[Any, TinyProcessor]:
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_EYES),
        text_config=Gemma2Config(
            **_TEXT,
            sliding_window=window,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=8,
        ),
        image_token_index=IMAGE,
        projection_dim=32,
        hidden_size=32,
    )
    processor = TinyProcessor(_whole, 4, ("token_type_ids", 0, 0), refuses_words_alone=True)
    return PaliGemmaForConditionalGeneration(config), processor


#: Close relatives of the above, for what depends on an architecture's details.
RELATIVES: Mapping[str, Callable[[], tuple[Any, TinyProcessor]]] = {
    "onevision": _onevision,
    "smolvlm": _smolvlm,
    "qwen2_5_vl": _qwen2_5_vl,
    "paligemma2": lambda: _paligemma2(64),
    "paligemma2, narrow window": lambda: _paligemma2(6),
}


@dataclass(frozen=True)
class Tiny:
    """A tiny base model and the bare model inside."""

    base: BaseModel
    model: Any


def tiny(architecture: str, *, dtype: torch.dtype = torch.float32) -> Tiny:
    """Build the architecture with the same random weights every time."""
    torch.manual_seed(3)
    model, processor = {**ARCHITECTURES, **RELATIVES}[architecture]()
    model.to(dtype).eval().requires_grad_(False)
    base = BaseModel(
        adapters=Adapters(model),
        processor=processor,
        prompts=Prompts(processor, ends=("</s>",)),
        source=architecture,
        fingerprint="",
        device=torch.device("cpu"),
        end_ids=(2,),
        pad_id=0,
    )
    return Tiny(base, model)
