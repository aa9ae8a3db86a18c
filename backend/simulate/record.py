"""What is written down of a simulation: one JSON file per iteration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from illume_plugin.types import Json, Metric


@dataclass(frozen=True)
class Measurement:
    """Figures of one version on the held-out tasks.

    Attributes:
        fit_rate: share of fitting rationales at T = 0.7.
        fit_rate_plan: the same, one draw at each temperature of the sampling plan.
        answer_accuracy: share of tasks that it answers rightly by itself.
        distinct: different wordings per draw of a task at T = 0.7.
        reasons: verdict of the checker -> number of draws at T = 0.7; draws without an end are "unfinished".
        kinds: kind of question -> name of a figure above -> its value on that kind.
    """

    version: str
    fit_rate: Metric
    fit_rate_plan: Metric
    answer_accuracy: Metric
    distinct: Metric
    reasons: Mapping[str, int]
    kinds: Mapping[str, Mapping[str, Metric]]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """The inverse of `dataclasses.asdict`."""
        figures = ("fit_rate", "fit_rate_plan", "answer_accuracy", "distinct")
        kinds = {
            kind: {name: Metric(**metric) for name, metric in found.items()}
            for kind, found in values["kinds"].items()
        }
        return cls(**{**values, **{name: Metric(**values[name]) for name in figures}, "kinds": kinds})


@dataclass(frozen=True)
class Iteration:
    """One iteration; number 0 is the base model before anything was learnt.

    Attributes:
        sampled: tasks that got candidates.
        shown: verdicts given, over all annotators.
        ticked: of these, that a candidate fits.
        accepted: rationales that the run trained on, those of earlier iterations included.
        delivery: how the verdicts travelled through Label Studio; empty where there was none.
        trial: active, challenger, end (empty: open), reason, tasks that count, and difference of the tick
            rates with its interval, of the trial that went on in it; empty where none did.
        run: state, version, reasons, rows and seconds of the training run; empty where there was none.
        serves: version that serves afterwards, and the one measured.
        seconds: stage -> seconds, as far as the process that finished the iteration did it.
        ended: why the simulation ends here, in plain words; empty where it goes on.
    """

    number: int
    serves: str
    measured: Measurement
    tasks: int = 0
    sampled: int = 0
    shown: int = 0
    ticked: int = 0
    accepted: int = 0
    delivery: Mapping[str, Json] = field(default_factory=dict)
    trial: Mapping[str, Json] = field(default_factory=dict)
    run: Mapping[str, Json] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    ended: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Iteration:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**values, "measured": Measurement.from_json(values["measured"])})


def iteration_path(out: Path, number: int) -> Path:
    """Where an iteration is written down."""
    return out / "iterations" / f"{number:02d}.json"


def read_iteration(out: Path, number: int) -> Iteration | None:
    """A finished iteration, or None."""
    path = iteration_path(out, number)
    if not path.is_file():
        return None
    return Iteration.from_json(json.loads(path.read_text(encoding="utf-8")))
