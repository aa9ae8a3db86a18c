"""Whether an adapter trained with DRESS does what is said to it, on the picture world's held-out tasks.

\b
    python benchmarks/dress_control.py --json dress.json --seeds 0,1,2
    python benchmarks/dress_control.py --quick --json dress.json

\b
Q3_dress_control  fit rate under "helpful 4/4, yes" less that under "helpful 1/4, no" (the control gap)
Q3_dress_stars    the same with the stars alone
Q3_dress_asked    fit rate under "helpful 4/4, yes" less that of the plain prompt
Q3_dress_refined  fit rate of second turns after a wish for a change of a rationale that did not fit, less
                  that of drawing for the same tasks again, both under "helpful 4/4, yes"
Q3_dress_wish     the same less that of second turns after another wish than the one that is right

Everything is drawn at T = 0.7 with the same noise; the intervals are over held-out tasks, the range is over
seeds of the world, of the training and of the draws.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import dress_work as work
import torch
from dress_work import BAD, BLAMED, GOOD, PLAIN, PRAISED, WISHES, Posed
from seed_figures import over_seeds
from setting import machine

from backend.simulate.world import DrawnPictures
from illume_plugin.base_model import BaseModel, load_base_model
from illume_plugin.embedded import Reason, base_model_path
from illume_plugin.intervals import bootstrap, wilson
from illume_plugin.training import TrainConfig
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.spec import write_json
from illume_plugin.types import Metric

Draws = Sequence[Sequence[str | None]]
#: What is drawn for every held-out task: name -> condition, and whether the adapter is used.
ARMS = {
    "base": (PLAIN, False),
    "plain": (PLAIN, True),
    "good": (GOOD, True),
    "bad": (BAD, True),
    "praised": (PRAISED, True),
    "blamed": (BLAMED, True),
}
ASKED = sorted(set(WISHES.values()))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    tasks: int = 120
    held_out: int = 200
    samples: int = 4
    epochs: int = 5


@dataclass(frozen=True)
class Found:
    """What one seed came to: each with its 95 % interval over held-out tasks.

    Attributes:
        fit_rates: by arm; among them those of tasks whose first rationale did not fit.
        gaps: figure -> difference, task by task.
        reasons: by arm, how many draws were what.
    """

    fit_rates: Mapping[str, Metric]
    gaps: Mapping[str, Metric]
    reasons: Mapping[str, Mapping[str, int]]
    feedback: int
    steps: int
    seconds: float


def measure(seed: int, size: Size) -> Found:
    """Train with one seed, and draw."""
    began = time.perf_counter()
    config = TrainConfig(seed=seed, epochs=size.epochs, objectives=ObjectiveSettings(dress=1.0))
    with TemporaryDirectory() as folder:
        pictures = DrawnPictures(Path(folder) / "pictures")
        base = load_base_model(base_model_path(), device="cpu")
        judged = work.labelled(seed, size.tasks, pictures)
        learnt = work.training_set(base, judged)
        steps = work.train(base, judged, learnt, config, Path(folder) / "scratch")
        tasks = work.held_out(seed, size.held_out, pictures)
        drawn = {
            arm: work.first_turns(base, tasks, condition, size.samples, work.ADAPTER if trained else None)
            for arm, (condition, trained) in ARMS.items()
        }
        second = refined(base, tasks, drawn["plain"], drawn["praised"], size.samples)
    first = judge(tasks, drawn)
    took = time.perf_counter() - began
    rates = {arm: wilson(values) for arm, values in {**first, **second}.items()}
    return Found(rates, gaps(first, second), reasons(tasks, drawn), len(learnt.feedback), steps, took)


def refined(
    base: BaseModel, tasks: Sequence[Posed], plain: Draws, praised: Draws, samples: int
) -> dict[str, list[float]]:
    """Fit rates of the tasks whose first plain rationale did not fit: drawn again, and after a wish."""
    unfit = [
        (task, first, again)
        for task, (first, *_), again in zip(tasks, plain, praised, strict=True)
        if first is not None and task.reason(first) is not Reason.OK
    ]
    posed = [task for task, _, _ in unfit]
    befores = [before for _, before, _ in unfit]
    wishes = [WISHES[task.reason(before)] for task, before, _ in unfit]
    others = [ASKED[(ASKED.index(wish) + 1) % len(ASKED)] for wish in wishes]
    return judge(
        posed,
        {
            "drawn again": [again for _, _, again in unfit],
            "after the wish": work.second_turns(base, posed, befores, wishes, samples),
            "after another wish": work.second_turns(base, posed, befores, others, samples),
        },
    )


def judge(tasks: Sequence[Posed], drawn: Mapping[str, Draws]) -> dict[str, list[float]]:
    """Each task's share of draws that fit, by arm."""
    return {
        arm: [
            fmean(task.reason(text) is Reason.OK for text in draws)
            for task, draws in zip(tasks, of_arm, strict=True)
        ]
        for arm, of_arm in drawn.items()
    }


