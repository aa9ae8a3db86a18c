"""Speed of sampling, against the same work done by others in the same run.

    python benchmarks/sampling.py --quick
    python benchmarks/sampling.py --json sampling.json

P1   25 rationales of 30 tokens for one picture (5 temperatures x 5), against one call of transformers'
     `generate(num_return_sequences=25)`. P1L the same with 1,088 picture tokens.

A figure is the ratio of the peer's time to ours; each repeat runs both, in turns who goes first.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import shapes
import torch

from illume_plugin.generation import SamplingPlan
from illume_plugin.generation.decoder import Decoder
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.selfcheck import choose

PLAN = replace(SamplingPlan.paper(), max_new_tokens=30)


@dataclass(frozen=True)
class Setting:
    """Where and how long everything is measured."""

    device: str
    dtype: torch.dtype
    repeats: int
    layers: int | None
    plan: SamplingPlan


Work = Callable[[], list[list[int]]]
Times = dict[str, float]
#: Seconds on the wall count; processor seconds tell more where other programs take turns.
CLOCKS = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}


def main_work(shape: shapes.Shape, setting: Setting) -> tuple[Work, Work, dict[str, Any]]:
    """The peer's and our way of drawing one task's candidates, and what is worth telling about them."""
    plan = setting.plan
    if setting.layers:
        shape = replace(shape, layers=setting.layers)
    model = shape.model(setting.dtype, setting.device)
    batch = shape.prompts(1, setting.dtype, setting.device)
    top_k = plan.top_k(shapes.VOCABULARY)
    settings = {
        "do_sample": True,
        "num_beams": 1,
        "max_new_tokens": plan.max_new_tokens,
        "eos_token_id": shapes.END,
        "pad_token_id": shapes.PAD,
    }
    temperatures = [t for t in plan.temperatures for _ in range(plan.samples)]

    def peer() -> list[list[int]]:
        # One temperature for all rows: `generate` has no others in one call.
        out = model.generate(
            **batch, **settings, num_return_sequences=plan.size, top_k=top_k, temperature=median(temperatures)
        )
        return out[:, batch["input_ids"].shape[1] :].tolist()

    def ours() -> list[list[int]]:
        draw = SeededDraw(
            range(plan.size), temperatures, top_k=top_k, steps=plan.max_new_tokens, device=setting.device
        )
        decoder = Decoder(plan.size, draw, (shapes.END,), shapes.PAD)
        return model.generate(**batch, **settings, top_k=0, custom_generate=decoder).tolist()

    mode = choose(model, shape.prompts(2, setting.dtype, setting.device), (shapes.END,), shapes.PAD)
    parameters = sum(one.numel() for one in model.parameters())
    return peer, ours, {"shape": shape.name, "parameters": parameters, "mode": mode}


def against_generate(shape: shapes.Shape, goal: float) -> Callable[[Setting], dict[str, Any]]:
    """A figure: the peer's time over ours for all candidates of one task."""

    def measure(setting: Setting) -> dict[str, Any]:
        with torch.inference_mode():
            peer, ours, detail = main_work(shape, setting)
            peers, own = in_turns(peer, ours, setting)
        detail |= {f"peer_{clock}": [one[clock] for one in peers] for clock in CLOCKS}
        detail |= {f"our_{clock}": [one[clock] for one in own] for clock in CLOCKS}
        detail |= {"rows": setting.plan.size, "tokens": setting.plan.max_new_tokens}
        return figure([a["seconds"] / b["seconds"] for a, b in zip(peers, own, strict=True)], goal, detail)

    return measure


def in_turns(peer: Work, ours: Work, setting: Setting) -> tuple[list[Times], list[Times]]:
    """What each takes in every repeat, after one that is not counted."""
    times: dict[Work, list[Times]] = {peer: [], ours: []}
    for repeat in range(setting.repeats + 1):
        for work in (peer, ours) if repeat % 2 else (ours, peer):
            before = {name: clock() for name, clock in CLOCKS.items()}
            tokens = work()
            times[work].append({name: clock() - before[name] for name, clock in CLOCKS.items()})
            if any(len(row) != setting.plan.max_new_tokens for row in tokens):
                raise AssertionError("Rows of random weights ended early: the work is not the same.")
    return times[peer][1:], times[ours][1:]


def figure(values: list[float], goal: float, detail: dict[str, Any]) -> dict[str, Any]:
    """One figure as it is written."""
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "goal": goal,
        "higher_is_better": True,
        "detail": detail,
    }


FIGURES: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "P1": against_generate(shapes.MEDIUM, goal=5),
    "P1L": against_generate(shapes.MEDIUM_LONG, goal=10),
}


def machine(setting: Setting) -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = setting.device == "cpu"
    return {
        "device": platform.processor() or platform.machine() if cpu else torch.cuda.get_device_name(),
        "dtype": str(setting.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }


def line(name: str, one: dict[str, Any]) -> str:
    """One figure for the terminal."""
    numbers = " ".join(f"{one[key]:7.2f}" for key in ("median", "min", "max"))
    clocks = "  ".join(
        f"{clock} {median(one['detail'][f'peer_{clock}']):.2f} / {median(one['detail'][f'our_{clock}']):.2f}"
        for clock in CLOCKS
    )
    return f"{name:5} {numbers}  n = {one['n']}  goal {one['goal']:g}  {clocks}  {one['detail']['mode']}"


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A third of the layers, 3 repeats.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="The figures.")
@click.option("--only", default=",".join(FIGURES), show_default=True, help="Comma separated.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--threads", default=0, help="0: as many as torch takes.")
def main(
    quick: bool, out: Path | None, only: str, device: str, dtype: str, repeats: int, threads: int
) -> None:
    """Measure, print and write."""
    if threads:
        torch.set_num_threads(threads)
    setting = Setting(device, getattr(torch, dtype), 3 if quick else repeats, 10 if quick else None, PLAN)
    found: dict[str, Any] = {}
    click.echo(f"{'':5} {'median':>7} {'min':>7} {'max':>7}")
    for name in only.split(","):
        found[name] = FIGURES[name](setting)
        found[name]["detail"] |= machine(setting)
        click.echo(line(name, found[name]))
        if out:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
