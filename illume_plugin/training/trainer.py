"""Training one adapter with the Hugging Face Trainer."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from illume_plugin.base_model import BaseModel
from illume_plugin.errors import ModelError, RunError
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.micro_batch import MicroBatch
from illume_plugin.training.objective import IllumeObjective, Objective
from illume_plugin.training.packing import Packing
from illume_plugin.training.step import step_share, step_totals
from illume_plugin.training.steps import StepLoader, StepSampler
from illume_plugin.training.traits import Traits
from illume_plugin.training.ways import Ways
from illume_plugin.types import TrainingRow

#: Called after every optimiser step: step, steps in all, loss, seconds left.
Progress = Callable[[int, int, float, float], None]


def train_adapter(
    base: BaseModel,
    name: str,
    rows: Sequence[TrainingRow],
    images: Mapping[str, Path],
    config: TrainConfig,
    *,
    parent: Path | None,
    scratch: Path,
    progress: Progress,
) -> int:
    """Train an adapter called `name` on `base` and leave it loaded.

    Args:
        images: picture of a row -> local file.
        parent: adapter folder to continue from, with a fresh optimiser; None: from the base model.
        scratch: folder for the Trainer.
        progress: told after every step.

    Returns:
        The number of optimiser steps.

    Raises:
        RunError: the loss is no longer a finite number.
        ModelError: the parent adapter, or LoRA at all, does not fit this base model.
    """
    set_seed(config.seed)
    if parent is not None and not config.fresh:
        base.adapters.load(name, parent)
    else:
        with base.adapters.using(None) as model:
            layers = config.target_modules or language_layers(model)
        base.adapters.create(name, lora_config(config, layers))
    accepted = sum(row.rationale is not None for row in rows)
    objectives = [IllumeObjective(config.w(answer_only=len(rows) - accepted, accepted=accepted))]
    scratch.mkdir(parents=True, exist_ok=True)
    with base.adapters.training(name) as model, TemporaryDirectory(dir=scratch) as pictures:
        ways = Ways(base, model, balanced(rows, config.task_balance), images, config, Path(pictures))
        sampler = StepSampler([row.key for row in ways.rows], batch_size=config.batch_size, seed=config.seed)
        trainer = IllumeTrainer(
            model,
            packing=ways.choose(next(iter(sampler)), objectives).packing,
            sampler=sampler,
            objectives=objectives,
            args=arguments_of(config, scratch, base.device),
            train_dataset=ways.rows,
            callbacks=[StepReport(progress)],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to standard output, which is the parent's
        return int(trainer.train().global_step)


def balanced(rows: Sequence[TrainingRow], balance: float) -> list[TrainingRow]:
    """The rows, with a rationale's weight divided by (number of its task's rationales) ** balance."""
    of_task = Counter(row.task_id for row in rows if row.rationale is not None)
    return [
        row if row.rationale is None else replace(row, weight=row.weight * of_task[row.task_id] ** -balance)
        for row in rows
    ]


def lora_config(config: TrainConfig, target_modules: str) -> LoraConfig:
    """LoRA settings for the layers whose full names match `target_modules`."""
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_modules,
        task_type="CAUSAL_LM",
    )


def language_layers(model: Any) -> str:
    """A pattern for the linear layers in the blocks of the language part, and no others.

    Raises:
        ModelError: the architecture does not say which part is the language part.
    """
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = bare.get_decoder()
    prefix = next((name for name, module in bare.named_modules() if module is decoder), None)
    leaves = _linear_leaves(decoder) if prefix and decoder is not None else []
    if not leaves:
        raise ModelError(
            f"The language blocks of {type(bare).__name__} cannot be told from the rest.",
            why="Only they are trained.",
            todo="Name the layers yourself with the training setting target_modules.",
        )
    return rf"{re.escape(str(prefix))}\.layers\..*\.({'|'.join(map(re.escape, leaves))})"


def _linear_leaves(decoder: Any) -> list[str]:
    names = {
        n for n, m in decoder.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("layers.")
    }
    # A wrapped layer shows its parts, e.g. "layers.0.mlp.up_proj.base_layer".
    inner = re.compile(r"\.(base_layer|lora_[AB])\b.*")
    return sorted({inner.sub("", name).rpartition(".")[2] for name in names})


class IllumeTrainer(Trainer):  # type: ignore[misc]
    """The Trainer, whose every batch is a whole optimiser step: `training_step` splits it as memory wants.

    So the means of the objectives run over the step, and several processes share the work of one step
    without changing it: each computes its part of the same micro-batches.

    Args:
        packing: how rows are computed.
        sampler: which rows make up each step.
    """

    def __init__(
        self,
        model: Any,
        *,
        packing: Packing,
        sampler: StepSampler,
        objectives: Sequence[Objective],
        **settings: Any,
    ) -> None:
        super().__init__(model=model, **settings)
        self._packing = packing
        self._sampler = sampler
        self._objectives = objectives
        self._traits = Traits.of(model)

    def get_train_dataloader(self) -> StepLoader:
        """The steps' row numbers, the same in every process."""
        return StepLoader(len(self.train_dataset), self._sampler)

    def training_step(
        self,
        model: Any,
        inputs: list[int],
        num_items_in_batch: Any = None,  # noqa: ARG002 - the objectives count for themselves
    ) -> torch.Tensor:
        """Add up the gradients of one optimiser step; returns its loss."""
        model.train()
        batches = self._packing.micro_batches(inputs)
        totals = step_totals(batches, self._objectives, self.args.device)
        # Processes average their gradients, and each has a part of the sum.
        processes = self.args.world_size
        mine = batches[self.args.process_index :: processes]
        scale = processes if mine else 0  # with nothing to do it must take part all the same
        loss = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(mine or batches[:1], start=1):
            more = number < len(mine)
            with self.accelerator.no_sync(model) if more else nullcontext():
                share = scale * self.compute_loss(model, batch, num_items_in_batch=totals)
                self.accelerator.backward(share)
            loss += share.detach()
        return loss

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
        loss = step_share(model, self._packing, inputs, self._traits, self._objectives, totals)
        return (loss, None) if return_outputs else loss

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Not counted: a batch here is a list of row numbers."""
        return 0


class StepReport(TrainerCallback):  # type: ignore[misc]
    """Tells the progress after every step and stops a run whose loss is no longer a number."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._started = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:  # noqa: ARG002
        """Pass on the loss of the step that has just been made."""
        if "loss" not in logs:
            return
        loss, step, steps = float(logs["loss"]), int(state.global_step), int(state.max_steps)
        if not math.isfinite(loss):
            raise RunError(
                f"The loss became {loss} at step {step} of {steps}.",
                why="The adapter is broken from here on; it is thrown away.",
                todo="Train again with a smaller learning_rate.",
            )
        per_step = (time.monotonic() - self._started) / step
        self._progress(step, steps, loss, per_step * (steps - step))


def arguments_of(config: TrainConfig, scratch: Path, device: torch.device) -> TrainingArguments:
    """The Trainer's settings for a run.

    Args:
        scratch: folder for the Trainer.
    """
    arguments = TrainingArguments(
        output_dir=str(scratch),
        use_cpu=device.type == "cpu",
        per_device_train_batch_size=config.batch_size,  # a batch is a step, see IllumeTrainer
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup,  # below 1 it is a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise the Trainer splits batches over GPUs by itself; torchrun is the way
    return arguments
