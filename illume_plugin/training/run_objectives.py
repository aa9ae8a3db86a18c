"""The objectives of a run, made from its settings and what it learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from illume_plugin.examples import ObjectiveName
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.contrast_objective import HEAD, ContrastObjective
from illume_plugin.training.objective import DressObjective, IllumeObjective, Objective
from illume_plugin.training.packing import Packing
from illume_plugin.training.preference_objectives import DpoObjective, KtoObjective
from illume_plugin.training.reference import MismatchedRows
from illume_plugin.types import TrainingSet


def run_objectives(
    training_set: TrainingSet,
    config: TrainConfig,
    model: Any,
    packing: Packing,
    reference: torch.Tensor,
) -> list[Objective]:
    """The objectives that are on for this training set, in one order for every run.

    Args:
        model: that is trained, with its `projection_head` where contrast is on.
        packing: how KTO's mismatched rows are computed.
        reference: see `reference_logps`.
    """
    settings = config.objectives

    def illume(weight: float) -> Objective:
        accepted = training_set.accepted
        answer_only = len(training_set.rows) - accepted
        return IllumeObjective(config.w(answer_only=answer_only, accepted=accepted), weight)

    def kto(weight: float) -> Objective:
        desirable, undesirable = settings.kto_lambdas(settings.labels(training_set))
        sums = MismatchedRows(model, packing, reference)
        return KtoObjective(reference, settings.beta, sums, desirable, undesirable, weight)

    makers: dict[ObjectiveName, Callable[[float], Objective]] = {
        ObjectiveName.ILLUME: illume,
        ObjectiveName.DRESS: DressObjective,
        ObjectiveName.DPO: lambda weight: DpoObjective(reference, settings.beta, weight),
        ObjectiveName.KTO: kto,
        ObjectiveName.CONTRAST: lambda weight: ContrastObjective(getattr(model, HEAD), settings.tau, weight),
    }
    return [makers[name](weight) for name, weight in settings.weights(training_set).items()]
