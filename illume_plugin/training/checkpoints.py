"""Checkpoints of a run on disk: folders that are complete or not there, and hold no pickle.

    CHECKPOINTS/step-00000040/weights.safetensors     every weight that is trained, in its own type
                              optimizer.safetensors   what the optimiser keeps of each
                              random-0.safetensors    random number generators, one file for each process
                              trainer_state.json      the Trainer's own state
                              checkpoint.json         written last: step, run, schedule, size of each file

A checkpoint is written under another name, reaches the disk, and is then renamed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from illume_plugin.errors import RunError
from illume_plugin.fault_points import point

FACTS_FILE = "checkpoint.json"
#: The Trainer reads it by this name.
TRAINER_FILE = "trainer_state.json"

_NAME = re.compile(r"step-(\d{8})")
_DRAFT = ".draft-"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        step: optimiser steps made.
        facts: what `Checkpoints.publish` was given.
        size: bytes of all files.
    """

    folder: Path
    step: int
    facts: Mapping[str, Any]
    size: int

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one of its files.

        Raises:
            RunError: it cannot be read.
        """
        try:
            return load_file(self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"The checkpoint {self.folder} cannot be read: {error}.",
                why="The run cannot go on from there.",
                todo="Remove that folder and start the run again; it goes on from the one before.",
            ) from error

    def has(self, name: str) -> bool:
        """Whether there is such a file of tensors."""
        return (self.folder / f"{name}.safetensors").is_file()


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: what the run is, as one text; checkpoints of any other run are not gone on from.
        kept: how many stay, the newest.
    """

    def __init__(self, folder: Path, *, run: str, kept: int = 2) -> None:
        self._folder = folder
        self._run = run
        self._kept = kept

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint of this run; the log says which ones cannot be used, and why."""
        for path in sorted(self._folder.glob("step-*"), reverse=True):
            try:
                return self._read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("The checkpoint %s is not used: %s.", path, error)
        return None

    def draft(self, step: int) -> Path:
        """The folder that a checkpoint is written into until it is complete."""
        return self._folder / f"{_DRAFT}{step:08d}"

    def open_draft(self, step: int) -> Path:
        """Make the draft's folder anew, empty.

        Raises:
            RunError: there is no room for it.
        """
        try:
            shutil.rmtree(self.draft(step), ignore_errors=True)
            self.draft(step).mkdir(parents=True)
        except OSError as error:
            raise self._no_room(error) from error
        return self.draft(step)

    def put(self, step: int, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write a file of tensors into the draft.

        Raises:
            RunError: there is no room for it.
        """
        plain = {key: tensor.detach().to("cpu").contiguous() for key, tensor in tensors.items()}
        try:
            save_file(plain, self.draft(step) / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise self._no_room(error) from error

    def publish(self, step: int, facts: Mapping[str, Any]) -> Checkpoint:
        """Complete the draft: it is there from now on, also after a power failure; older ones go.

        Raises:
            RunError: there is no room for it.
        """
        draft, final = self.draft(step), self._folder / f"step-{step:08d}"
        try:
            sizes = {path.name: path.stat().st_size for path in draft.iterdir()}
            written = {"step": step, "run": self._run, "sizes": sizes, "facts": dict(facts)}
            (draft / FACTS_FILE).write_text(json.dumps(written), encoding="utf-8")
            for path in [*draft.iterdir(), draft]:
                _sync(path)
            shutil.rmtree(final, ignore_errors=True)  # of the same step: a run went on from an older one
            point("checkpoint.before_rename")
            draft.rename(final)
            _sync(self._folder)
            point("checkpoint.after_rename")
        except OSError as error:
            raise self._no_room(error) from error
        self._prune()
        return Checkpoint(final, step, dict(facts), sum(sizes.values()))

    def _read(self, path: Path) -> Checkpoint:
        known = json.loads((path / FACTS_FILE).read_text(encoding="utf-8"))
        if known["run"] != self._run:
            raise ValueError("it is of a run with other data or settings")
        for name, size in known["sizes"].items():
            if (path / name).stat().st_size != size:
                raise ValueError(f"{name} has not the size that it was written with")
        return Checkpoint(path, int(known["step"]), known["facts"], sum(known["sizes"].values()))

    def _prune(self) -> None:
        complete = sorted(path for path in self._folder.glob("step-*") if _NAME.fullmatch(path.name))
        drafts = self._folder.glob(f"{_DRAFT}*")
        for path in [*complete[: -self._kept], *drafts]:
            shutil.rmtree(path, ignore_errors=True)

    def _no_room(self, error: Exception) -> RunError:
        return RunError(
            f"A checkpoint cannot be written to {self._folder}: {error}.",
            why="Without it the run could not go on after an interruption.",
            todo="Make room on that disk and start the run again.",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
