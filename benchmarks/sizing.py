"""How many devices a team needs, from what one candidate costs on one of them.

    python benchmarks/sampling.py --json sampling.json
    python benchmarks/sizing.py sampling.json --write docs/scale-out.md

One row for each measured figure; further files (of another machine, of a GPU) add rows. A row is arithmetic:

    tasks per hour      3600 x utilisation / (draws x seconds per candidate)
    devices             tasks a day / (tasks per hour x hours), rounded up

It counts drawing only. Scoring what was drawn is less (P3), training is another machine's work.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

#: Figures of `sampling.py`, and whose seconds in them are of the engine that would be used.
ENGINES = {
    "P1": ("our_seconds", "this process"),
    "P1L": ("our_seconds", "this process"),
    "P1V": ("peer_seconds", "vLLM"),
}
#: Tasks a day that the table answers for.
LOADS = (1_000, 10_000, 100_000, 1_000_000)
BEGIN, END = "<!-- sizing.py writes from here -->", "<!-- to here -->"


@dataclass(frozen=True)
class Need:
    """What is asked for.

    Attributes:
        draws: candidates drawn for one task.
        hours: of a day in which they may be drawn; sampling ahead can work at night.
        utilisation: share of that time in which a device really draws.
    """

    draws: int = 15
    hours: float = 20.0
    utilisation: float = 0.7


@dataclass(frozen=True)
class Cost:
    """What one candidate costs on one device.

    Attributes:
        what: base model's shape, length of a rationale.
        where: engine, device, type of numbers.
        seconds: median over the repeats.
    """

    what: str
    where: str
    seconds: float

    def tasks_per_hour(self, need: Need) -> float:
        """Tasks that one device samples in an hour."""
        return 3600 * need.utilisation / (need.draws * self.seconds)

    def devices(self, tasks_a_day: int, need: Need) -> int:
        """Devices for so many tasks a day."""
        return math.ceil(tasks_a_day / (self.tasks_per_hour(need) * need.hours))


def costs(figures: Mapping[str, Any]) -> list[Cost]:
    """The costs in one file of `sampling.py`.

    Raises:
        ValueError: it holds none.
    """
    found = [_cost(figures[name], *engine) for name, engine in ENGINES.items() if name in figures]
    if not found:
        raise ValueError(f"none of {', '.join(ENGINES)} is in it")
    return found


def _cost(figure: Mapping[str, Any], seconds: str, engine: str) -> Cost:
    detail = figure["detail"]
    million = detail["parameters"] / 1e6
    return Cost(
        what=f"{detail['shape']} ({million:,.0f} M), {detail['tokens']} tokens",
        where=f"{engine}, {_device(detail)}, {detail['dtype']}",
        seconds=median(detail[seconds]) / detail["rows"],
    )


def _device(detail: Mapping[str, Any]) -> str:
    """The device; of a processor with its threads, and whether others used it as well."""
    name, threads = detail["device"], detail["threads"]
    if "NVIDIA" in name or "AMD" in name:
        return str(name)
    # a peer that is a server of its own waits and wakes beside us: one more is not somebody else
    busy = f", shared with others (load {detail['load']:.1f})" if detail["load"] > threads + 1 else ""
    return f"{name}, {threads} threads{busy}"


def table(measured: Sequence[Cost], need: Need) -> str:
    """The rows as Markdown, with what they rest on."""
    head = ["base model, rationale", "engine, device", "one candidate", "tasks an hour"]
    head += [f"{load:,} tasks a day" for load in LOADS]
    rows = [head, ["---"] * len(head), *([*_row(cost, need)] for cost in measured)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not any("NVIDIA" in cost.where or "AMD" in cost.where for cost in measured):
        lines.append("| *your model* | *a GPU: not measured yet* |" + " |" * (len(head) - 2))
    return "\n".join(
        [
            f"Devices needed at {need.draws} draws for each task, {need.hours:g} hours a day, "
            f"{need.utilisation:.0%} of them drawing:",
            "",
            *lines,
        ]
    )


def _row(cost: Cost, need: Need) -> list[str]:
    devices = [f"{cost.devices(load, need):,}" for load in LOADS]
    speed = f"{cost.tasks_per_hour(need):,.0f}"
    return [cost.what, cost.where, f"{1000 * cost.seconds:.3g} ms", speed, *devices]


def written(page: str, text: str) -> str:
    """The page with `text` between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"it has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--draws", default=Need.draws, show_default=True, type=click.IntRange(1))
@click.option("--hours", default=Need.hours, show_default=True, type=click.FloatRange(0.1, 24))
@click.option("--utilisation", default=Need.utilisation, show_default=True, type=click.FloatRange(0.01, 1))
@click.option(
    "--write", "page", type=click.Path(exists=True, path_type=Path), help="Page with the two marks."
)
def main(files: Sequence[Path], draws: int, hours: float, utilisation: float, page: Path | None) -> None:
    """Print the table, or write it into a page."""
    try:
        measured = [cost for file in files for cost in costs(json.loads(file.read_text(encoding="utf-8")))]
        text = table(measured, Need(draws, hours, utilisation))
        if page is None:
            click.echo(text)
        else:
            page.write_text(written(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{', '.join(map(str, files))}: {error}") from error


if __name__ == "__main__":
    main()
