"""Search for the training and sampling defaults: one factor at a time, then what helped, together.

    python benchmarks/search.py --jobs 1 --json search.json
    python benchmarks/search.py --only center,rate-2e-3 --seeds 0 --iterations 2 --json try.json

Every variant is a whole simulated loop (`illume simulate`) and differs from the center in what its name says.
A variant is judged on the last iteration: fit rate, answers kept, distinct samples. What is finished in
--folder is not done again.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from backend.simulate import Options, Simulation
from backend.simulate.record import Iteration
from illume_plugin.errors import IllumeError
from illume_plugin.training.spec import write_json

#: What every variant starts from.
CENTER: dict[str, Any] = {
    "train": {
        "rank": 16, "alpha": 32.0, "learning_rate": 1e-3, "epochs": 5, "batch_size": 16,
        "micro_batch_size": 16, "w_min": 10.0, "task_balance": 0.0,
    }
}  # fmt: skip

#: name -> what differs from the center.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "center": {},
    "rate-5e-4": {"train": {"learning_rate": 5e-4}},
    "rate-2e-3": {"train": {"learning_rate": 2e-3}},
    "rate-4e-3": {"train": {"learning_rate": 4e-3}},
    "epochs-3": {"train": {"epochs": 3}},
    "epochs-10": {"train": {"epochs": 10}},
    "rank-8": {"train": {"rank": 8, "alpha": 16.0}},
    "rank-64": {"train": {"rank": 64, "alpha": 128.0}},
    "w-3": {"train": {"w_min": 3.0}},
    "w-30": {"train": {"w_min": 30.0}},
    "balance-half": {"train": {"task_balance": 0.5}},
    "balance-full": {"train": {"task_balance": 1.0}},
    "hot": {"temperatures": (0.5, 0.8, 1.1)},
    "wide": {"temperatures": (0.3, 0.6, 0.9, 1.2)},
    "samples-10": {"samples": 10},
    "fresh": {"train": {"fresh": True}},
}


def options_of(variant: Mapping[str, Any], common: Mapping[str, Any]) -> Options:
    """The simulation of a variant."""
    train = {**CENTER["train"], **variant.get("train", {})}
    return replace(Options(), **{**common, **variant, "train": train})


def run_one(name: str, options: Options, folder: Path) -> tuple[str, int, list[Iteration] | str]:
    """Run one loop; a loop that fails gives its reason instead of its iterations."""
    logging.basicConfig(level=logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "progress.log").open("a", buffering=1) as log:
        try:
            done = Simulation(options, folder, say=lambda line: print(line, file=log)).run()
        except IllumeError as error:
            return name, options.seed, str(error)
    return name, options.seed, done


def summary(done: Sequence[Iteration]) -> dict[str, Any]:
    """What a loop came to."""
    base, last = done[0].measured, done[-1].measured
    return {
        "fit_rate": [one.measured.fit_rate.value for one in done],
        "answer_accuracy": [one.measured.answer_accuracy.value for one in done],
        "distinct": [one.measured.distinct.value for one in done],
        "answers_change": last.answer_accuracy.value - base.answer_accuracy.value,
        "distinct_kept": last.distinct.value / base.distinct.value,
        "kinds": {kind: found["fit_rate"].value for kind, found in last.kinds.items()},
        "steps": sum(int(one.run.get("steps", 0)) for one in done if one.run),
        "training_seconds": sum(one.seconds.get("training", 0.0) for one in done),
        "versions": [one.serves for one in done],
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per variant and seed, the best fit rate first."""
    lines = [f"{'variant':28} {'seed':>4} {'fit':>6} {'answers':>8} {'distinct':>8}  fit rate by iteration"]
    order = sorted(found.values(), key=lambda one: -one["fit_rate"][-1])
    for one in order:
        curve = " ".join(f"{rate:.2f}" for rate in one["fit_rate"])
        figures = f"{one['fit_rate'][-1]:6.3f} {one['answers_change']:+8.3f} {one['distinct_kept']:8.2f}"
        lines.append(f"{one['variant']:28} {one['seed']:4} {figures}  {curve}")
    return "\n".join(lines)


def chosen(only: str) -> dict[str, Mapping[str, Any]]:
    """The variants with these names; "+" joins several into one."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(VARIANTS)
    return {name: _joined(name.split("+")) for name in names}


def _joined(parts: Sequence[str]) -> Mapping[str, Any]:
    joined: dict[str, Any] = {"train": {}}
    for part in parts:
        if part not in VARIANTS:
            raise click.BadParameter(f"{part} is no variant; known are {', '.join(VARIANTS)}.")
        variant = dict(VARIANTS[part])
        joined["train"] |= variant.pop("train", {})
        joined |= variant
    return joined


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--json", "out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--only", default="", help="Variants, comma separated; a+b is both at once.  [default: all]")
@click.option("--seeds", default="0", show_default=True, help="Of the world and everything else.")
@click.option("--jobs", default=1, show_default=True, help="Loops at a time, a process each.")
@click.option("--iterations", default=5, show_default=True)
@click.option("--tasks", default=120, show_default=True, help="Per iteration.")
@click.option("--held-out-tasks", default=300, show_default=True)
@click.option("--folder", default=Path("results/search"), type=click.Path(path_type=Path), help="Work.")
def main(
    *,
    out: Path,
    only: str,
    seeds: str,
    jobs: int,
    iterations: int,
    tasks: int,
    held_out_tasks: int,
    folder: Path,
) -> None:
    common = {"tasks": tasks, "iterations": iterations, "held_out_tasks": held_out_tasks}
    work = [
        (f"{name}-{seed}", name, options_of(variant, {**common, "seed": int(seed)}))
        for seed in seeds.split(",")
        for name, variant in chosen(only).items()
    ]
    found: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run_one, name, options, folder / place) for place, name, options in work]
        for future in as_completed(futures):
            name, seed, done = future.result()
            if isinstance(done, str):
                click.echo(f"{name}, seed {seed}: {done}")
                continue
            found[f"{name}-{seed}"] = {"variant": name, "seed": seed, **summary(done)}
            write_json(out, found)
            click.echo(f"{len(found)}/{len(work)}  {table({name: found[f'{name}-{seed}']}).splitlines()[1]}")
    click.echo(table(found))


if __name__ == "__main__":
    main()
