"""Writes the model as the folder that transformers and vLLM both load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from illume_plugin.embedded.build.tokens import WHY

#: transformers writes the short name and reads both; vLLM reads the long one alone.
_SHORT, _LONG = "vision_tower.", "vision_tower.vision_model."


def save(model: Any, processor: Any, folder: Path) -> None:
    """Write weights in float16, configuration, processor and ILLUME's hints into `folder`."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {_long_name(name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves it to the owner alone, and the wheel takes it over
    (folder / "illume.json").write_text(json.dumps({"why": WHY}))


def _long_name(name: str) -> str:
    return name if name.startswith(_LONG) else name.replace(_SHORT, _LONG, 1)
