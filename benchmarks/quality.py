"""Quality on the picture world: ILLUME's loop (Q1), and against tuning on written rationales (Q2).

    python benchmarks/quality.py --quick --json quick.json
    python benchmarks/quality.py --json quality.json --seeds 0,1,2,3,4

Every seed draws its own tasks, held-out tasks and noise; all figures of a seed come from the same held-out
tasks. What is finished in --folder is not done again, so a stopped benchmark goes on with the same command.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click

from backend.simulate import Measurement, Options, Simulation
from backend.simulate.supervised import supervised
from illume_plugin.training.spec import write_json


@dataclass(frozen=True)
class Work:
    """One size of the benchmark: the loop, and how many written rationales its two peers learn from."""

    options: Options
    few: int
    many: int


FULL = Work(Options(), few=120, many=1200)
#: Shows that everything runs; its figures are noise.
QUICK = Work(
    Options(tasks=20, iterations=2, samples=3, held_out_tasks=30, held_out_samples=2), few=20, many=100
)


@dataclass(frozen=True)
class Outcome:
    """What one seed gave: before and after the loop, and the two peers."""

    seed: int
    base: Measurement
    last: Measurement
    few: Measurement
    many: Measurement
    ended: str


def measure_seed(work: Work, seed: int, folder: Path) -> Outcome:
    """Run the loop and its peers for one seed, as far as `folder` does not hold the results already."""
    simulation = Simulation(
        replace(work.options, seed=seed),
        folder / f"seed-{seed}",
        say=lambda line: click.echo(f"seed {seed}: {line}"),
    )
    done = simulation.run()
    few, many = supervised(simulation, work.few), supervised(simulation, work.many)
    return Outcome(seed, done[0].measured, done[-1].measured, few, many, done[-1].ended)


def figures(work: Work, outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """The benchmark's figures by name; each over all seeds, with the goal it has to reach."""
    detail = {str(one.seed): _detail(one) for one in outcomes}
    found = {
        "Q1": _figure([one.last.fit_rate.value for one in outcomes], 0.90, "held-out fit rate, T = 0.7"),
        "Q1_answers": _figure(
            [one.last.answer_accuracy.value - one.base.answer_accuracy.value for one in outcomes],
            -0.01,
            "change of answer accuracy",
        ),
        "Q1_distinct": _figure(
            [one.last.distinct.value / max(one.base.distinct.value, 1e-9) for one in outcomes],
            0.70,
            "distinct samples, share of the base model's",
        ),
        "Q2": _figure(
            [one.last.fit_rate.value / max(one.many.fit_rate.value, 1e-9) for one in outcomes],
            0.97,
            f"fit rate, share of that of {work.many} written rationales",
        ),
        "Q2_few": _figure(
            [one.last.fit_rate.value - one.few.fit_rate.value for one in outcomes],
            0.0,
            f"fit rate above that of {work.few} written rationales",
        ),
    }
    found["Q1"]["detail"] |= {
        "seeds": detail,
        "options": work.options.to_json(),
        "few": work.few,
        "many": work.many,
    }
    return found


def _figure(values: Sequence[float], goal: float, what: str) -> dict[str, Any]:
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "goal": goal,
        "higher_is_better": True,
        "detail": {"what": what, "values": list(values)},
    }


def _detail(one: Outcome) -> dict[str, Any]:
    versions = {"base": one.base, "illume": one.last, "supervised_few": one.few, "supervised_many": one.many}
    return {"ended": one.ended} | {
        name: {
            figure: getattr(measured, figure).value
            for figure in ("fit_rate", "fit_rate_plan", "answer_accuracy", "distinct")
        }
        for name, measured in versions.items()
    }


def _table(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':12} {'median':>8} {'min':>8} {'max':>8} {'goal':>8}  reached"]
    for name, one in found.items():
        numbers = " ".join(f"{one[key]:8.3f}" for key in ("median", "min", "max", "goal"))
        reached = "yes" if one["median"] >= one["goal"] else "NO"
        lines.append(f"{name:12} {numbers}  {reached:7}  {one['detail']['what']}, n = {one['n']}")
    return "\n".join(lines)


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--quick", is_flag=True, help="A tiny size that only shows that it runs.")
@click.option(
    "--json", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The figures."
)
@click.option(
    "--seeds", default="0,1,2,3,4", show_default=True, help="Comma separated; --quick takes the first."
)
@click.option(
    "--folder",
    default=Path("results/quality"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Work.",
)
def main(*, quick: bool, out: Path, seeds: str, folder: Path) -> None:
    logging.basicConfig(level=logging.WARNING)
    work = QUICK if quick else FULL
    wanted = [int(seed) for seed in seeds.split(",")][: 1 if quick else None]
    place = folder.with_name(f"{folder.name}-quick") if quick else folder
    outcomes = []
    for seed in wanted:
        outcomes.append(measure_seed(work, seed, place))
        write_json(out, figures(work, outcomes))
    click.echo(_table(figures(work, outcomes)))


if __name__ == "__main__":
    main()
