"""The Trainer whose every batch is a whole optimiser step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from illume_plugin.errors import RunError, RunStoppedError
from illume_plugin.training.best_epoch import BestEpoch
from illume_plugin.training.guards import free_memory, is_out_of_memory, not_finite_error, smaller
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import Objective
from illume_plugin.training.packing import Packing
from illume_plugin.training.random_state import Tensors, random_state, set_random_state
from illume_plugin.training.reports import AtEpochEnd
from illume_plugin.training.resumable import ResumableTrainer
from illume_plugin.training.step import Figures, step_share, step_totals
from illume_plugin.training.steps import StepLoader, StepSampler
from illume_plugin.training.traits import Traits

#: Name of the best epoch in a checkpoint.
_BEST = "best"
log = logging.getLogger(__name__)


class IllumeTrainer(ResumableTrainer):
    """The Trainer, whose every batch is a whole optimiser step: `training_step` splits it as memory wants.

    So the means of the objectives run over the step, and several processes share the work of one step
    without changing it: each computes its part of the same micro-batches.

    Args:
        packing: how rows are computed.
        sampler: which rows make up each step.
        stopping, notice, score: see `train_adapter`.
    """

    def __init__(
        self,
        model: Any,
        *,
        packing: Packing,
        sampler: StepSampler,
        objectives: Sequence[Objective],
        stopping: Callable[[], bool] = lambda: False,
        notice: Callable[[str], None] = log.warning,
        score: Callable[[], Sequence[float]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model=model, **settings)
        self._packing = packing
        self._sampler = sampler
        self._objectives = objectives
        self._traits = Traits.of(model)
        self._stopping = stopping
        self._notice = notice
        self._figures = Figures()
        self._random: Tensors = {}
        self._numbers: list[int] = []
        self._best = BestEpoch()
        if score is not None:
            self.add_callback(AtEpochEnd(partial(self._offer_epoch, score)))
        if self._resumed is not None:
            packing.size = int(self._resumed.facts["micro_batch_size"])
            if self._resumed.has(_BEST):
                self._best = BestEpoch(**self._resumed.facts[_BEST], weights=self._resumed.tensors(_BEST))

    def go(self) -> int:
        """Train to the end, then take the best epoch where one was asked for; returns the number of steps."""
        steps = super().go()
        if self._best.epoch:
            self.take_weights(self._best.weights, "The best epoch")
            told = ", ".join(f"{value:.4g}" for value in self._best.score)
            self._notice(f"Epoch {self._best.epoch} is kept, the best on held-out tasks ({told}).")
        return steps

    def get_train_dataloader(self) -> StepLoader:
        """The steps' row numbers, the same in every process."""
        return StepLoader(len(self.train_dataset), self._sampler)

    def training_step(
        self,
        model: Any,
        inputs: list[int],
        num_items_in_batch: Any = None,  # noqa: ARG002 - the objectives count for themselves
    ) -> torch.Tensor:
        """Add up the gradients of one optimiser step; returns its loss.

        Where memory runs out, the step is made again in smaller parts.

        Raises:
            RunError: the loss is no number, or memory is too small for one row.
            RunStoppedError: the run is to stop; it has written a checkpoint.
        """
        self._numbers, self._random = inputs, random_state()
        while (loss := self._attempt(model, inputs)) is None:
            model.zero_grad()
            free_memory()
            set_random_state(self._random)
        self._must_be_finite(loss, "loss")
        return loss

    def _attempt(self, model: Any, inputs: list[int]) -> torch.Tensor | None:
        """The step's loss; None where memory ran out, and less is taken at a time from now on."""
        try:
            return self._sum_of_parts(model, inputs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self._take_less()
        return None

    def _sum_of_parts(self, model: Any, inputs: list[int]) -> torch.Tensor:
        model.train()
        self._figures.take()  # those of an attempt that was given up
        batches = self._packing.micro_batches(inputs)
        processes = self.args.world_size
        mine = batches[self.args.process_index :: processes]
        totals = self._totals(batches, mine)
        # Processes average their gradients, and each has a part of the sum.
        scale = processes if mine else 0  # with nothing to do it must take part all the same
        loss = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(mine or batches[:1], start=1):
            self._stop_if_asked()
            more = number < len(mine)
            with self.accelerator.no_sync(model) if more else nullcontext():
                share = scale * self.compute_loss(model, batch, num_items_in_batch=totals)
                self.accelerator.backward(share)
            loss += share.detach()
        if not mine:
            self._figures.make_zero()
        return loss

    def _totals(self, batches: Sequence[MicroBatch], mine: Sequence[MicroBatch]) -> list[torch.Tensor]:
        """What each objective normalises by, over the whole step; each process counts its part."""
        found = step_totals(mine or batches[:1], self._objectives, self.args.device)
        if self.args.world_size == 1:
            return found
        found = found if mine else [torch.zeros_like(each) for each in found]
        summed: list[torch.Tensor] = self.accelerator.reduce(found, reduction="sum")
        return summed

    def compute_loss(
        self,
        model: Any,
        inputs: MicroBatch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """This micro-batch's share of the step's loss.

        Args:
            num_items_in_batch: the step's totals of each objective; None: the micro-batch is the step.
        """
        totals = num_items_in_batch or step_totals([inputs], self._objectives, self.args.device)
        loss = step_share(model, self._packing, inputs, self._traits, self._objectives, totals, self._figures)
        return (loss, None) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **more: Any) -> None:
        """Log, and with the loss of a step those of each objective and their statistics."""
        if "loss" in logs:
            logs = {**logs, **self._step_figures()}
        super().log(logs, *args, **more)

    def _step_figures(self) -> dict[str, float]:
        """`objective/figure` -> value of the last step, the parts of all processes together."""
        mine = self._figures.take()
        if not mine:
            return {}
        summed = self.accelerator.reduce(torch.stack(list(mine.values())), reduction="sum")
        return dict(zip(mine, summed.tolist(), strict=True))

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Not counted: a batch here is a list of row numbers."""
        return 0

    def checkpoint_facts(self) -> dict[str, Any]:
        """How much is computed at a time (sums of other parts are rounded otherwise), and the best epoch."""
        return {"micro_batch_size": self._packing.size, _BEST: self._best.facts()}

    def checkpoint_tensors(self) -> dict[str, Tensors]:
        """The weights of the best epoch, where there is one."""
        return {_BEST: self._best.weights} if self._best.epoch else {}

    def _offer_epoch(self, score: Callable[[], Sequence[float]]) -> None:
        before = random_state()
        self._best.offer(math.ceil(self.state.epoch), score(), self.trained())
        set_random_state(before)  # an epoch that is scored goes on like one that is not

    def _stop_if_asked(self) -> None:
        if not self._stopping():
            return
        if self.args.world_size == 1:  # several processes may have come differently far
            self.save_now(self._random)
        raise RunStoppedError(
            f"The run was stopped after step {self._saved_step} of {self.state.max_steps}.",
            why="Nothing was changed.",
            todo="Resume it: it goes on from there.",
        )

    def _take_less(self) -> None:
        if self.args.world_size > 1:
            raise RunError(
                f"Memory ran out with {self._packing.size} rows at a time.",
                why="Several processes cannot change that together while they run.",
                todo="Train with a smaller micro_batch_size or with gradient_checkpointing.",
            )
        when = f"at step {self.state.global_step + 1}"
        self._packing.size = smaller(self._packing.size, when, self._notice)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if getattr(self.accelerator, "scaler", None) is None:  # fp16 leaves out such steps by itself
            self._must_be_finite(norm, "gradient")
        return norm

    def _must_be_finite(self, value: Any, what: str) -> None:
        if math.isfinite(float(value)):
            return
        self.model.zero_grad()
        where = f"at step {self.state.global_step + 1} of {self.state.max_steps}"
        raise not_finite_error(
            f"The {what} became {float(value)}", where, self.model, self._packing, self._numbers, self._traits
        )
