"""What the model says of a task when it is shown the picture of another one: texts made to be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from illume_plugin.base_model import BaseModel
from illume_plugin.examples import PreferencePair
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.selection import clean
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.negative_pairs import (
    counterpart,
    keep_pairs,
    kept_pairs,
    other_pictures,
    with_pairs,
    without_counterpart,
)
from illume_plugin.training.sharing import Share
from illume_plugin.types import Task, TrainingRow, TrainingSet

#: Several draws, since one may be cut off, or say what people have accepted.
DRAWS = SamplingPlan(temperatures=(0.7,), samples=4)


def with_negatives(
    base: BaseModel,
    adapter: str,
    training_set: TrainingSet,
    images: Mapping[str, Path],
    config: TrainConfig,
    *,
    kept: Path | None = None,
    share: Share | None = None,
) -> TrainingSet:
    """The training set with pairs whose rejected side is made to be wrong, where they are asked for.

    Args:
        adapter: as it is before the first step.
        images: picture of a row -> local file.
        kept: file that the pairs are kept in once they are drawn, so that a run which is resumed, and every
            process of a run, has the same.
        share: where several processes work on the run: the first one draws.

    Raises:
        TaskError, ImageError: one of the tasks cannot be used.
        RunError: what was kept cannot be read.
    """
    share = share or Share()
    rows = without_counterpart(training_set, config)
    if not rows:
        return training_set
    wanted = other_pictures(rows, training_set, config)
    if kept is None:
        return with_pairs(training_set, list(_drawn(base, adapter, wanted, training_set, images, config)))
    if share.index == 0 and not kept.is_file():
        keep_pairs(kept, list(_drawn(base, adapter, wanted, training_set, images, config)))
    share.wait()
    return with_pairs(training_set, kept_pairs(kept))


def _drawn(
    base: BaseModel,
    adapter: str,
    wanted: Mapping[TrainingRow, str],
    training_set: TrainingSet,
    images: Mapping[str, Path],
    config: TrainConfig,
) -> Iterator[PreferencePair]:
    requests = [
        # the project's number stands for the run's seed: draws hang on it
        SampleRequest(Task(config.seed, row.task_id, picture, row.question, row.answer), images[picture])
        for row, picture in wanted.items()
    ]
    found = TransformersGenerator(base).draw(requests, DRAWS, adapter=adapter)
    for row, draws in zip(wanted, found, strict=True):
        texts = [candidate.text for candidate in clean(draws).kept]
        if pair := counterpart(row, texts, training_set):
            yield pair
