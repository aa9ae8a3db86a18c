"""Training one adapter with the Hugging Face Trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PrinterCallback, set_seed

from illume_plugin.base_model import BaseModel
from illume_plugin.errors import RunError
from illume_plugin.examples import ObjectiveName
from illume_plugin.training.anchors import with_own_anchors
from illume_plugin.training.arguments import arguments_of
from illume_plugin.training.checkpoints import Checkpoints
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.contrast_objective import projection_head
from illume_plugin.training.guards import until_it_fits
from illume_plugin.training.lora import language_layers, lora_config
from illume_plugin.training.negative_draws import with_negatives
from illume_plugin.training.objective import Objective
from illume_plugin.training.reference import reference_logps
from illume_plugin.training.reports import (
    DivergenceGuard,
    Figured,
    Progress,
    SaveOften,
    StepReport,
)
from illume_plugin.training.run_objectives import run_objectives
from illume_plugin.training.sharing import Share
from illume_plugin.training.step_trainer import IllumeTrainer
from illume_plugin.training.terms import run_terms
from illume_plugin.training.ways import Ways
from illume_plugin.types import TrainingSet

log = logging.getLogger(__name__)


def train_adapter(
    base: BaseModel,
    name: str,
    training_set: TrainingSet,
    images: Mapping[str, Path],
    config: TrainConfig,
    *,
    parent: Path | None,
    scratch: Path,
    progress: Progress,
    figures: Figured = lambda _: None,
    checkpoints: Checkpoints | None = None,
    stopping: Callable[[], bool] = lambda: False,
    notice: Callable[[str], None] = log.warning,
    score: Callable[[], Sequence[float]] | None = None,
    negatives: Path | None = None,
) -> int:
    """Train an adapter called `name` on `base` and leave it loaded.

    Args:
        images: picture of a row -> local file.
        parent: adapter folder to continue from, with a fresh optimiser; None: from the base model.
        scratch: folder for the Trainer.
        progress: told after every step.
        figures: told just before, what the step gave for each objective.
        checkpoints: where they are written; the newest one that is there is gone on from, exactly.
        stopping: asked between micro-batches; yes: a checkpoint is written and the run stops.
        notice: told in words what the run does otherwise than it was told to.
        negatives: file that pairs made to be wrong are kept in, for a run that is resumed.
        score: what an epoch's adapter is worth, called after each; the best one is kept. None: the last is.

    Returns:
        The number of optimiser steps.

    Raises:
        RunError: there is nothing to learn from, the loss is no longer a finite number or diverges, memory
            is too small for one row, or there is no room for a checkpoint.
        RunStoppedError: it was asked to stop.
        ModelError: the parent adapter, or LoRA at all, does not fit this base model.
    """
    set_seed(config.seed)
    if parent is not None and not config.fresh:
        base.adapters.load(name, parent)
    else:
        with base.adapters.using(None) as model:
            layers = config.target_modules or language_layers(model)
        base.adapters.create(name, lora_config(config, layers))
    with base.adapters.using(None) as model:
        arguments = arguments_of(config, scratch, base.device, model.dtype)
    share = Share(arguments.process_index, arguments.world_size, base.device)
    said = len(training_set.pairs)
    training_set = with_negatives(base, name, training_set, images, config, kept=negatives, share=share)
    if made := len(training_set.pairs) - said:
        notice(f"{made} pairs were made to be wrong, beside {said} that people made.")
    training_set = with_own_anchors(base, name, training_set, images, config)
    run = run_terms(training_set, config)
    if not run.terms:
        raise RunError("No objective that is on has anything to learn from.")
    contrast = ObjectiveName.CONTRAST in config.objectives.weights(training_set)
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        base.adapters.training(name) as model,
        projection_head(model, base.device, wanted=contrast),
        TemporaryDirectory(dir=scratch) as pictures,
    ):
        ways = Ways(base, model, run, images, config, Path(pictures))
        first = _at_first(training_set, config, model, ways)
        packing = until_it_fits(lambda: ways.choose(first).packing, ways, notice)
        reference = until_it_fits(
            lambda: reference_logps(model, packing, run.terms, len(run.texts), share), packing, notice
        )
        packing.size = share.smallest(packing.size)  # memory may have run out in one process alone
        resumed = checkpoints.newest() if checkpoints else None
        trainer = IllumeTrainer(
            model,
            packing=packing,
            sampler=ways.sampler,
            objectives=run_objectives(training_set, config, model, packing, reference),
            args=arguments,
            train_dataset=ways.terms,
            callbacks=[
                StepReport(progress, figures),
                SaveOften(config.checkpoint_steps),
                DivergenceGuard(config.divergence),
            ],
            checkpoints=checkpoints,
            resumed=resumed,
            stopping=stopping,
            notice=notice,
            score=score and partial(_scored, base, name, score),
        )
        trainer.remove_callback(PrinterCallback)  # it prints to standard output, which is the parent's
        if resumed is not None:
            notice(f"The run goes on after step {resumed.step}, from its checkpoint.")
        return trainer.go()


def _scored(base: BaseModel, name: str, score: Callable[[], Sequence[float]]) -> Sequence[float]:
    """An epoch's score; the adapter is ready to be trained on afterwards."""
    found = score()
    with base.adapters.training(name):  # whoever uses an adapter otherwise freezes it
        return found


def _at_first(training_set: TrainingSet, config: TrainConfig, model: Any, ways: Ways) -> list[Objective]:
    """Objectives to compare the ways with, before there is a reference: against one that is 0 everywhere."""
    none = torch.zeros(len(ways.rows))
    return run_objectives(training_set, config, model, ways.plain, none)
