"""Picture features of a frozen vision tower: computed once in a run, by the model's own function."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from illume_plugin.training.traits import bare

#: Names in the store: one tensor for the picture, or a list of them, one for each of its parts.
WHOLE, PART = "whole", "part"


def vision_is_frozen(model: Any) -> bool:
    """Whether nothing outside the language part is trained."""
    inner = bare(model)
    heads = [inner.get_decoder(), inner.get_output_embeddings()]
    language = {id(weight) for part in heads if part is not None for weight in part.parameters()}
    return all(id(weight) in language for weight in inner.parameters() if weight.requires_grad)


def features_of(
    model: Any, pictures: Mapping[str, Mapping[str, torch.Tensor]]
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """What the language part is given of each picture, one after another, without dropout.

    Args:
        pictures: name -> what the processor gives for the picture.

    Returns:
        Name and `{"whole": features}` or, where the model gives a list, `{"part0": ..., "part1": ...}`.
    """
    inner = bare(model)
    known = inspect.signature(inner.get_image_features).parameters
    was_training = inner.training
    inner.eval()  # frozen weights have nothing to learn from dropout, and the result is kept
    try:
        for name, inputs in pictures.items():
            taken = {key: value.to(inner.device) for key, value in inputs.items() if key in known}
            with torch.no_grad():
                pooled = inner.get_image_features(**taken).pooler_output
            yield name, _named(pooled)
    finally:
        inner.train(was_training)


def _named(pooled: torch.Tensor | Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    if isinstance(pooled, torch.Tensor):
        return {WHOLE: pooled}
    return {f"{PART}{index}": part for index, part in enumerate(pooled)}


def as_encoder_outputs(
    pictures: Sequence[Mapping[str, torch.Tensor]], device: torch.device
) -> dict[str, BaseModelOutputWithPooling]:
    """Features of several pictures as the forward pass takes them in place of their pixels.

    Args:
        pictures: what `features_of` gave, one for each sequence.
    """
    parts = [tensor.to(device) for picture in pictures for tensor in picture.values()]
    pooled: Any = torch.cat(parts) if WHOLE in pictures[0] else parts
    return {"image": BaseModelOutputWithPooling(pooler_output=pooled)}


def joined_pixels(pictures: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Processor outputs of single pictures as those of a batch, parts padded with zeros as processors do."""
    return {name: _joined([picture[name] for picture in pictures]) for name in pictures[0]}


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    if all(list(tensor.shape[1:]) == shape for tensor in tensors):
        return torch.cat(list(tensors))
    return torch.cat([_grown(tensor, shape) for tensor in tensors])


def _grown(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    grown = tensor.new_zeros(len(tensor), *shape)
    grown[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return grown
