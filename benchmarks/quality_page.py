"""Writes docs/results.md and its pictures from the JSON of the quality benchmark, and nothing by hand.

\b
    python benchmarks/quality_page.py quality.json
    python benchmarks/quality_page.py quality.json quality-small.json --out docs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import dress_page
from claims import OBJECTIVES
from seed_figures import goals, losses, mean_of, table

from backend.simulate.curve import Series, curve
from illume_plugin.intervals import of_mean
from illume_plugin.types import Metric

PAGE = "results.md"
#: Arm -> what it is, in the order of the tables.
ARMS = {
    "loop": "ILLUME's loop, ticks alone",
    "supervised-all": "tuned on written rationales, all",
    "supervised-matched": "tuned on as many as the loop has tasks",
    "supervised-tenth": "tuned on a tenth",
    "noise-10": "loop, 1 tick in 10 wrong",
    "noise-20": "loop, 1 tick in 5 wrong",
    "majority": "loop, 3 annotators, 1 tick in 5 wrong, majority",
    "agreement": "loop, 3 annotators, 1 tick in 5 wrong, votes weighed",
    "no-signal": "loop in a world that the base model cannot explain",
    "only-illume": "loop, ILLUME's loss alone",
    "with-dpo": "the same and DPO",
    "with-csr": "the same, DPO, and CSR's pairs of as many tasks that nobody judged",
    "without-csr": "the same, DPO, and these tasks without pairs",
    "with-kto": "the same and KTO",
    "with-dress": "the same and DRESS",
    "with-contrast": "the same and C3L's contrast",
    "with-all": "the same and all of these",
}
#: Arms that have a line in a chapter's picture, with its name there.
LINES = {
    "loop": "no wrong ticks",
    "noise-10": "10 % wrong",
    "noise-20": "20 % wrong",
    "only-illume": "ILLUME's loss",
    "with-dpo": "+ DPO",
    "with-all": "+ all",
}
#: More would hide each other.
MOST_LINES = 3
Outcomes = Mapping[str, Sequence[Mapping[str, Any]]]


def page(every: Sequence[Mapping[str, Any]], command: str) -> str:
    """The document: a chapter for each file of figures."""
    parts = [
        "# Results on the picture world",
        f"Written by `{command}` from the benchmark's JSON.",
        "Means over seeds, in brackets Student's 95 % interval; 'not surely' where the goal lies inside it. "
        "The fit rate is the share of rationales "
        "sampled at T = 0.7 for held-out tasks that the checker accepts (true, supporting, specific). Peers "
        "are tuned on rationales that the world writes: true and supporting ones, one for each task, from "
        "the same base model with the same settings but for the epochs.",
        *(
            part
            for found in every
            for part in (dress_page.chapter(found) if dress_page.KEY in found else _chapter(found))
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _chapter(found: Mapping[str, Any]) -> list[str]:
    work = found["work"]
    outcomes = _by_arm(work["outcomes"])
    figures = {name: figure for name, figure in found.items() if name != "work"}
    return [
        f"## Size `{work['size']}`" + (", objectives" if _of_objectives(found) else ""),
        _setting(work),
        f"![fit rate by iteration]({picture_name(found)})",
        "### Goals",
        goals(figures),
        losses(figures),
        "### Every arm",
        _arms(outcomes),
        "### By kind of question",
        _kinds(outcomes),
        *_control(outcomes),
    ]


def picture_name(found: Mapping[str, Any]) -> str:
    """File of a chapter's picture."""
    return f"results-{found['work']['size']}{'-objectives' if _of_objectives(found) else ''}.svg"


def _of_objectives(found: Mapping[str, Any]) -> bool:
    return all(one["arm"] in OBJECTIVES for one in found["work"]["outcomes"])


def picture(outcomes: Outcomes) -> str:
    """Mean fit rate by iteration of the loops that are compared."""
    there = [(arm, name) for arm, name in LINES.items() if outcomes.get(arm)][:MOST_LINES]
    rounds = max(len(one["fit_rate"]) for arm, _ in there for one in outcomes[arm])
    lines = [
        Series(name, [_clipped(_at(outcomes[arm], number)) for number in range(rounds)])
        for arm, name in there
    ]
    seeds = len(outcomes[there[0][0]])
    ticks = ["base", *map(str, range(1, rounds))]
    title = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    return curve(f"Held-out fit rate at T = 0.7, {title}", ticks, lines)


