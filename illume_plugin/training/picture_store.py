"""Tensors of a run's pictures: as many in memory as a limit allows, the others in files of the run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from illume_plugin.errors import RunError

Tensors = dict[str, torch.Tensor]

#: Bytes of pictures kept in memory. A picture takes 0.2 MB (196 tokens of 576) to 23 MB (2,900 of 4,096).
IN_MEMORY = 2 << 30


class PictureStore:
    """Keeps named tensors of each picture for as long as a run lasts.

    What is used least recently goes to a safetensors file when memory is full, and comes back from there.

    Args:
        folder: of the run, for the files; made when the first one is needed.
        in_memory: bytes kept in memory.
    """

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self._limit = in_memory
        self._held: OrderedDict[str, Tensors] = OrderedDict()
        self._bytes = 0
        self._files: dict[str, Path] = {}

    def __contains__(self, picture: str) -> bool:
        return picture in self._held or picture in self._files

    def put(self, picture: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keep the tensors of a picture that is not in here yet.

        Raises:
            RunError: memory is full and the file cannot be written.
        """
        self._hold(picture, {name: tensor.detach().to("cpu") for name, tensor in tensors.items()})

    def get(self, picture: str) -> Tensors:
        """The tensors of a picture that is in here."""
        if picture in self._held:
            self._held.move_to_end(picture)
        else:
            self._hold(picture, load_file(self._files[picture]))
        return self._held[picture]

    def _hold(self, picture: str, tensors: Tensors) -> None:
        self._held[picture] = tensors
        self._bytes += _size(tensors)
        while self._bytes > self._limit and len(self._held) > 1:
            oldest, gone = self._held.popitem(last=False)
            self._bytes -= _size(gone)
            if oldest not in self._files:
                self._files[oldest] = self._write(gone)

    def _write(self, tensors: Tensors) -> Path:
        path = self._folder / f"{len(self._files)}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        except OSError as error:
            raise RunError(
                f"What the model sees in the pictures cannot be kept in {self._folder}: {error}.",
                why=f"It is computed once in a run; more than {self._limit >> 20} MiB go to disk.",
                todo="Make room on that disk and train again.",
            ) from error
        return path


def _size(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
