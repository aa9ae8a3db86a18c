"""Quality on the picture world: the loop (Q1), written rationales (Q2), objectives (Q3), wrong ticks (Q4).

\b
    python benchmarks/quality.py --size small --json small.json
    python benchmarks/quality.py --json quality.json --seeds 0,1,2,3,4
    python benchmarks/quality_page.py quality.json

Every seed draws its own tasks, held-out tasks, slips and training noise; all arms of a seed are measured on
the same held-out tasks. What is finished in --folder is not done again, so a stopped benchmark goes on with
the same command.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import claims
import click
from claims import CONTROL, LOOP, NOISE, OBJECTIVES, ONLY_ILLUME, SUPERVISED, Outcome
from seed_figures import over_seeds, reached

from illume_plugin.errors import IllumeError
from illume_plugin.training.spec import write_json
from illume_plugin.types import BASE_VERSION

Found = Mapping[str, Mapping[int, Outcome]]  # arm -> seed -> outcome
Value = Callable[[Mapping[str, Outcome]], float]


def figures(found: Found) -> dict[str, dict[str, Any]]:
    """The benchmark's figures by name, each over the seeds for which all the arms that it needs are done."""
    every, matched, tenth = SUPERVISED

    def fit(arm: str) -> Value:
        return lambda of: of[arm].last.fit_rate.value

    def gain(arm: str) -> Value:
        return lambda of: of[arm].last.fit_rate.value - of[arm].base.fit_rate.value

    def less(one: Value, other: Value) -> Value:
        return lambda of: one(of) - other(of)

    asked: list[tuple[str, Value, float, str]] = [
        ("Q1", fit(LOOP), 0.90, "held-out fit rate at T = 0.7 after the loop"),
        ("Q1_base", less(fit(LOOP), gain(LOOP)), 0.15, "the same before it; 15 to 40 % is wanted"),
        ("Q1_answers", _answers, -0.01, "change of answer accuracy"),
        ("Q1_distinct", _distinct, 0.70, "distinct samples, share of the base model's"),
        ("Q2", lambda of: fit(LOOP)(of) / fit(every)(of), 0.97, "fit rate, share of supervised-all's"),
        ("Q2_matched", less(fit(LOOP), fit(matched)), 0.0, "fit rate above supervised-matched"),
        ("Q2_tenth", less(fit(LOOP), fit(tenth)), 0.0, "fit rate above supervised-tenth"),
        *((f"Q4_{arm}", gain(arm), 0.0, "gain in fit rate with wrong ticks") for arm in NOISE),
        (
            "Q4_agreement",
            less(fit("agreement"), fit("majority")),
            0.0,
            "votes weighed, above a plain majority",
        ),
        *(
            (f"Q3_{arm}", less(fit(arm), fit(ONLY_ILLUME)), 0.0, "fit rate above ILLUME's loss alone")
            for arm in OBJECTIVES
            if arm != ONLY_ILLUME
        ),
        (
            "Q3_csr",
            less(fit("with-csr"), fit("without-csr")),
            0.0,
            "pairs by CSR on tasks nobody judged, above the same tasks without them",
        ),
        ("control", _said_no, 1.0, "without signal: ended in plain words, with no adapter"),
    ]
    named = {name: _figure(found, value, goal, what) for name, value, goal, what in asked}
    return {name: figure for name, figure in named.items() if figure}


def _answers(of: Mapping[str, Outcome]) -> float:
    return of[LOOP].last.answer_accuracy.value - of[LOOP].base.answer_accuracy.value


def _distinct(of: Mapping[str, Outcome]) -> float:
    return of[LOOP].last.distinct.value / max(of[LOOP].base.distinct.value, 1e-9)


def _said_no(of: Mapping[str, Outcome]) -> float:
    control = of[CONTROL]
    return float(control.ended.startswith("no fitting candidates") and control.last.version == BASE_VERSION)


def _figure(found: Found, value: Value, goal: float, what: str) -> dict[str, Any] | None:
    values = {}
    for seed in sorted({seed for of_arm in found.values() for seed in of_arm}):
        try:
            values[seed] = value({arm: by_seed[seed] for arm, by_seed in found.items() if seed in by_seed})
        except KeyError:
            continue  # an arm that this figure needs is not done for this seed
    if not values:
        return None
    return over_seeds(values, goal=goal, what=what)


