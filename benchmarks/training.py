"""Speed of training steps, against the same work done by others in the same run.

    python benchmarks/training.py --quick
    python benchmarks/training.py --json training.json

P2   an optimiser step on 8 candidates for each of 2 pictures, LoRA of rank 16, against TRL's SFTTrainer with
     one row for each candidate. P2L the same with 1,088 picture tokens.

A figure is the ratio of the peer's time to ours; each repeat runs both, in turns who goes first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import shapes
import torch
from figures import Figure, LeftOutError, line
from setting import Setting, machine
from training_work import against_sft

from illume_plugin.generation import SamplingPlan

FIGURES: dict[str, Callable[[Setting], Figure]] = {
    "P2": against_sft(shapes.MEDIUM, goal=5),
    "P2L": against_sft(shapes.MEDIUM_LONG, goal=10),
}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A third of the layers, 3 repeats.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="The figures.")
@click.option("--only", default=",".join(FIGURES), show_default=True, help="Comma separated.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--layers", default=0, help="Of the text model; 0: as many as the shape has.")
@click.option("--threads", default=0, help="0: as many as torch takes.")
def main(
    quick: bool, out: Path | None, only: str, device: str, dtype: str, repeats: int, layers: int, threads: int
) -> None:
    """Measure, print and write."""
    if threads:
        torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    depth = layers or (10 if quick else None)
    setting = Setting(device, kind, 3 if quick else repeats, depth, SamplingPlan.paper(), quick)
    found: dict[str, Any] = {}
    click.echo(f"{'':9} {'median':>7} {'min':>7} {'max':>7}")
    for name in only.split(","):
        try:
            found[name] = FIGURES[name](setting)
        except LeftOutError as error:
            click.echo(f"{name:9} left out: {error}")
            continue
        found[name]["detail"] |= machine(device, kind)
        found[name]["detail"]["versions"]["trl"] = version("trl")
        click.echo(line(name, found[name]))
        if out:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
