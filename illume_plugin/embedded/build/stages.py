"""What is finished of a build, so that one that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from torch import nn

#: Folder of the finished stages inside the output folder; it goes when the build is done.
FOLDER = ".stages"


class Stages:
    """The finished stages of one build.

    A stage is known by everything that its result follows from: its own numbers, and those of all stages
    before it. So a changed recipe repeats the first stage that it changes, and what comes after.
    """

    def __init__(self, out: Path, report: Callable[[str], None], **beginning: Any) -> None:
        self._folder = out / FOLDER
        self._report = report
        self._before = _hash("", beginning)

    def do(self, name: str, module: nn.Module, work: Callable[[], None], **numbers: Any) -> None:
        """Train `module` by `work`, or give it the weights that an earlier call left."""
        from safetensors.torch import load_file, save_file

        self._before = _hash(self._before, {"stage": name, **numbers})
        path = self._folder / f"{name}-{self._before}.safetensors"
        if path.is_file():
            module.load_state_dict(load_file(path))
            self._report(f"{name}: done before")
            return
        work()
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}-{path.name}")
        # copies: tied weights share their memory, which safetensors refuses
        save_file({key: value.detach().clone() for key, value in module.state_dict().items()}, partial)
        partial.replace(path)

    def clear(self) -> None:
        """Forget them all."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _hash(before: str, numbers: Any) -> str:
    text = json.dumps([before, numbers], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} is no number of a recipe")
