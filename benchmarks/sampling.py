"""Speed of sampling and scoring, against the same work done by others in the same run.

\b
    python benchmarks/sampling.py --quick
    python benchmarks/sampling.py --json sampling.json

\b
P1   25 rationales of 30 tokens for one picture (5 temperatures x 5), against one call of transformers'
     `generate(num_return_sequences=25)`. P1L the same with 1,088 picture tokens.
P1V  the same as P1 against vLLM on this processor (where `make vllm-test` has installed it).
P3   scoring 25 candidates with and without the picture, against one forward pass for each.
     P3L the same with 1,088 picture tokens.
P8   milliseconds that a switch to another adapter adds to live calls of 16 clients.

Each but P8 is the ratio of the peer's time to ours; each repeat runs both, in turns who goes first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import generate_work
import scoring_work
import shapes
import switching_work
import torch
import vllm_work
from figures import Figure, LeftOutError, line
from setting import Setting, chosen, machine, usual_dtype

from illume_plugin.generation import SamplingPlan

PLAN = replace(SamplingPlan.paper(), max_new_tokens=30)
#: Layers of the text model in the small set, a third of them all.
QUICK_LAYERS, QUICK_REPEATS = 10, 3

#: What is measured together, by the name of its first figure.
FIGURES: dict[str, Callable[[Setting], dict[str, Figure]]] = {
    "P1": lambda setting: {"P1": generate_work.against_generate(shapes.MEDIUM, 5)(setting)},
    "P1L": lambda setting: {"P1L": generate_work.against_generate(shapes.MEDIUM_LONG, 10)(setting)},
    "P1V": lambda setting: {"P1V": vllm_work.against_vllm(setting)},
    "P3": lambda setting: {"P3": scoring_work.against_plain_rows(shapes.MEDIUM, setting)},
    "P3L": lambda setting: {"P3L": scoring_work.against_plain_rows(shapes.MEDIUM_LONG, setting)},
    "P8": switching_work.measure,
}


def setting_of(*, quick: bool, device: str, dtype: str, repeats: int) -> Setting:
    """The setting that the command line asks for."""
    kind = getattr(torch, usual_dtype(device) if dtype == "auto" else dtype)
    if quick:
        return Setting(device, kind, min(repeats, QUICK_REPEATS), QUICK_LAYERS, PLAN, quick=True)
    return Setting(device, kind, repeats, None, PLAN)


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
@click.option("--threads", default=0, type=click.IntRange(0), help="0: as many as torch takes.")
def main(
    quick: bool, out: Path | None, only: str, device: str, dtype: str, repeats: int, threads: int
) -> None:
    """Measure, print and write."""
    if threads:
        torch.set_num_threads(threads)
    setting = setting_of(quick=quick, device=device, dtype=dtype, repeats=repeats)
    found: dict[str, Figure] = {}
    click.echo(f"{'':9} {'median':>7} {'min':>7} {'max':>7}")
    for name in chosen(only, FIGURES):
        try:
            measured = FIGURES[name](setting)
        except LeftOutError as reason:
            click.echo(f"{name:9} left out: {reason}")
            continue
        for each, one in measured.items():
            one["detail"] |= {"quick": quick, **machine(device, setting.dtype)}
            found[each] = one
            click.echo(line(each, one))
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
