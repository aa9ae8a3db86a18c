"""The process of one training run: `python -m illume_plugin.training.child RUN_DIR [--watch-stdin]`.

Reads RUN_DIR/spec.json, trains, evaluates the parent and the new adapter on the held-out tasks, and
writes RUN_DIR/adapter/ and, last, RUN_DIR/result.json. Standard output carries one JSON object per line
and nothing else,

    {"stage": "training", "step": 3, "steps": 40, "loss": 1.2, "eta_s": 9.1}

with the stages loading, training, evaluating, done.

A failed run exits with 1 and leaves error.json ({"what", "why", "todo"}) in place of a result; the
traceback goes to standard error. Nothing outside RUN_DIR is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from illume_plugin.errors import IllumeError
from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    ERROR_FILE,
    RESULT_FILE,
    RunResult,
    RunSpec,
    read_spec,
    write_json,
)

#: Version of the new adapter in its report, until it is published under a number.
CHALLENGER = "challenger"
_PARENT = "parent"


class Progress:
    """Writes progress as JSON lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def tell(
        self,
        stage: str,
        step: int = 0,
        steps: int = 0,
        *,
        loss: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Write one line."""
        line = {"stage": stage, "step": step, "steps": steps, "loss": loss, "eta_s": eta_s}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


def run(run_dir: Path, progress: Progress) -> None:
    """Do the run that `run_dir` describes.

    Raises:
        IllumeError: it cannot be done; there is no result then.
    """
    started = time.monotonic()
    progress.tell("loading")
    spec = read_spec(run_dir)
    result = _train_and_evaluate(run_dir, spec, progress, started)
    write_json(run_dir / RESULT_FILE, asdict(result))
    progress.tell("done", result.steps, result.steps)


def _train_and_evaluate(run_dir: Path, spec: RunSpec, progress: Progress, started: float) -> RunResult:
    # Here and not above: a wrong spec is reported without waiting for torch.
    from illume_plugin.base_model import load_base_model
    from illume_plugin.evaluation import evaluate
    from illume_plugin.training.trainer import train_adapter

    base = load_base_model(
        spec.base_model, device=spec.device, dtype=spec.dtype, trust_remote_code=spec.trust_remote_code
    )
    parent = Path(spec.parent_adapter) if spec.parent_adapter else None
    images = {name: Path(path) for name, path in spec.images.items()}
    if parent:
        base.adapters.load(_PARENT, parent)
    steps = train_adapter(
        base,
        CHALLENGER,
        spec.training_set.rows,
        images,
        spec.config,
        parent=parent,
        scratch=run_dir / "trainer",
        progress=lambda step, steps, loss, eta: progress.tell("training", step, steps, loss=loss, eta_s=eta),
    )
    base.adapters.save(CHALLENGER, run_dir / ADAPTER_FOLDER)
    active, challenger = (
        evaluate(
            base,
            adapter,
            spec.training_set.held_out,
            images,
            version=name,
            training_set=spec.training_set.content_hash,
            at_most=spec.evaluate_at_most,
            progress=lambda done, tasks, before=before: progress.tell(  # type: ignore[misc]
                "evaluating", before * tasks + done, 2 * tasks
            ),
        )
        for before, (adapter, name) in enumerate(
            [(_PARENT if parent else None, spec.parent_version), (CHALLENGER, CHALLENGER)]
        )
    )
    return RunResult(
        active=active,
        challenger=challenger,
        seconds=time.monotonic() - started,
        rows=len(spec.training_set.rows),
        steps=steps,
        base_model_hash=base.fingerprint,
        versions={name: version(name) for name in ("torch", "transformers", "peft")},
    )


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
    (options.run_dir / ERROR_FILE).unlink(missing_ok=True)
    try:
        run(options.run_dir, Progress(_own_stdout()))
    except IllumeError as error:
        _report(options.run_dir, error.what, error.why, error.todo)
    except MemoryError:
        _report(options.run_dir, "Memory ran out.", "", "Train again with a smaller micro_batch_size.")
    except Exception as error:  # noqa: BLE001 - the process ends here, and its parent must learn why
        _report(options.run_dir, f"{type(error).__name__}: {error}", "", "Look at the run's log.")
    else:
        return 0
    return 1


def _report(run_dir: Path, what: str, why: str, todo: str) -> None:
    traceback.print_exc()
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
