"""LoRA adapters that live beside each other on one base model, switched under one lock.

A loaded adapter's weights are never overwritten: a new version gets a new name. The base model itself
is adapter `None`. A folder that does not fit is refused before or while it is loaded and leaves the
model and the other adapters as they were.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from illume_plugin.base_model.twins import add_beside, twin_of
from illume_plugin.errors import ModelError

# peft 0.21 reads an attribute that transformers 5.23 has renamed; nobody who trains can do anything about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


class Adapters:
    """Named LoRA adapters on one model.

    Every use of the model goes through `using`, which holds the lock: one forward pass at a time, and
    no adapter is loaded or dropped during it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.RLock()
        #: The adapter that is switched on for use, where that is known.
        self._on: str | None = None

    @property
    def names(self) -> list[str]:
        """Names of the loaded adapters."""
        return list(self._model.peft_config) if isinstance(self._model, PeftModel) else []

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """The model with adapter `name` switched on (None: the base model), for this thread alone.

        Raises:
            ModelError: no adapter of that name is loaded.
        """
        with self._lock:
            if self._model.training:  # an epoch is scored between two steps, and dropout would be noise
                self._model.eval()
            if name is None and not self.names:
                yield self._model
            elif name is None:
                with self._model.disable_adapter():
                    yield self._model
            else:
                self._switch_on(name)
                yield self._model

    def _switch_on(self, name: str) -> None:
        self._must_have(name)
        if self._on != name:  # peft walks over the whole model for it
            self._model.set_adapter(name, inference_mode=True)
            self._on = name

    @contextmanager
    def training(self, name: str) -> Iterator[Any]:
        """The model with the weights of adapter `name`, and only those, ready to be trained."""
        with self._lock:
            self._must_have(name)
            self._on = None
            self._model.set_adapter(name, inference_mode=False)
            try:
                yield self._model
            finally:
                self._model.eval()

    def load(self, name: str, folder: Path) -> None:
        """Load the adapter in `folder` beside the others.

        Raises:
            ModelError: the folder is not a plain LoRA adapter, or it does not fit this base model.
        """
        config, weights = _read(folder)
        with self._lock:
            self._must_be_new(name)
            twin = twin_of(self._model, config)
            if twin and add_beside(self._model, twin, name, config, weights):
                return
            self._add(name, config)
            try:
                fits = set_peft_model_state_dict(self._model, weights, adapter_name=name)
            except (RuntimeError, KeyError, ValueError) as error:
                self.drop(name)
                raise _misfit(folder, _first_line(error)) from error
            if missing := _gaps(fits, name):
                self.drop(name)
                raise _misfit(folder, f"{len(missing)} weights do not match, the first is {missing[0]}")

    def create(self, name: str, config: LoraConfig) -> None:
        """Add a new adapter that changes nothing until it is trained."""
        with self._lock:
            self._add(name, config)

    def drop(self, name: str) -> None:
        """Forget adapter `name`; the last one to go leaves the bare base model."""
        with self._lock:
            self._must_have(name)
            self._on = None
            others = [other for other in self.names if other != name]
            if others:
                self._model.set_adapter(others[0], inference_mode=True)  # one in use cannot be deleted
                self._model.delete_adapter(name)
            else:
                self._model = self._model.unload()

    def save(self, name: str, folder: Path) -> None:
        """Write adapter `name` as a plain PEFT folder: weights as safetensors, configuration as JSON.

        Raises:
            ModelError: a weight is NaN or infinite.
        """
        with self._lock:
            self._must_have(name)
            state = get_peft_model_state_dict(self._model, adapter_name=name)
            weights = {key: value.detach().to("cpu").contiguous() for key, value in state.items()}
            _must_be_finite(weights, f"The weights of adapter {name!r}")
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
            self._save_config(name, folder)

    def _save_config(self, name: str, folder: Path) -> None:
        config = self._model.peft_config[name]
        kept = config.inference_mode, config.base_model_name_or_path
        # The path of one machine means nothing on another; the base model's hash is in meta.json.
        config.inference_mode, config.base_model_name_or_path = True, None
        try:
            config.save_pretrained(folder)
        finally:
            config.inference_mode, config.base_model_name_or_path = kept

    def _must_be_new(self, name: str) -> None:
        if not name or "." in name:
            raise ModelError(f"Adapter name {name!r} is empty or holds a dot.", why="PyTorch refuses it.")
        if name in self.names:
            raise ModelError(
                f"An adapter named {name!r} is loaded already.",
                why="Loaded weights are never overwritten: requests may be using them.",
                todo="Drop it first or choose another name.",
            )

    def _add(self, name: str, config: Any) -> None:
        self._must_be_new(name)
        self._on = None
        try:
            if isinstance(self._model, PeftModel):
                self._model.add_adapter(name, config)
            else:
                self._model = PeftModel(self._model, config, adapter_name=name)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ModelError(
                f"Adapter {name!r} does not fit this base model: {_first_line(error)}",
                todo="Use it with the base model that it was trained on.",
            ) from error
        self._model.eval()

    def _must_have(self, name: str) -> None:
        if name not in self.names:
            raise ModelError(
                f"No adapter named {name!r} is loaded.",
                why=f"Loaded are: {', '.join(self.names) or 'none'}.",
                todo="Load it first.",
            )


def _read(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder} is not an adapter: {' and '.join(missing)} missing.",
            why="Adapters are read from safetensors only, never from pickles.",
        )
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise _misfit(folder, _first_line(error)) from error
    if not isinstance(config, LoraConfig):
        raise _misfit(folder, f"its type is {config.peft_type}, not LORA")
    _must_be_finite(weights, f"The adapter in {folder}")
    return config, weights


def _gaps(fits: Any, name: str) -> list[str]:
    missing = [key for key in fits.missing_keys if f".{name}." in key or key.endswith(f".{name}")]
    return [*fits.unexpected_keys, *missing]


def _must_be_finite(weights: dict[str, torch.Tensor], whose: str) -> None:
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise ModelError(
                f"{whose}: {key} holds NaN or infinite numbers.",
                why="Every answer would be noise.",
                todo="Train again with a smaller learning rate.",
            )


def _misfit(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"The adapter in {folder} cannot be loaded: {reason}.",
        why="It is damaged, or it was trained on another base model.",
        todo="Publish it again, or roll back to a version that loads.",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
