"""The anchors of C3L's contrast: what the model says itself, greedily, at the start of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from illume_plugin.base_model import BaseModel
from illume_plugin.examples import ContrastExample, ObjectiveName
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.identity import wording
from illume_plugin.training.config import TrainConfig
from illume_plugin.types import Task, TrainingSet

#: One draw that keeps the likeliest token alone.
GREEDY = SamplingPlan(temperatures=(1.0,), samples=1, top_k_fraction=1e-9)


def with_own_anchors(
    base: BaseModel,
    adapter: str | None,
    training_set: TrainingSet,
    images: Mapping[str, Path],
    config: TrainConfig,
) -> TrainingSet:
    """The training set, its contrast examples anchored at what the adapter says itself, where contrast is on.

    An example keeps its anchor where the model's own rationale does not end, and goes where a side of it had
    no other wording than the anchor.

    Args:
        images: picture of an example -> local file.

    Raises:
        TaskError, ImageError: one of the tasks cannot be used.
    """
    if ObjectiveName.CONTRAST not in config.objectives.weights(training_set):
        return training_set
    requests = [SampleRequest(_task(each), images[each.image]) for each in training_set.contrast]
    drawn = TransformersGenerator(base).draw(requests, GREEDY, adapter=adapter)
    anchored = [
        _anchored(example, own.text) if own is not None else example
        for example, (own,) in zip(training_set.contrast, drawn, strict=True)
    ]
    return replace(
        training_set, contrast=tuple(each for each in anchored if each.positives and each.negatives)
    )


def _anchored(example: ContrastExample, anchor: str) -> ContrastExample:
    """The anchor's own wording is on neither side: its distance from itself teaches nothing."""
    itself = wording(anchor)
    positives, negatives = (
        tuple(text for text in side if wording(text) != itself)
        for side in (example.positives, example.negatives)
    )
    return replace(example, anchor=anchor, positives=positives, negatives=negatives)


def _task(example: ContrastExample) -> Task:
    return Task(0, example.task_id, example.image, example.question, example.answer)
