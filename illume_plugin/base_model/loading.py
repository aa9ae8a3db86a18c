"""Loading a base model from a folder or a hub id: safetensors only, with plain words when it fails."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from illume_plugin.base_model.adapters import Adapters
from illume_plugin.base_model.prompts import DEFAULT_WHY, Prompts
from illume_plugin.base_model.quantized import quantised_loading, settle
from illume_plugin.errors import ModelError
from illume_plugin.quantization import Quantization

#: Optional file beside the weights; `{"why": "..."}` is the question the model was taught to explain on.
HINTS_FILE = "illume.json"

# What transformers raises for a model it cannot load; which one depends on the architecture.
_LOAD_ERRORS = (
    OSError,
    ValueError,
    ImportError,
    AttributeError,
    TypeError,
    KeyError,
    RuntimeError,
    SafetensorError,
)


@dataclass(frozen=True)
class BaseModel:
    """A frozen vision-language model, its processor, its prompts and the adapters loaded on it.

    Attributes:
        source: the folder or hub id it was loaded from.
        fingerprint: sha256 over configuration and weights of a folder; `id@revision` of a hub model.
        end_ids: ids of the tokens that end a reply.
        context: tokens that it reads at most, those of the picture and new ones included; None where it does
            not say.
        quantization: how few bits its language blocks are in.
    """

    adapters: Adapters
    processor: Any
    prompts: Prompts
    source: str
    fingerprint: str
    device: torch.device
    end_ids: tuple[int, ...]
    pad_id: int
    context: int | None = None
    quantization: Quantization = Quantization.NONE


def load_base_model(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    quantization: Quantization = Quantization.NONE,
    why: str | None = None,
    trust_remote_code: bool = False,
) -> BaseModel:
    """Load a vision-language model, frozen and in evaluation mode.

    Args:
        device: where to put it; the first GPU, or else the processor.
        dtype: of the weights, also by name; "auto": float32 on a processor (half precision is slow there),
            otherwise as stored.
        quantization: how few bits the language blocks are kept in; see `base_model.quantized`.
        why: the question that asks for the rationale; otherwise from `illume.json` beside the weights,
            otherwise ours.

    Raises:
        ModelError: it is missing, not safetensors, of a kind we cannot use, or needs torchvision; or it
            cannot be quantised here.
    """
    folder = _folder(source)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = torch.float32 if dtype == "auto" and place.type == "cpu" else dtype
    where = str(folder or source)
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=trust_remote_code)
        bits = quantised_loading(
            quantization, where, device=place, dtype=kind, trust_remote_code=trust_remote_code
        )
        model = AutoModelForImageTextToText.from_pretrained(
            where, dtype=kind, use_safetensors=True, trust_remote_code=trust_remote_code, **bits
        )
    except _LOAD_ERRORS as error:
        raise _unloadable(str(source), error) from error
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"The base model {source} has an encoder and a decoder.",
            why="Prompt and rationale must be one sequence to be trained together.",
            todo="Choose a decoder-only vision-language model such as LLaVA, Idefics3 or Gemma 3.",
        )
    settle(model, quantization)
    model.to(place).eval().requires_grad_(False)
    end_ids = _end_ids(model.generation_config, processor.tokenizer)
    pad = processor.tokenizer.pad_token_id
    if pad is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return BaseModel(
        adapters=Adapters(model),
        processor=processor,
        prompts=_prompts(processor, end_ids, why or _hints(folder).get("why", DEFAULT_WHY)),
        source=str(source),
        fingerprint=_fingerprint(folder) if folder else f"{source}@{_revision(model)}",
        device=place,
        end_ids=end_ids,
        pad_id=end_ids[0] if pad is None else pad,
        context=getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None),
        quantization=quantization,
    )


def load_prompts(source: str | Path, *, why: str | None = None, trust_remote_code: bool = False) -> Prompts:
    """The prompts of a base model without its weights: for a process that lets another one sample.

    Args:
        why: see `load_base_model`.

    Raises:
        ModelError: the base model is missing or of a kind we cannot use.
    """
    folder = _folder(source)
    where = str(folder or source)
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=trust_remote_code)
        generation = _generation_config(where, trust_remote_code)
    except _LOAD_ERRORS as error:
        raise _unloadable(str(source), error) from error
    end_ids = _end_ids(generation, processor.tokenizer)
    return _prompts(processor, end_ids, why or _hints(folder).get("why", DEFAULT_WHY))


def _prompts(processor: Any, end_ids: tuple[int, ...], why: str) -> Prompts:
    return Prompts(processor, ends=tuple(processor.tokenizer.convert_ids_to_tokens(list(end_ids))), why=why)


def _generation_config(where: str, trust_remote_code: bool) -> Any:
    """What a loaded model would have as `generation_config`."""
    try:
        return GenerationConfig.from_pretrained(where)
    except OSError:  # the file is optional
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
        return GenerationConfig.from_model_config(config)


def _folder(source: str | Path) -> Path | None:
    """The model folder, or None for a hub id."""
    path = Path(source)
    if not path.is_dir():
        if isinstance(source, Path) or path.is_absolute() or str(source).startswith("."):
            raise ModelError(
                f"The base model folder {source} does not exist.",
                todo="Set ILLUME_BASE_MODEL to a folder or a hub id, or unset it for the embedded model.",
            )
        return None
    if not (path / "config.json").is_file():
        raise ModelError(
            f"The base model folder {source} has no config.json.",
            todo="Give the folder that holds config.json, the processor files and the weights.",
        )
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            f"The base model folder {source} has no *.safetensors file.",
            why="Other weight files are pickles, which can run code when they are opened.",
            todo="Convert the weights to safetensors.",
        )
    return path


def _unloadable(source: str, error: Exception) -> ModelError:
    text = str(error)
    if any(word in text for word in ("_extra_content", "video_processor", "torchvision", "VideoProcessor")):
        return ModelError(
            f"The processor of the base model {source} needs torchvision.",
            why="It handles video too, and transformers has video processors for torchvision only.",
            todo="Install the extra: pip install 'illume-label-studio[torchvision]'.",
        )
    line = (text.strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        f"The base model {source} cannot be loaded: {line}",
        why="It must be a vision-language model that AutoModelForImageTextToText and AutoProcessor load"
        " from safetensors.",
        todo="Check ILLUME_BASE_MODEL: a folder, or a hub id that this machine can reach.",
    )


def _end_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    ends = generation_config.eos_token_id
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids = tuple(dict.fromkeys([*own, *known]))
    if not ids:
        raise ModelError("The base model has no end-of-text token.", why="Rationales would never end.")
    return ids


def _hints(folder: Path | None) -> dict[str, str]:
    path = folder / HINTS_FILE if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        hints = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{path} is not JSON: {error}.", todo='Write {"why": "..."} or remove it.'
        ) from error
    if not isinstance(hints, dict) or not isinstance(hints.get("why", ""), str):
        raise ModelError(f"{path} holds {hints!r}.", todo='Write {"why": "..."} or remove it.')
    return hints


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _revision(model: Any) -> str:
    return getattr(model.config, "_commit_hash", None) or "unknown"
