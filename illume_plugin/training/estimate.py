"""How long a run takes and how much memory, told before it starts: from past runs or the model's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from illume_plugin.examples import ObjectiveName
from illume_plugin.quantization import Quantization
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.content_weights import ContentWeights
from illume_plugin.training.negative_pairs import without_counterpart
from illume_plugin.training.shape import ModelShape
from illume_plugin.training.terms import RunTerms, run_terms
from illume_plugin.types import TrainingSet

#: Characters of English to a token, about.
CHARACTERS = 4.0
#: Tokens of a prompt's frame: roles, the question that asks for the rationale.
FRAME = 30
#: Share of a device's fastest matrix product that training reaches, about.
EFFICIENCY = 0.35
#: Bytes of libraries, besides the model, in a process that trains.
LIBRARIES = 700 << 20


@dataclass(frozen=True, slots=True)
class Work:
    """What a run would do.

    Attributes:
        records: of each objective that is on, by its name.
        sources: preference pairs of each source, by its name.
        texts: texts that are read in an epoch.
        steps: optimiser steps, about: rows are not cut apart that belong together.
        characters: of all texts of an epoch.
        longest: characters of the longest text.
        negatives: further pairs that are made to be wrong when the run starts, at most.
        content: how ILLUME's rationales are weighed by content; None where they are not.
    """

    records: Mapping[str, int]
    sources: Mapping[str, int]
    texts: int
    steps: int
    characters: int
    longest: int
    negatives: int = 0
    content: ContentWeights | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """What a finished run needed.

    Attributes:
        step_s: seconds of a step, in the middle.
        other_s: seconds of everything else: loading, comparing, evaluating.
        peak_memory: bytes.
        quantization: of its base model.
    """

    base_model: str
    batch_size: int
    micro_batch_size: int
    step_s: float
    other_s: float
    peak_memory: int
    quantization: str = Quantization.NONE

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Pace | None:
        """What a run's report says of it; None where it says nothing."""
        pace = report.get("pace")
        return cls(**pace) if pace and pace["step_s"] > 0 else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time and memory of a run, and what they are guessed from."""

    seconds: float
    memory: int
    origin: str


def work_of(training_set: TrainingSet, config: TrainConfig) -> Work:
    """Count what a run on this training set would do."""
    run = run_terms(training_set, config)
    drawn = run.in_epoch(0)
    sizes = run.new_rows()
    texts = sum(sizes[number] for number in drawn)
    per_epoch = ceil(texts / config.batch_size)
    lengths = [_characters(text) for text in run.texts]
    records = _records(run, drawn)
    weighed = config.objectives.weigh_content and ObjectiveName.ILLUME in records
    return Work(
        records=records,
        sources=_counted(pair.source.value for pair in training_set.pairs),
        texts=texts,
        steps=config.max_steps or per_epoch * config.epochs,
        characters=sum(lengths),
        longest=max(lengths, default=0),
        negatives=len(without_counterpart(training_set, config)),
        content=ContentWeights.of(training_set.rows) if weighed else None,
    )


def from_past(work: Work, config: TrainConfig, pace: Pace) -> Estimate:
    """As a finished run went, with as many steps as this one has."""
    step = pace.step_s * config.batch_size / pace.batch_size
    memory = pace.peak_memory  # most of it does not depend on the rows
    return Estimate(step * work.steps + pace.other_s, memory, "the last run with this base model")


def from_shape(
    work: Work,
    config: TrainConfig,
    shape: ModelShape,
    *,
    weight_bytes: int,
    speed: Callable[[], float],
    quantization: Quantization = Quantization.NONE,
) -> Estimate:
    """From arithmetic alone; within a factor of two or three.

    Args:
        weight_bytes: of one number of the base model in memory, and of what is computed.
        quantization: how few bits the weights of its language blocks are kept in.
        speed: gives floating-point operations a second that the device reaches at best.
    """
    tokens = work.characters / CHARACTERS + work.texts * (shape.picture_tokens + FRAME)
    epochs = work.steps * config.batch_size / max(work.texts, 1)
    # forward 2, backward 2 for each weight and token; its own gradient is left out, as weights are frozen
    operations = (6 if config.gradient_checkpointing else 4) * shape.language * tokens * epochs
    return Estimate(
        operations / (EFFICIENCY * speed()),
        _memory(work, config, shape, weight_bytes, quantization),
        "the model's shape; the first run tells better",
    )


def _memory(
    work: Work, config: TrainConfig, shape: ModelShape, weight_bytes: int, quantization: Quantization
) -> int:
    blocks = shape.block_weights
    weights = (shape.parameters - blocks) * weight_bytes + blocks * quantization.weight_bytes(weight_bytes)
    row = shape.picture_tokens + FRAME + ceil(work.longest / CHARACTERS)
    tokens = config.micro_batch_size * row
    adapter = config.rank * shape.lora_width * 16  # weight, gradient, two moments, in float32
    width = 12 * shape.hidden + 4 * shape.inner  # kept for the way back, of each token
    layers = 1 if config.gradient_checkpointing else shape.layers
    kept = tokens * (layers * width + shape.layers * shape.hidden) * weight_bytes
    logits = config.micro_batch_size * ceil(work.longest / CHARACTERS) * shape.vocabulary * 3 * 4
    return int(LIBRARIES + weights + adapter + kept + logits)


def _characters(text: Any) -> int:
    return len(text.question) + len(text.answer) + len(text.rationale or "")


def _records(run: RunTerms, drawn: list[int]) -> dict[str, int]:
    found = _counted(run.terms[number].objective.value for number in drawn)
    return {name.value: found[name.value] for name in ObjectiveName if name.value in found}


def _counted(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found