def _at(of_arm: Sequence[Mapping[str, Any]], number: int) -> list[float]:
    """Fit rates of an iteration; a loop that ended keeps what it had."""
    return [one["fit_rate"][min(number, len(one["fit_rate"]) - 1)][0] for one in of_arm]


def _clipped(values: Sequence[float]) -> Metric:
    mean = of_mean(values)
    if mean.n == 1:
        return Metric(mean.value, mean.value, mean.value, 1)  # one seed has no interval
    return Metric(mean.value, max(0.0, mean.low), min(1.0, mean.high), mean.n)


def _setting(work: Mapping[str, Any]) -> str:
    options = work["options"]
    seeds = sorted({one["seed"] for one in work["outcomes"]})
    versions = ", ".join(f"{name} {number}" for name, number in work["versions"].items())
    return (
        f"{options['iterations']} rounds of {options['tasks']} tasks, "
        f"{options['held_out_tasks']} held-out tasks, {work['written']} written rationales, "
        f"seeds {', '.join(map(str, seeds))}. Versions: {versions}, Python {work['python']}, "
        f"{work['cores']} cores."
        + ("" if work["size"] == "full" else " The goals are stated for size `full`.")
    )


def _arms(outcomes: Outcomes) -> str:
    rows = [
        (
            ARMS[arm],
            str(len(of_arm)),
            mean_of(one["fit_rate"][0][0] for one in of_arm) if len(of_arm[0]["fit_rate"]) > 1 else "",
            *(
                mean_of(one[name][-1][0] for one in of_arm)
                for name in ("fit_rate", "answer_accuracy", "distinct")
            ),
            f"{fmean(one['steps'] for one in of_arm):.0f}",
            f"{fmean(one['seconds'] for one in of_arm) / 60:.1f}",
        )
        for arm, of_arm in outcomes.items()
    ]
    columns = ("arm", "seeds", "fit rate, base", "fit rate", "answers", "distinct", "steps", "minutes")
    return table(columns, rows)


def _kinds(outcomes: Outcomes) -> str:
    arms = [arm for arm in outcomes if arm != "no-signal"]
    kinds = sorted(outcomes[arms[0]][0]["kinds"]) if arms else []
    rows = [
        (kind, *(f"{fmean(one['kinds'][kind][0] for one in outcomes[arm]):.2f}" for arm in arms))
        for kind in kinds
    ]
    return table(("fit rate at the end", *arms), rows)


def _control(outcomes: Outcomes) -> list[str]:
    said = list(outcomes.get("no-signal", ()))
    if not said:
        return []
    quotes = "\n".join(f"> seed {one['seed']}: {one['ended'] or 'went on'}" for one in said)
    return [
        "### Without signal",
        "The same loop on questions about patterns, which the base model was never shown. It must say so and "
        "leave no adapter behind:",
        quotes,
    ]


def _by_arm(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {arm: [] for arm in ARMS}
    for one in sorted(outcomes, key=lambda one: int(one["seed"])):
        found[one["arm"]].append(one)
    return {arm: of_arm for arm, of_arm in found.items() if of_arm}


@click.command(help=__doc__)
@click.argument(
    "figures", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--out", default=Path("docs"), show_default=True, type=click.Path(file_okay=False, path_type=Path)
)
def main(figures: tuple[Path, ...], out: Path) -> None:
    every = [json.loads(path.read_text(encoding="utf-8")) for path in figures]
    out.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/quality_page.py {' '.join(path.name for path in figures)}"
    (out / PAGE).write_text(page(every, command), encoding="utf-8")
    loops = [found for found in every if "work" in found]
    for found in loops:
        (out / picture_name(found)).write_text(picture(_by_arm(found["work"]["outcomes"])), encoding="utf-8")
    click.echo(f"{out / PAGE} is written, with {', '.join(map(picture_name, loops)) or 'nothing'} beside it.")


if __name__ == "__main__":
    main()
