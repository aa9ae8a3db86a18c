"""One process of P10 under `torchrun`: some optimiser steps on P2's rows, its losses and times as JSON.

python -m torch.distributed.run --standalone --nproc-per-node=2 benchmarks/training_process.py OPTIONS
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from setting import Setting
from shapes import Shape
from training_work import CONFIG, PICTURES, make_rows, shared_prefix

from illume_plugin.generation import SamplingPlan

#: A picture's rows are 8 short branches of one sequence, so two plain rows hold more tokens than they: each
#: picture is a micro-batch, and there are as many as processes.
MICRO_BATCH = CONFIG.batch_size // (4 * PICTURES)


@click.command(help=__doc__)
@click.option("--shape", required=True, help="Fields of the shape, as JSON.")
@click.option("--steps", required=True, type=int)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Written by the first process.")
def main(shape: str, steps: int, out: Path) -> None:
    """Train, and write what each step came to."""
    # no step without a change of the weights: a loss shows that the gradients before it were right
    config = replace(CONFIG, micro_batch_size=MICRO_BATCH, max_steps=steps, warmup=0.0, learning_rate=1e-3)
    setting = Setting("cpu", torch.float32, 1, None, SamplingPlan.paper())
    sized = Shape(**json.loads(shape))
    with TemporaryDirectory() as folder:
        rows, images = make_rows(sized, Path(folder))
        ours, way = shared_prefix(sized, setting, rows, images, Path(folder), config)
        ours.trainer.train()
    found = {"losses": ours.clock.losses, "took": ours.clock.took, "mode": way}
    found["processes"] = ours.trainer.args.world_size
    if os.environ["RANK"] == "0":
        out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
