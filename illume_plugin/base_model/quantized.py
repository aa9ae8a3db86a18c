"""A base model whose language blocks are in 4 or 8 bits, through bitsandbytes (QLoRA, arXiv 2305.14314).

Only the linear layers of the language blocks: they are most of a large model, and the ones that LoRA adapts.
What sees the picture, the embeddings and the output head stay as they are.

Nothing of peft's `prepare_model_for_kbit_training` is needed: a base model is frozen anyway, adapters are
float32 anyway, and gradient checkpointing works without gradients of the inputs. What else it does, norms and
head in float32, would make the model that is trained another one than the model that serves.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

from illume_plugin.errors import ModelError
from illume_plugin.quantization import Quantization

#: Width of the layer that bitsandbytes is tried on; it quantises 64 weights at a time.
_TRIED = 64


def quantised_loading(
    kind: Quantization,
    where: str,
    *,
    device: torch.device,
    dtype: str | torch.dtype,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """What `from_pretrained` must be told besides, for a base model in few bits; nothing for `NONE`.

    Args:
        where: folder or hub id.
        device: that the weights are loaded onto at once, each quantised as it comes.
        dtype: of what is not quantised, and of the products of 4-bit layers.

    Raises:
        ModelError: bitsandbytes is missing or does not work on this device, or the architecture does not say
            where its language blocks are.
        OSError, ValueError: as transformers raises them for a base model that it cannot read.
    """
    if kind is Quantization.NONE:
        return {}
    refuse_unless_possible(kind, device)
    config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        skeleton = AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
    others = rf"(?!{re.escape(_blocks(skeleton))}).*"
    four = kind is Quantization.NF4
    return {
        "device_map": {"": torch.empty(0, device=device).device},  # with its number: the Trainer compares
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=four,
            load_in_8bit=not four,
            llm_int8_skip_modules=[others],
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=_computed_in(dtype, config),
        ),
    }


def refuse_unless_possible(kind: Quantization, device: torch.device) -> None:
    """Try bitsandbytes on one small layer.

    Raises:
        ModelError: it is missing, or does not work on this device.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise ModelError(
            f"ILLUME_QUANTIZATION={kind.value} needs bitsandbytes, which is not installed.",
            todo="Install the extra: pip install 'illume-label-studio[qlora]', or set it to none.",
        ) from error
    except (RuntimeError, OSError) as error:
        raise _unusable(kind, device, error) from error
    layers = bitsandbytes.nn
    try:
        layer = (
            layers.Linear4bit(_TRIED, _TRIED, bias=False, compute_dtype=torch.float32, quant_type="nf4")
            if kind is Quantization.NF4
            else layers.Linear8bitLt(_TRIED, _TRIED, bias=False, has_fp16_weights=False)
        )
        product = layer.to(device)(torch.ones(1, _TRIED, device=device, dtype=torch.float16))
        float(product.sum())  # waits for a GPU
    except (RuntimeError, NotImplementedError, AttributeError, TypeError, OSError) as error:
        raise _unusable(kind, device, error) from error


def settle(model: Any, kind: Quantization) -> None:
    """See that a loaded model is in few bits, and keep its results the same whatever it is used for.

    Raises:
        ModelError: no layer was quantised.
    """
    if kind is Quantization.NONE:
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    found = [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    if not found:
        raise ModelError(
            f"No layer of {type(model).__name__} can be kept in {kind.value}.",
            why="Its language blocks have no plain linear layers.",
            todo="Set ILLUME_QUANTIZATION=none.",
        )
    for layer in found:
        if isinstance(layer, Linear4bit):
            # On some processors it would pack its weights at the first forward pass in evaluation mode, for
            # products in bfloat16 that have no gradient: scored one way, then trained another, or not at all.
            layer.support_avx512bf16_for_cpu = False
    # It says at every product that float32 is rounded; that is what was asked for.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _blocks(skeleton: Any) -> str:
    """What the full names of all modules in the language blocks begin with."""
    decoder = skeleton.get_decoder()
    name = next((name for name, module in skeleton.named_modules() if module is decoder), None)
    if not name or not hasattr(decoder, "layers"):
        raise ModelError(
            f"The language blocks of {type(skeleton).__name__} cannot be told from the rest.",
            why="Only they are kept in few bits.",
            todo="Set ILLUME_QUANTIZATION=none.",
        )
    return f"{name}.layers."


def _computed_in(dtype: str | torch.dtype, config: Any) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    named = stored if dtype == "auto" else getattr(torch, dtype)
    return named if isinstance(named, torch.dtype) else torch.float32


def _unusable(kind: Quantization, device: torch.device, error: Exception) -> ModelError:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"ILLUME_QUANTIZATION={kind.value}: bitsandbytes does not work on {device}: {line}.",
        why="The language blocks are kept in few bits by it alone.",
        todo="Set ILLUME_QUANTIZATION=none, or see what `python -m bitsandbytes` says.",
    )
