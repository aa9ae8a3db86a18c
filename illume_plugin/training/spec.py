"""What goes into a run's folder and what comes out of it: JSON files, no torch.

spec.json      what to do, written by the parent
checkpoints/   where an interrupted run goes on
negatives-*.json   pairs made to be wrong, once they are drawn
adapter/       the new adapter, a plain PEFT folder
result.json    written last, in one go: a run with this file is complete
error.json     why a run failed: {"what", "why", "todo"}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from illume_plugin.errors import RunError
from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    PairSource,
    PreferencePair,
)
from illume_plugin.quantization import Quantization
from illume_plugin.training.config import TrainConfig
from illume_plugin.types import EvaluationReport, JudgedTask, Metric, TrainingRow, TrainingSet

SPEC_FILE = "spec.json"
RESULT_FILE = "result.json"
ERROR_FILE = "error.json"
ADAPTER_FOLDER = "adapter"
CHECKPOINTS_FOLDER = "checkpoints"


@dataclass(frozen=True)
class RunSpec:
    """One training run.

    Attributes:
        base_model: folder or hub id.
        parent_adapter: folder of the adapter to continue from; None: the base model.
        parent_version: its version, `v0000` for the base model.
        active_adapter, active_version: the adapter that serves and that the new one is compared with, where
            it is not the parent; no version: the parent.
        images: picture of a row, as Label Studio names it -> local file.
        evaluate_at_most: held-out tasks that are evaluated; more are drawn from by the seed.
        evaluate_sampled: of these, the first so many get rationales sampled, to see whether they collapse.
        device: where to train; None: the first GPU, or else the processor.
        dtype: of the base model's weights, such as "bfloat16"; "auto": see `load_base_model`.
        quantization: how few bits the base model's language blocks are kept in while the adapter is trained.
        trust_remote_code: run code that comes with the base model; off unless asked for by name.
    """

    base_model: str
    parent_adapter: str | None
    parent_version: str
    training_set: TrainingSet
    images: Mapping[str, str]
    config: TrainConfig = field(default_factory=TrainConfig)
    evaluate_at_most: int = 200
    evaluate_sampled: int = 32
    device: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    active_adapter: str | None = None
    active_version: str = ""
    quantization: Quantization = Quantization.NONE


@dataclass(frozen=True)
class RunResult:
    """What a complete run says.

    Attributes:
        active: the report of the adapter that served (most often the parent) on the held-out tasks.
        challenger: the new adapter's report on the same tasks; its version is "challenger" until the
            adapter is published under a number.
        seconds: of the whole run, loading and evaluation included.
        rows: training rows used.
        versions: of the libraries that trained it.
        notes: what was done otherwise than asked, in words.
        step_s: seconds of an optimiser step, the first one left out; 0 where there was no other.
        peak_memory: most bytes in use at a time: of the GPU where there is one, otherwise of the process.
    """

    active: EvaluationReport
    challenger: EvaluationReport
    seconds: float
    rows: int
    steps: int
    base_model_hash: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    step_s: float = 0.0
    peak_memory: int = 0


def write_spec(run_dir: Path, spec: RunSpec) -> None:
    """Make the run's folder ready.

    Raises:
        RunError: a row's picture has no local file.
    """
    needed = {record.image for record in spec.training_set.records}
    missing = sorted(needed - set(spec.images))
    if missing:
        raise RunError(
            f"{len(missing)} of the training set's pictures have no local file, the first is {missing[0]!r}.",
            todo="Fetch them before the run starts.",
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / SPEC_FILE, asdict(spec))


def read_spec(run_dir: Path) -> RunSpec:
    """The run that `run_dir` describes.

    Raises:
        RunError: there is none, or it is damaged.
    """
    values = _read_json(run_dir / SPEC_FILE)
    try:
        training_set, config = values.pop("training_set"), values.pop("config")
        return RunSpec(
            training_set=_training_set(training_set),
            config=TrainConfig.from_json(config),
            quantization=Quantization(values.pop("quantization", Quantization.NONE)),
            **values,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(run_dir / SPEC_FILE, error) from error


def run_identity(spec: RunSpec) -> str:
    """A hash over all that decides a run's weights: runs that share it may go on from the same checkpoint."""
    decides = [
        spec.base_model,
        spec.dtype,
        spec.parent_adapter,
        spec.parent_version,
        spec.training_set.content_hash,
        spec.config.to_json(),
    ]
    if spec.quantization is not Quantization.NONE:  # runs from before there was one go on
        decides.append(spec.quantization)
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def read_result(run_dir: Path) -> RunResult:
    """The result of a complete run.

    Raises:
        RunError: it failed (with the reason that the run gave), or it has not finished.
    """
    if not (run_dir / RESULT_FILE).is_file():
        raise _failure(run_dir)
    values = _read_json(run_dir / RESULT_FILE)
    try:
        return RunResult(
            **{
                **values,
                "active": _report(values["active"]),
                "challenger": _report(values["challenger"]),
                "notes": tuple(values.get("notes", ())),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(run_dir / RESULT_FILE, error) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees all of it or nothing."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict):
        raise _damaged(path, TypeError("not an object"))
    return values


def _failure(run_dir: Path) -> RunError:
    if not (run_dir / ERROR_FILE).is_file():
        return RunError(
            f"The run in {run_dir} ended without a result.",
            why="Its process was killed, by a person or for want of memory.",
            todo="Look at its log; train again with a smaller micro_batch_size if memory ran out.",
        )
    error = _read_json(run_dir / ERROR_FILE)
    what, why, todo = (str(error.get(key, "")) for key in ("what", "why", "todo"))
    return RunError(what, why=why, todo=todo)


def _training_set(values: Mapping[str, Any]) -> TrainingSet:
    return TrainingSet(
        project_id=values["project_id"],
        rows=tuple(TrainingRow(**row) for row in values["rows"]),
        held_out=tuple(
            JudgedTask(**{**task, "fits": tuple(task["fits"]), "unfits": tuple(task["unfits"])})
            for task in values["held_out"]
        ),
        content_hash=values["content_hash"],
        pairs=tuple(
            PreferencePair(**{**pair, "source": PairSource(pair["source"])})
            for pair in values.get("pairs", ())
        ),
        labels=tuple(LabelledRationale(**label) for label in values.get("labels", ())),
        feedback=tuple(
            FeedbackExample(**{**each, "condition": Condition(**each["condition"])})
            for each in values.get("feedback", ())
        ),
        contrast=tuple(
            ContrastExample(
                **{
                    **each,
                    "positives": tuple(each["positives"]),
                    "negatives": tuple(each["negatives"]),
                }
            )
            for each in values.get("contrast", ())
        ),
    )


def _report(values: Mapping[str, Any]) -> EvaluationReport:
    return EvaluationReport(
        version=values["version"],
        training_set=values["training_set"],
        metrics={name: Metric(**metric) for name, metric in values["metrics"].items()},
        outcomes={name: tuple(outcome) for name, outcome in values["outcomes"].items()},
    )


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read: {error}.", todo="Start the run again.")
