"""The settings of a run as the Hugging Face Trainer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from illume_plugin.errors import SettingsError
from illume_plugin.training.config import TrainConfig


def arguments_of(
    config: TrainConfig, scratch: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> TrainingArguments:
    """The Trainer's settings for a run.

    Args:
        scratch: folder for the Trainer.
        dtype: of the base model's weights.

    Raises:
        SettingsError: the device cannot compute like that, or a tracker is not installed.
    """
    _trackers_are_there(config.report_to)
    if config.precision == "fp16" and device.type == "cpu":
        raise SettingsError(
            "precision is fp16, and the run is on a processor.",
            why="Gradients are scaled for fp16 on GPUs only.",
            todo="Take fp32 or bf16.",
        )
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
        save_strategy="no",  # see SaveOften
        report_to=list(config.report_to) or "none",
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16" or (config.precision == "auto" and dtype == torch.float16),
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise the Trainer splits batches over GPUs by itself; torchrun is the way
    return arguments


def _trackers_are_there(names: Sequence[str]) -> None:
    there = get_available_reporting_integrations()
    if missing := [name for name in names if name not in there]:
        raise SettingsError(
            f"report_to names {', '.join(missing)}, which cannot be reported to here.",
            why=f"Installed trackers: {', '.join(there) or 'none'}.",
            todo="Install the tracker's package beside ILLUME, or leave its name out.",
        )