def report(size: str, found: Found) -> dict[str, Any]:
    """Everything that is written: the figures, and under `work` what they were made from."""
    work = {
        "size": size,
        "options": claims.SIZES[size].options.to_json(),
        "written": claims.SIZES[size].written,
        "epochs": dict(claims.SIZES[size].epochs),
        "outcomes": [one.to_json() for by_seed in found.values() for one in by_seed.values()],
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    return {**figures(found), "work": work}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures for the terminal."""
    lines = [f"{'':14} {'median':>7} {'min':>7} {'max':>7}   {'95 % interval':>16} {'goal':>6}  reached"]
    for name, one in found.items():
        numbers = " ".join(f"{one[key]:7.3f}" for key in ("median", "min", "max"))
        detail = one["detail"]
        interval = f"{detail['low']:.3f} to {detail['high']:.3f}" if one["n"] > 1 else ""
        said = f"{'yes' if reached(one) else 'NO':7}  {detail['what']}, n = {one['n']}"
        lines.append(f"{name:14} {numbers}   {interval:>16} {one['goal']:6.2f}  {said}")
    return "\n".join(lines)


def work_off(
    size: str, arms: Sequence[str], seeds: Sequence[int], folder: Path, jobs: int, out: Path
) -> Found:
    """Run every arm with every seed, a process each, `jobs` at a time; writes `out` after each of them."""
    found: dict[str, dict[int, Outcome]] = {arm: {} for arm in arms}
    work = [(arm, seed) for seed in seeds for arm in arms]
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(claims.run, arm, claims.SIZES[size], seed, folder / f"{arm}-{seed}"): (arm, seed)
            for arm, seed in work
        }
        for done, future in enumerate(as_completed(futures), start=1):
            arm, seed = futures[future]
            try:
                outcome = future.result()
            except IllumeError as error:
                click.echo(f"{arm}, seed {seed}: {error}", err=True)
                continue
            found[arm][seed] = outcome
            write_json(out, report(size, found))
            left = (time.monotonic() - started) / done * (len(work) - done)
            click.echo(f"{done}/{len(work)}  {_line(outcome)}; about {left / 60:.0f} min left")
    return found


def _line(one: Outcome) -> str:
    curve = " ".join(f"{each.fit_rate.value:.2f}" for each in one.curve)
    return f"{one.arm}, seed {one.seed}: fit rate {curve}, answers {one.last.answer_accuracy.value:.3f}"


@click.command(help=(__doc__ or ""))
@click.option("--quick", is_flag=True, help="A tiny size that only shows that it runs; one seed.")
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
@click.option(
    "--json", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The figures."
)
@click.option("--seeds", default="0,1,2,3,4", show_default=True, help="Comma separated.")
@click.option(
    "--arms",
    default=",".join(claims.CLAIMED),
    show_default=True,
    help=f"Comma separated; others are {', '.join(claims.OBJECTIVES)}.",
)
@click.option("--jobs", default=0, help="Pieces of work at a time; 0: one for each core.")
@click.option(
    "--folder",
    default=Path("results/quality"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Work.",
)
def main(*, quick: bool, size: str, out: Path, seeds: str, arms: str, jobs: int, folder: Path) -> None:
    size = "quick" if quick else size
    wanted = [arm.strip() for arm in arms.split(",")]
    if unknown := sorted(set(wanted) - set(claims.ARMS)):
        raise click.BadParameter(f"{', '.join(unknown)} is no arm; known are {', '.join(claims.ARMS)}.")
    numbers = [int(seed) for seed in seeds.split(",")][: 1 if quick else None]
    cores = os.cpu_count() or 1
    jobs = min(jobs or cores, len(wanted) * len(numbers))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["ILLUME_TORCH_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(max(1, cores // jobs))
    found = work_off(size, wanted, numbers, folder / size, jobs, out)
    click.echo(table(figures(found)))


if __name__ == "__main__":
    main()
