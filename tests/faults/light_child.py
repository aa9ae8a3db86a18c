"""A training process without torch, with the folders, the steps and the manners of the real one.

Killed at any time and started again, it goes on from its newest checkpoint; the adapter says which steps made
it, each of which must have been made once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    RESULT_FILE,
    RunResult,
    RunSpec,
    read_spec,
    write_json,
)
from illume_plugin.types import EvaluationReport, Metric

STEPS = 6
STEP_S = 0.15
#: Held-out tasks that the report speaks of.
ITEMS = 40


def train(folder: Path, spec: RunSpec) -> list[int]:
    """The steps that were made, one checkpoint each."""
    checkpoints = folder / CHECKPOINTS_FOLDER
    made = max(
        (json.loads((path / "made.json").read_text()) for path in checkpoints.glob("step-*")), default=[]
    )
    while len(made) < STEPS:
        time.sleep(STEP_S)
        made = [*made, len(made) + 1]
        draft = checkpoints / f".draft-{os.getpid()}"
        draft.mkdir(parents=True, exist_ok=True)
        write_json(draft / "made.json", made)  # type: ignore[arg-type]
        draft.rename(checkpoints / f"step-{len(made):08d}")
        print(json.dumps({"stage": "training", "step": len(made), "steps": STEPS}), flush=True)
    return made


def save(folder: Path, spec: RunSpec, made: list[int]) -> None:
    """The adapter's two files."""
    adapter = folder / ADAPTER_FOLDER
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    weights = {"training_set": spec.training_set.content_hash, "steps": made}
    write_json(adapter / "adapter_model.safetensors", weights)


def report(version: str, content: str) -> EvaluationReport:
    """As good as the one before it, so that the gate lets it through."""
    metric = Metric(value=0.9, low=0.8, high=1.0, n=ITEMS)
    outcomes = (1.0,) * 36 + (0.0,) * 4
    told = ("answer_accuracy", "preference_accuracy")
    return EvaluationReport(version, content, dict.fromkeys(told, metric), dict.fromkeys(told, outcomes))


def end_with_parent() -> None:
    """As the real one does."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(folder: Path) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    began, spec = time.monotonic(), read_spec(folder)
    made = train(folder, spec)
    save(folder, spec, made)
    content = spec.training_set.content_hash
    result = RunResult(
        active=report(spec.active_version, content),
        challenger=report("challenger", content),
        seconds=time.monotonic() - began,
        rows=len(spec.training_set.rows),
        steps=len(made),
        base_model_hash="none",
        versions={},
    )
    write_json(folder / RESULT_FILE, asdict(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