def reasons(tasks: Sequence[Posed], drawn: Mapping[str, Draws]) -> dict[str, dict[str, int]]:
    """How many draws were what, by arm."""
    return {
        arm: dict(
            Counter(
                str(task.reason(text)) for task, draws in zip(tasks, of_arm, strict=True) for text in draws
            )
        )
        for arm, of_arm in drawn.items()
    }


def gaps(first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]]) -> dict[str, Metric]:
    """The figures: means of differences within tasks."""

    def gap(one: Sequence[float], other: Sequence[float]) -> Metric:
        return bootstrap([a - b for a, b in zip(one, other, strict=True)])

    return {
        "Q3_dress_control": gap(first["praised"], first["blamed"]),
        "Q3_dress_stars": gap(first["good"], first["bad"]),
        "Q3_dress_asked": gap(first["praised"], first["plain"]),
        "Q3_dress_refined": gap(second["after the wish"], second["drawn again"]),
        "Q3_dress_wish": gap(second["after the wish"], second["after another wish"]),
    }


#: Less than a point is nothing that anybody would see.
GOAL = 0.01
WHAT = {
    "Q3_dress_control": 'fit rate under "helpful 4/4, yes" above that under "helpful 1/4, no"',
    "Q3_dress_stars": "the same with the stars alone",
    "Q3_dress_asked": 'fit rate under "helpful 4/4, yes" above that of the plain prompt',
    "Q3_dress_refined": "fit rate after a wish above that of drawing again",
    "Q3_dress_wish": "fit rate after the right wish above that after another one",
}


def figures(by_seed: Mapping[int, Found]) -> dict[str, dict[str, Any]]:
    """The figures over seeds; the intervals over tasks are with the outcomes of each."""
    return {
        name: over_seeds(
            {seed: found.gaps[name].value for seed, found in by_seed.items()}, goal=GOAL, what=what
        )
        for name, what in WHAT.items()
    }


def told(by_seed: Mapping[int, Found]) -> str:
    """Everything for the terminal."""
    lines = []
    for seed, found in by_seed.items():
        lines.append(
            f"seed {seed}: {found.feedback} examples, {found.steps} steps, {found.seconds / 60:.1f} min"
        )
        lines += [f"  {arm:26} {_interval(rate)}, n = {rate.n}" for arm, rate in found.fit_rates.items()]
        lines += [f"  {name:26} {_interval(gap)}" for name, gap in found.gaps.items()]
    return "\n".join(lines)


def _interval(metric: Metric) -> str:
    return f"{metric.value:+.3f} ({metric.low:+.3f} to {metric.high:+.3f})"


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A tiny size that only shows that it runs; one seed.")
@click.option("--json", "out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seeds", default="0,1,2", show_default=True, help="Comma separated.")
@click.option("--tasks", default=Size.tasks, show_default=True, type=click.IntRange(1))
@click.option("--held-out", default=Size.held_out, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=Size.epochs, show_default=True, type=click.IntRange(1))
def main(quick: bool, out: Path, seeds: str, tasks: int, held_out: int, epochs: int) -> None:
    """Measure, print and write after each seed."""
    size = Size(6, 6, 2, 1) if quick else Size(tasks, held_out, epochs=epochs)
    by_seed: dict[int, Found] = {}
    for seed in [int(each) for each in seeds.split(",")][: 1 if quick else None]:
        by_seed[seed] = measure(seed, size)
        outcomes = {number: asdict(found) for number, found in by_seed.items()}
        where: dict[str, Any] = {"size": asdict(size), **machine("cpu", torch.float32)}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {**figures(by_seed), "dress": {"outcomes": outcomes, **where}})
        click.echo(told({seed: by_seed[seed]}))


if __name__ == "__main__":
    main()
