"""Speed of training steps, against the same work done by others in the same run.

\b
    python benchmarks/training.py --quick
    python benchmarks/training.py --json training.json

\b
P2   an optimiser step on 8 candidates for each of 2 pictures, LoRA of rank 16, against TRL's SFTTrainer with
     one row for each candidate. P2L the same with 1,088 picture tokens.
P2D  a DPO step on all pairs of 4 fitting and 4 unfitting candidates of a picture, against TRL's DPOTrainer;
     P2D_kept the same where the peer is given what its reference says, which it cannot keep by itself.
P10  the difference of the losses of two processes under torchrun from those of one.

A figure but P10 is the ratio of the peer's time to ours; each repeat runs both, in turns who goes first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import shapes
import torch
from figures import Figure, LeftOutError, line
from setting import Setting, chosen, machine, usual_dtype
from training_pairs import against_dpo
from training_scaling import together
from training_work import against_sft

from illume_plugin.generation import SamplingPlan

#: Layers of the text model in the small set, a third of them all.
QUICK_LAYERS, QUICK_REPEATS = 10, 3

FIGURES: dict[str, Callable[[Setting], Figure]] = {
    "P2": against_sft(shapes.MEDIUM, goal=5),
    "P2L": against_sft(shapes.MEDIUM_LONG, goal=10),
    "P2D": against_dpo(shapes.MEDIUM, goal=20),
    "P2D_kept": against_dpo(shapes.MEDIUM, goal=15, kept=True),
    "P10": together(shapes.MEDIUM, goal=1e-5),
}


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A third of the layers, 3 repeats.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="The figures.")
@click.option("--only", default=",".join(FIGURES), show_default=True, help="Comma separated.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="auto: bfloat16 on a GPU and where the processor multiplies it (AMX), else float32.",
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1))
@click.option("--layers", default=0, type=click.IntRange(0), help="Of the text model; 0: all it has.")
@click.option("--threads", default=0, type=click.IntRange(0), help="0: as many as torch takes.")
def main(
    quick: bool, out: Path | None, only: str, device: str, dtype: str, repeats: int, layers: int, threads: int
) -> None:
    """Measure, print and write."""
    if threads:
        torch.set_num_threads(threads)
    kind = getattr(torch, usual_dtype(device) if dtype == "auto" else dtype)
    depth = layers or (QUICK_LAYERS if quick else None)
    setting = Setting(
        device, kind, min(repeats, QUICK_REPEATS) if quick else repeats, depth, SamplingPlan.paper(), quick
    )
    found: dict[str, Figure] = {}
    click.echo(f"{'':9} {'median':>7} {'min':>7} {'max':>7}")
    for name in chosen(only, FIGURES):
        try:
            found[name] = FIGURES[name](setting)
        except LeftOutError as reason:
            click.echo(f"{name:9} left out: {reason}")
            continue
        found[name]["detail"] = where(device, kind) | found[name]["detail"] | {"quick": quick}
        if depth:
            found[name]["detail"]["layers"] = depth
        click.echo(line(name, found[name]))
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def where(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """What was measured on, and whose Trainers."""
    found = machine(device, dtype)
    found["versions"] |= {name: version(name) for name in ("trl", "peft") if find_spec(name)}
    return found


if __name__ == "__main__":
    main()
