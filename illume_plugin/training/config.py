"""The knobs of a training run. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from illume_plugin.errors import SettingsError
from illume_plugin.training.objectives.settings import ObjectiveSettings

#: Arithmetic that can be asked for.
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """How an adapter is trained.

    Attributes:
        rank: LoRA rank, for a fresh adapter; one that continues keeps its parent's.
        alpha: LoRA scale; the update is multiplied by alpha / rank.
        dropout: LoRA dropout in [0, 1).
        target_modules: regular expression for the full names of the adapted linear layers; None: every
            attention and MLP layer of the language blocks. Vision tower and projector stay frozen.
        learning_rate: of AdamW at its peak; linear warm-up, then linear decay to 0.
        epochs: passes over the rows.
        batch_size: rows per optimiser step, on average: rows that share a picture come in the same step. All
            processes together make one step.
        micro_batch_size: a forward pass holds no more tokens, padding included, than so many rows of the
            step's longest (many more rows where they share a picture); smaller takes less memory and changes
            nothing else.
        w_multiplier: multiplies the weight w of the rationale loss (ILLUME: w = answer-only rows /
            accepted rows).
        w_min: lowest w before the multiplier. Ours: ILLUME trains with ten answer-only rows for each
            accepted one, so w = 10, where a small project has few. Measured on the embedded model: with
            w near 1, answers are learnt by heart, held-out ones get worse, and fewer rationales fit.
        w_max: highest w before the multiplier; ours.
        task_balance: 0: every accepted rationale counts the same (ILLUME), so that a task with many outweighs
            one with few; 1: every task counts the same; between: in between. Ours.
        weight_decay: of AdamW.
        warmup: share of the steps that the learning rate takes to rise, in [0, 1).
        max_grad_norm: gradients are clipped to this norm.
        max_steps: optimiser steps at most; None: as many as the epochs have.
        seed: of the adapter's start, the order of rows, and dropout.
        fresh: start from the base model instead of the parent adapter.
        dora: LoRA with a magnitude of its own for each output (DoRA, arXiv 2402.09353), for a fresh adapter.
        rslora: multiply the update by alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732), for a fresh adapter.
        gradient_checkpointing: compute activations anew in the backward pass: less memory, a third more time.
        precision: of the arithmetic: "fp32", "bf16" or "fp16" (with loss scaling); "auto": that of the base
            model's weights.
        checkpoint_steps: a checkpoint is written after so many steps, and after each epoch.
        checkpoints_kept: how many of them stay on disk.
        divergence: a run ends when its loss is more than so many times that of its first steps; 0: never.
        best_epoch: keep the adapter of the epoch that is best on part of the held-out tasks; the report and
            the gate then use the other part.
        report_to: trackers that are told of every step, as transformers names them: tensorboard, trackio,
            mlflow, wandb.
        objectives: what is minimised beside ILLUME's mixed loss, and how much each term weighs.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | None = None
    learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int = 16
    micro_batch_size: int = 16
    w_multiplier: float = 1.0
    w_min: float = 10.0
    w_max: float = 100.0
    task_balance: float = 0.0
    weight_decay: float = 0.0
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    max_steps: int | None = None
    seed: int = 0
    fresh: bool = False
    dora: bool = False
    rslora: bool = False
    gradient_checkpointing: bool = False
    precision: str = "auto"
    checkpoint_steps: int = 50
    checkpoints_kept: int = 2
    divergence: float = 2.0
    best_epoch: bool = False
    report_to: tuple[str, ...] = ()
    objectives: ObjectiveSettings = field(default_factory=ObjectiveSettings)

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SettingsError("The training settings are wrong: " + " ".join(problems))

    def w(self, *, answer_only: int, accepted: int) -> float:
        """Weight of the rationale loss for a training set with so many rows of each kind."""
        ratio = answer_only / accepted if answer_only and accepted else 1.0
        return min(max(ratio, self.w_min), self.w_max) * self.w_multiplier

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The settings from JSON values; what is left out has its default.

        Raises:
            SettingsError: an unknown name or a wrong value.
        """
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingsError(
                f"Unknown training settings: {', '.join(unknown)}.",
                todo=f"Known are: {', '.join(sorted(known))}.",
            )
        given = dict(values)
        if "objectives" in given and not isinstance(given["objectives"], ObjectiveSettings):
            given["objectives"] = ObjectiveSettings.from_json(given["objectives"])
        if isinstance(given.get("report_to"), list):
            given["report_to"] = tuple(given["report_to"])
        return cls(**given)

    def _problems(self) -> list[str]:
        whole = (
            "rank",
            "epochs",
            "batch_size",
            "micro_batch_size",
            "checkpoint_steps",
            "checkpoints_kept",
        )
        positive = ("alpha", "learning_rate", "w_multiplier", "w_min", "w_max", "max_grad_norm")
        share = ("dropout", "warmup")
        problems = [
            f"{n} must be a whole number above 0, not {getattr(self, n)!r}."
            for n in whole
            if not (_is_whole(getattr(self, n)) and getattr(self, n) > 0)
        ]
        problems += [
            f"{n} must be a number above 0, not {getattr(self, n)!r}."
            for n in positive
            if not (_is_number(getattr(self, n)) and getattr(self, n) > 0)
        ]
        problems += [
            f"{n} must be at least 0 and below 1, not {getattr(self, n)!r}."
            for n in share
            if not (_is_number(getattr(self, n)) and 0 <= getattr(self, n) < 1)
        ]
        if not (_is_number(self.task_balance) and 0 <= self.task_balance <= 1):
            problems.append(f"task_balance must be from 0 to 1, not {self.task_balance!r}.")
        return problems or self._further_problems()

    def _further_problems(self) -> list[str]:
        checks = [
            (
                self.batch_size % self.micro_batch_size == 0,
                f"batch_size ({self.batch_size}) must be a multiple of micro_batch_size"
                f" ({self.micro_batch_size}).",
            ),
            (self.w_min <= self.w_max, f"w_min ({self.w_min}) must not be above w_max ({self.w_max})."),
            (
                _is_number(self.weight_decay) and self.weight_decay >= 0,
                f"weight_decay must be at least 0, not {self.weight_decay!r}.",
            ),
            (
                self.max_steps is None or (_is_whole(self.max_steps) and self.max_steps > 0),
                f"max_steps must be a whole number above 0 or nothing, not {self.max_steps!r}.",
            ),
            (_is_whole(self.seed) and self.seed >= 0, f"seed must be at least 0, not {self.seed!r}."),
            *(
                (isinstance(getattr(self, n), bool), f"{n} must be true or false, not {getattr(self, n)!r}.")
                for n in ("fresh", "dora", "rslora", "gradient_checkpointing", "best_epoch")
            ),
            (
                self.precision in PRECISIONS,
                f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}.",
            ),
            (
                _is_number(self.divergence) and (self.divergence == 0 or self.divergence > 1),
                f"divergence must be 0 or a number above 1, not {self.divergence!r}.",
            ),
            (
                isinstance(self.report_to, tuple) and all(isinstance(n, str) and n for n in self.report_to),
                f"report_to must be names of trackers, not {self.report_to!r}.",
            ),
            (
                isinstance(self.objectives, ObjectiveSettings),
                f"objectives must be ObjectiveSettings, not {self.objectives!r}.",
            ),
            (
                self.target_modules is None or _is_pattern(self.target_modules),
                f"target_modules must be a regular expression, not {self.target_modules!r}.",
            ),
        ]
        return [problem for fine, problem in checks if not fine]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_pattern(value: object) -> bool:
    try:
        re.compile(value)  # type: ignore[call-overload]
    except (re.error, TypeError):
        return False
    return True
