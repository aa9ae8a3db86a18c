"""P10: the same optimiser steps by two processes under `torchrun` (gloo) and by one.

Each run starts anew and makes the same steps from the same weights, in float32. The first step is not timed:
pictures are read in it. The machine's threads are shared out among the processes, so that on one machine
two processes have nothing that one has not; what is shown is that they learn the same, and what it costs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import shapes
import torch
from figures import Figure, figure
from setting import Setting

STEPS = 5
#: Processes of each run, in turns who goes first.
RUNS = (1, 2, 2, 1)
#: Of one run, the making of the model included.
WITHIN_S = 1800


def together(shape: shapes.Shape, goal: float) -> Callable[[Setting], Figure]:
    """A figure: how far the losses of two processes are from those of one, step by step, in nats."""

    def measure(setting: Setting) -> Figure:
        sized = setting.sized(shape)
        runs = [launch(sized, processes) for processes in RUNS]
        by = {number: [run for run in runs if run["processes"] == number] for number in set(RUNS)}
        apart = [
            abs(one - two)
            for alone, both in zip(by[1], by[2], strict=True)
            for one, two in zip(alone["losses"], both["losses"], strict=True)
        ]
        detail = {"shape": sized.name, "layers": sized.layers, "steps": STEPS} | told(by)
        detail["told"] += f"; losses differ by {max(apart):.1e} at most"
        return figure(apart, goal=goal, detail=detail, higher_is_better=False)

    return measure


def launch(shape: shapes.Shape, processes: int) -> dict[str, Any]:
    """Losses and times of one run.

    Raises:
        RuntimeError: it ended before its last step; with its last words.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        options = ["--shape", json.dumps(asdict(shape)), "--steps", str(STEPS), "--out", str(out)]
        done = subprocess.run(  # noqa: S603 - a file of ours
            [sys.executable, *torchrun, str(Path(__file__).with_name("training_process.py")), *options],
            env=os.environ | {"OMP_NUM_THREADS": str(threads_of(processes))},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        if done.returncode or not out.is_file():
            raise RuntimeError(f"{processes} processes ended with {done.returncode}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def threads_of(processes: int) -> int:
    """Threads of each process: those of this one, shared out."""
    return max(1, torch.get_num_threads() // processes)


def told(by: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """The detail: seconds of the timed steps by one process and by two, and what each had."""
    seconds = {
        number: [took["seconds"] for run in runs for took in run["took"][1:]] for number, runs in by.items()
    }
    one, two = median(seconds[1]), median(seconds[2])
    threads = {number: threads_of(number) for number in by}
    took = (
        f"a step takes 1 process with {threads[1]} threads {one:.2f} s, "
        f"2 processes with {threads[2]} each {two:.2f} s"
    )
    return {
        "what": f"nats between the losses of 2 processes under torchrun and of 1; {took}",
        "dtype": "float32",
        "backend": "gloo",
        "mode": by[1][0]["mode"],
        "seconds_1": seconds[1],
        "seconds_2": seconds[2],
        "speedup": one / two,
        "omp_num_threads": threads,
        "told": took,
    }
