"""A Trainer that goes on exactly where it was: its state in and out of our checkpoints."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from transformers import Trainer

from illume_plugin.errors import RunError
from illume_plugin.training.checkpoints import TRAINER_FILE, Checkpoint, Checkpoints
from illume_plugin.training.random_state import Tensors, random_state, set_random_state

#: Of the optimiser's settings, those that change while it runs.
_CHANGING = ("lr", "initial_lr")
log = logging.getLogger(__name__)


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with checkpoints of our own: atomic, without pickles, of the trained weights alone.

    Args:
        checkpoints: where they are; None: none are written.
        resumed: the one to go on from.
    """

    def __init__(
        self, *, checkpoints: Checkpoints | None = None, resumed: Checkpoint | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._checkpoints = checkpoints
        self._resumed = resumed
        self._saved_step = resumed.step if resumed else 0

    def go(self) -> int:
        """Train to the end, from the checkpoint where there is one; returns the number of steps in all."""
        resumed = self._resumed
        if resumed is not None and resumed.step >= self._steps():
            self.create_optimizer()
            self._load_optimizer_and_scheduler(str(resumed.folder))
            return resumed.step
        return int(self.train(resume_from_checkpoint=resumed and str(resumed.folder)).global_step)

    def checkpoint_facts(self) -> dict[str, Any]:
        """What else a checkpoint must say, as JSON; see `take_facts`."""
        return {}

    def checkpoint_tensors(self) -> dict[str, Tensors]:
        """What else a checkpoint must hold: name of a file -> its tensors."""
        return {}

    def trained(self) -> Tensors:
        """Every weight that the optimiser changes, by name, in its order."""
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        return {
            f"{index:05d}.{names.get(id(weight), 'beside the model')}": weight
            for index, weight in enumerate(weights)
        }

    def take_weights(self, found: Tensors, whose: str) -> None:
        """Put weights that `trained` gave back into the model.

        Raises:
            RunError: they are not those that are trained now.
        """
        trained = self.trained()
        if {name: weight.shape for name, weight in trained.items()} != {
            name: weight.shape for name, weight in found.items()
        }:
            raise RunError(
                f"{whose} does not fit what is trained now.",
                why="It was written by another version of ILLUME or of its libraries.",
                todo="Remove that folder and start the run again.",
            )
        with torch.no_grad():
            for name, weight in trained.items():
                weight.copy_(found[name])

    def save_now(self, random: Tensors | None = None) -> Checkpoint | None:
        """Write a checkpoint of the last completed step, unless there is one.

        Args:
            random: where the random number generators were then; None: where they are.
        """
        step = int(self.state.global_step)
        if self._checkpoints is None or not step or step == self._saved_step:
            return None
        began = time.monotonic()
        if self.args.should_save:
            self._write(self._checkpoints, self._checkpoints.open_draft(step) / TRAINER_FILE)
        self.accelerator.wait_for_everyone()
        self._checkpoints.put(step, f"random-{self.args.process_index}", random or random_state())
        self.accelerator.wait_for_everyone()
        self._saved_step = step
        if not self.args.should_save:
            return None
        written = self._checkpoints.publish(step, self._facts())
        took = time.monotonic() - began
        log.info("checkpoint after step %d: %.1f MB in %.2f s", step, written.size / 1e6, took)
        return written

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002 - the Trainer's signature
        self.save_now()

    def _write(self, checkpoints: Checkpoints, trainer_file: Any) -> None:
        step = int(self.state.global_step)
        state = self.optimizer.state_dict()["state"]
        kept = {
            f"{index:05d}.{key}": value
            for index, values in state.items()
            for key, value in values.items()
            if isinstance(value, torch.Tensor)
        }
        files = {"weights": self.trained(), "optimizer": kept, **self.checkpoint_tensors()}
        for name, tensors in files.items():
            checkpoints.put(step, name, tensors)
        self.state.save_to_json(str(trainer_file))

    def _facts(self) -> dict[str, Any]:
        groups = self.optimizer.param_groups
        scaler = getattr(self.accelerator, "scaler", None)
        return {
            **self.checkpoint_facts(),
            "processes": self.args.world_size,
            "groups": [{key: group[key] for key in _CHANGING if key in group} for group in groups],
            "schedule": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def _steps(self) -> int:
        loader = self.get_train_dataloader()
        return int(self.set_initial_training_values(self.args, loader)[-1])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing yet: weights come with the optimiser, which knows all of them."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:  # noqa: ARG002
        resumed = self._resumed
        if resumed is None:
            return
        self.take_weights(resumed.tensors("weights"), f"The checkpoint {resumed.folder}")
        if self.lr_scheduler is None:  # nothing is left to train
            return
        states: dict[int, Tensors] = {}
        for name, value in resumed.tensors("optimizer").items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        for group, kept in zip(groups, resumed.facts["groups"], strict=True):
            group.update(kept)
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.lr_scheduler.load_state_dict(dict(resumed.facts["schedule"]))

    def _load_scaler(self, checkpoint: str | None) -> None:  # noqa: ARG002
        if self._resumed is not None and self._resumed.facts["scaler"]:
            self.accelerator.scaler.load_state_dict(dict(self._resumed.facts["scaler"]))

    def _load_rng_state(self, checkpoint: str | None) -> None:  # noqa: ARG002
        if self._resumed is None:
            return
        name = f"random-{self.args.process_index}"
        if self._resumed.facts["processes"] != self.args.world_size or not self._resumed.has(name):
            log.warning("Other processes than before: dropout goes on with other random numbers.")
            return
        set_random_state(self._resumed.tensors(name))
