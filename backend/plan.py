"""What a run would do, how long it would take and how much memory, in words: `illume train --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from backend.sampling import base_model_source
from backend.service import Service
from illume_plugin.errors import ModelError
from illume_plugin.store import runs
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.content_weights import LEAST, MOST, ContentWeights
from illume_plugin.training.estimate import Estimate, Pace, Work, from_past, from_shape
from illume_plugin.training.shape import model_shape
from illume_plugin.types import TrainingSet

#: Numbers in a row and column of the matrices that a device's speed is measured with, and how often.
_SIDE, _TIMES = 1024, 5
#: Runs that are looked through for one with this base model.
_RUNS = 50


def sentences(training_set: TrainingSet, work: Work, config: TrainConfig) -> Iterator[str]:
    """What the run would learn from and how it would go about it."""
    judged = sum(bool(task.fits or task.unfits) for task in training_set.held_out)
    yield (
        f"{training_set.accepted} accepted rationales and "
        f"{len(training_set.rows) - training_set.accepted} answer-only rows to learn from; "
        f"{len(training_set.held_out)} held-out tasks, {judged} of them judged, to measure with."
    )
    yield f"Objectives: {_listed(work.records) or 'none'}."
    if work.sources:
        yield f"Preference pairs by what they rest on: {_listed(work.sources)}."
    if work.negatives:
        yield f"Up to {work.negatives} more pairs are made to be wrong, for tasks where every rationale fits."
    if work.content:
        yield _weighed(work.content)
    yield (
        f"{work.texts} texts an epoch, {config.epochs} epochs of about {config.batch_size} texts a step: "
        f"about {work.steps} steps."
    )


def _weighed(content: ContentWeights) -> str:
    if not content.median:
        return "Rationales are not weighed by content: none of them has an i2c (ILLUME_SCORE_BLIND)."
    return (
        f"Rationales count by what they owe to the picture, i2c over its median {content.median:.3g}, from "
        f"{LEAST:g} to {MOST:g} times: {content.known} of {content.accepted} have one."
    )


def estimate(service: Service, work: Work, config: TrainConfig) -> str:
    """How long and how much memory, in one sentence."""
    try:
        found = _estimate(service, work, config)
    except ModelError as error:
        return f"Time and memory cannot be estimated before the first run: {error.what}"
    return f"About {_minutes(found.seconds)} and {found.memory / 1e9:.1f} GB of memory, by {found.origin}."


def _estimate(service: Service, work: Work, config: TrainConfig) -> Estimate:
    pace = _past(service)
    if pace is not None:
        return from_past(work, config, pace)
    shape = model_shape(Path(base_model_source(service.settings)))
    device = _device(service)
    stored = 4 if device == "cpu" else max(1, round(shape.stored / shape.parameters))
    kind = "float32" if config.precision == "fp32" else service.settings.dtype
    width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(kind, stored)
    return from_shape(
        work,
        config,
        shape,
        weight_bytes=width,
        quantization=service.settings.quantization,
        speed=lambda: measured_speed(device, width),
    )


def _past(service: Service) -> Pace | None:
    """What the newest run with this base model, in as few bits, needed."""
    wanted = service.settings.base_model, service.settings.quantization
    with service.store.read() as conn:
        recent = runs.recent(conn, limit=_RUNS)
    paces = (Pace.of(run.report) for run in recent)
    return next((pace for pace in paces if pace and (pace.base_model, pace.quantization) == wanted), None)


def _device(service: Service) -> str:
    import torch

    return service.settings.device or ("cuda" if torch.cuda.is_available() else "cpu")


def measured_speed(device: str, width: int) -> float:
    """Floating-point operations a second of a matrix product on a device.

    Args:
        width: bytes of a number.
    """
    import torch

    kind = torch.float32 if width == 4 else torch.bfloat16
    one = torch.ones(_SIDE, _SIDE, device=device, dtype=kind)
    float((one @ one).sum())  # warm
    began = time.perf_counter()
    for _ in range(_TIMES):
        other = one @ one
    float(other.sum())  # waits for a GPU
    return float(2 * _SIDE**3 * _TIMES / (time.perf_counter() - began))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
