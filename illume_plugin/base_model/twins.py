"""A LoRA adapter put beside one of equal configuration, without peft's walks over the whole model.

Versions of one project differ in their weights alone, as a rule. For such a twin of a loaded adapter
everything that peft would find out again (which layers, of which shape, with which scale) stands in the
layers already: what is left is to hang the new weights beside the twin's. Under load this is most of what a
switch costs (P8 of the benchmarks).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear, LoraLayer

#: Fields of a configuration that do not change what the adapter computes.
_SAYS_NOTHING = frozenset(
    {"inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "task_type", "peft_version"}
)
_PREFIX = "base_model.model."
#: The two matrices of a layer: container in the layer, key in an adapter's file.
_MATRICES = ("lora_A", "lora_B")


def twin_of(model: Any, config: LoraConfig) -> str | None:
    """Name of a loaded adapter that computes with the same configuration, or None."""
    if not isinstance(model, PeftModel) or not _is_plain(config):
        return None
    asked = _meaning(config)
    return next((name for name, other in model.peft_config.items() if _meaning(other) == asked), None)


def add_beside(
    model: PeftModel, twin: str, name: str, config: LoraConfig, weights: Mapping[str, torch.Tensor]
) -> bool:
    """Put an adapter beside its twin.

    Args:
        name: of the new adapter; none of that name is loaded.
        weights: by the names that peft gives them in a file.

    Returns:
        Whether it was done. False means that these weights, or the layers of this model, want peft's own
        way, which also says what is wrong with them; nothing has been changed.
    """
    layers = {path: layer for path, layer in model.base_model.model.named_modules() if _adapted(layer, twin)}
    if not _covers(layers, twin, weights):
        return False
    for path, layer in layers.items():
        _hang(layer, twin, name, {m: weights[f"{_PREFIX}{path}.{m}.weight"] for m in _MATRICES})
    model.peft_config[name] = config
    return True


def _adapted(layer: Any, twin: str) -> bool:
    return isinstance(layer, LoraLayer) and (twin in layer.lora_A or twin in layer.lora_embedding_A)


def _covers(layers: Mapping[str, Any], twin: str, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the layers are plain linear ones, and take exactly these weights."""
    # a subclass may keep more than the two matrices (quantised layers do not, but let peft decide)
    if not all(type(layer) is Linear and layer.lora_variant.get(twin) is None for layer in layers.values()):
        return False
    shapes = {
        f"{_PREFIX}{path}.{matrix}.weight": getattr(layer, matrix)[twin].weight.shape
        for path, layer in layers.items()
        for matrix in _MATRICES
    }
    return shapes == {key: value.shape for key, value in weights.items()}


def _hang(layer: Any, twin: str, name: str, weights: Mapping[str, torch.Tensor]) -> None:
    for matrix, value in weights.items():
        pattern = getattr(layer, matrix)[twin]
        # no memory and no random numbers are spent on weights that are replaced at once
        linear = torch.nn.Linear(pattern.in_features, pattern.out_features, bias=False, device="meta")
        own = value.to(pattern.weight.device, pattern.weight.dtype, copy=True)
        linear.weight = torch.nn.Parameter(own, requires_grad=False)
        getattr(layer, matrix)[name] = linear.eval()
    layer.lora_dropout[name] = copy.deepcopy(layer.lora_dropout[twin])
    for fact in ("r", "lora_alpha", "scaling", "use_rslora", "use_dora", "lora_bias"):
        of_adapter = getattr(layer, fact)
        of_adapter[name] = of_adapter[twin]


def _is_plain(config: Any) -> bool:
    """Whether two matrices a layer are all that the adapter has."""
    return (
        isinstance(config, LoraConfig)
        and not config.use_dora
        and not config.lora_bias
        and not config.modules_to_save
        and not config.trainable_token_indices
        and config.bias == "none"
    )


def _meaning(config: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in _SAYS_NOTHING}
