"""The process of one training run: `python -m illume_plugin.training.child RUN_DIR [--watch-stdin]`.

Reads RUN_DIR/spec.json, trains, evaluates the parent and the new adapter on the held-out tasks, and
writes RUN_DIR/adapter/ and, last, RUN_DIR/result.json. Standard output carries one JSON object per line
and nothing else,

    {"stage": "training", "step": 3, "steps": 40, "loss": 1.2, "eta_s": 9.1}

with the stages loading, training, evaluating, done; after each step "objectives" has what the step gave for
each, such as {"dpo": {"loss": 0.61, "margin": 0.2}}; "notes" are sentences about what was done otherwise
than asked.

Killed at any time and started again, it goes on from the newest of RUN_DIR/checkpoints/ and ends with the
same weights. On SIGTERM or SIGINT while it trains it writes one more and exits with 3.

A failed run exits with 1 and leaves error.json ({"what", "why", "todo"}) in place of a result; the
traceback goes to standard error. Nothing outside RUN_DIR is changed.

Several processes on one run: `torchrun --nproc-per-node=N -m illume_plugin.training.child RUN_DIR`, or
`accelerate launch` likewise. All of them train; the first one tells, evaluates and writes.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from illume_plugin.errors import IllumeError, RunStoppedError
from illume_plugin.fault_points import point
from illume_plugin.training.processes import is_first, own_device, peak_memory, stoppable, tells_of_another
from illume_plugin.training.progress import Progress
from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    ERROR_FILE,
    RESULT_FILE,
    RunResult,
    RunSpec,
    read_spec,
    run_identity,
    write_json,
)

if TYPE_CHECKING:
    from illume_plugin.base_model import BaseModel
    from illume_plugin.types import EvaluationReport, JudgedTask

#: Version of the new adapter in its report, until it is published under a number.
CHALLENGER = "challenger"
_PARENT = "parent"
_ACTIVE = "active"
#: Exit code of a run that was asked to stop and can go on.
STOPPED = 3
_log = logging.getLogger(__name__)


def run(run_dir: Path, progress: Progress) -> None:
    """Do the run that `run_dir` describes.

    Raises:
        IllumeError: it cannot be done; there is no result then.
    """
    started = time.monotonic()
    progress.tell("loading")
    spec = read_spec(run_dir)
    base, steps = _trained(run_dir, spec, progress)
    if not is_first():
        return
    peak = peak_memory()
    base.adapters.save(CHALLENGER, run_dir / ADAPTER_FOLDER)
    point("child.adapter_saved")
    active, challenger = _evaluated(base, spec, progress)
    result = RunResult(
        active=active,
        challenger=challenger,
        seconds=time.monotonic() - started,
        rows=len(spec.training_set.rows),
        steps=steps,
        base_model_hash=base.fingerprint,
        versions={name: version(name) for name in ("torch", "transformers", "peft")},
        notes=tuple(progress.notes),
        step_s=progress.step_s,
        peak_memory=peak,
    )
    write_json(run_dir / RESULT_FILE, asdict(result))
    point("child.result_written")
    progress.tell("done", result.steps, result.steps)


def _trained(run_dir: Path, spec: RunSpec, progress: Progress) -> tuple[BaseModel, int]:
    """(the base model with the new adapter, the number of optimiser steps)."""
    # Here and not above: a wrong spec is reported without waiting for torch.
    from illume_plugin.base_model import load_base_model
    from illume_plugin.training.checkpoints import Checkpoints
    from illume_plugin.training.trainer import train_adapter

    config = spec.config
    base = load_base_model(
        spec.base_model,
        device=own_device(spec.device),
        dtype="float32" if config.precision == "fp32" else spec.dtype,
        quantization=spec.quantization,
        trust_remote_code=spec.trust_remote_code,
    )
    parent = Path(spec.parent_adapter) if spec.parent_adapter else None
    choosing, _ = _held_out(spec)
    if parent:
        base.adapters.load(_PARENT, parent)
    with stoppable() as stopping:
        steps = train_adapter(
            base,
            CHALLENGER,
            spec.training_set,
            _images(spec),
            config,
            parent=parent,
            scratch=run_dir / "trainer",
            progress=lambda step, steps, loss, eta: progress.tell(
                "training", step, steps, loss=loss, eta_s=eta
            ),
            figures=progress.figures,
            checkpoints=Checkpoints(
                run_dir / CHECKPOINTS_FOLDER, run=run_identity(spec), kept=config.checkpoints_kept
            ),
            stopping=stopping,
            notice=progress.note,
            negatives=run_dir / f"negatives-{run_identity(spec)[:16]}.json",
            score=partial(_score, base, spec, choosing) if config.best_epoch else None,
        )
    return base, steps


def _score(base: BaseModel, spec: RunSpec, choosing: Sequence[JudgedTask]) -> list[float]:
    """What the new adapter is worth so far."""
    from illume_plugin.evaluation import Extent, evaluate
    from illume_plugin.training.best_epoch import score_of

    report = evaluate(
        base,
        CHALLENGER,
        choosing,
        _images(spec),
        version=CHALLENGER,
        training_set=spec.training_set.content_hash,
        extent=Extent(tasks=spec.evaluate_at_most),
    )
    return score_of(report)


def _held_out(spec: RunSpec) -> tuple[Sequence[JudgedTask], Sequence[JudgedTask]]:
    """(held-out tasks that the best epoch is chosen by, those that are reported on)."""
    from illume_plugin.training.best_epoch import split_held_out

    held_out = spec.training_set.held_out
    return split_held_out(held_out) if spec.config.best_epoch else ((), held_out)


def _evaluated(base: BaseModel, spec: RunSpec, progress: Progress) -> Iterator[EvaluationReport]:
    """The report of the adapter that serves, then that of the new one."""
    from illume_plugin.evaluation import Extent, evaluate

    for before, (adapter, name) in enumerate([_active(base, spec), (CHALLENGER, CHALLENGER)]):
        yield evaluate(
            base,
            adapter,
            _held_out(spec)[1],
            _images(spec),
            version=name,
            training_set=spec.training_set.content_hash,
            extent=Extent(spec.evaluate_at_most, spec.evaluate_sampled),
            progress=lambda done, tasks, before=before: progress.tell(  # type: ignore[misc]
                "evaluating", before * tasks + done, 2 * tasks
            ),
        )


def _images(spec: RunSpec) -> dict[str, Path]:
    return {name: Path(path) for name, path in spec.images.items()}


def _active(base: BaseModel, spec: RunSpec) -> tuple[str | None, str]:
    """(name among the loaded adapters, version) of what the new adapter is compared with."""
    if not spec.active_version or spec.active_version == spec.parent_version:
        return _PARENT if spec.parent_adapter else None, spec.parent_version
    if spec.active_adapter:
        base.adapters.load(_ACTIVE, Path(spec.active_adapter))
    return _ACTIVE if spec.active_adapter else None, spec.active_version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m illume_plugin.training.child", description="One training run."
    )
    parser.add_argument("run_dir", type=Path, help="folder with spec.json")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("illume_plugin").setLevel(logging.INFO)
    own = _own_stdout()
    if is_first():
        (options.run_dir / ERROR_FILE).unlink(missing_ok=True)
    try:
        run(options.run_dir, Progress(own if is_first() else sys.stderr))
    except RunStoppedError as error:
        _log.warning("%s", error)
        return STOPPED
    except IllumeError as error:
        _report(options.run_dir, error.what, error.why, error.todo)
    except MemoryError:
        _report(options.run_dir, "Memory ran out.", "", "Train again with a smaller micro_batch_size.")
    except Exception as error:  # noqa: BLE001 - the process ends here, and its parent must learn why
        if tells_of_another(error):
            traceback.print_exc()
            return 1
        _report(options.run_dir, f"{type(error).__name__}: {error}", "", "Look at the run's log.")
    else:
        return 0
    return 1


def _report(run_dir: Path, what: str, why: str, todo: str) -> None:
    traceback.print_exc()
    if (run_dir / ERROR_FILE).exists():  # of several processes the first one to fail knows why
        return
    with suppress(OSError):  # e.g. the folder is gone; the traceback is in the log
        write_json(run_dir / ERROR_FILE, {"what": what, "why": why, "todo": todo})


def _own_stdout() -> TextIO:
    """Standard output for us alone: what libraries print goes to standard error from here on."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _end_with_parent() -> None:
    """Wait until standard input closes, which the system does when the parent dies, and end at once."""
    # not sys.stdin: a thread that holds its lock at interpreter shutdown brings the process down
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
