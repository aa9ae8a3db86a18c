"""A model of `shapes` as the folder that vLLM serves: weights, a tokenizer that says nothing, a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from shapes import IMAGE_TOKEN, PAD, VOCABULARY, Shape

#: transformers writes the short name and reads both; vLLM reads the long one alone.
SHORT, LONG = "vision_tower.", "vision_tower.vision_model."


def save(model: Any, shape: Shape, folder: Path) -> Any:
    """Write everything; returns the processor."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    named = {long_name(name): tensor for name, tensor in load_file(path).items()}
    save_file(named, path, metadata={"format": "pt"})
    processor = make_processor(shape)
    processor.save_pretrained(folder)
    return processor


def long_name(name: str) -> str:
    """The name of a weight as vLLM looks for it."""
    place = name.find(SHORT)
    if place < 0 or name.startswith(LONG, place):
        return name
    return name[:place] + LONG + name[place + len(SHORT) :]


def make_processor(shape: Shape) -> Any:
    """Reads one picture of the shape's side; token `i` is the word "w" and i."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = {"height": shape.tile, "width": shape.tile}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": shape.tile}, crop_size=side)
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=make_tokenizer(),
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",  # noqa: S106 - a word, no secret
    )


def make_tokenizer() -> Any:
    """A word for every token, split at blanks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(VOCABULARY)}
    words["<image>"] = words.pop(f"w{IMAGE_TOKEN}")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w1"))  # noqa: S106 - a word, no secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=f"w{PAD}",
        extra_special_tokens={"image_token": "<image>"},
    )
