"""Writes benchmarks/RESULTS.md from the JSON of the benchmarks of speed, and nothing by hand.

\b
    python benchmarks/speed_page.py results/sampling.json results/soak.json

A figure that is in several files is taken from the last one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
from figures import reached

PAGE = Path(__file__).with_name("RESULTS.md")
#: Figure -> what it is; another benchmark's figures say it themselves, under "what" in their detail.
WHAT = {
    "P1": "25 rationales for one picture, times as fast as transformers' `generate`",
    "P1L": "the same with 1,088 picture tokens",
    "P1V": "the same as P1, times as fast as vLLM on this processor",
    "P3": "scoring 25 candidates with and without the picture, times as fast as plain rows",
    "P3L": "the same with 1,088 picture tokens",
    "P8": "ms that a switch of adapters adds to the median live call, 16 clients",
    "P8_worst": "ms that it adds to the slowest one",
    "P8_failed": "calls without candidates meanwhile",
}
NOTE = (
    "Ratios are the peer's time over ours on the same work in the same run, in turns; median, range and "
    "number of repeats. Weights are random (seed 0); P4, P8 and the soak use the embedded model."
)


def page(files: Iterable[Mapping[str, Any]], command: str) -> str:
    """The document."""
    found: dict[str, Any] = {}
    for one in files:
        found |= one
    soak = found.pop("soak", None)
    parts = ["# Speed", f"Written by `{command}`. {NOTE}"]
    if found:
        parts += [_table(found), _not_reached(found), "## Where", *_places(found)]
    if soak:
        parts += ["## Under load", _soak(soak)]
    return "\n\n".join(parts) + "\n"


def _table(found: Mapping[str, Any]) -> str:
    columns = ("", "what", "median (range, n)", "goal", "reached", "seconds, peer / ours")
    rows = [(name, _what(name, one), *_measured(one), _seconds(one["detail"])) for name, one in found.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _what(name: str, figure: Mapping[str, Any]) -> str:
    detail = figure["detail"]
    what = WHAT.get(name) or str(detail.get("what", ""))
    if detail.get("layers"):
        what += f" (text model of {detail['layers']} layers)"
    return f"{what} (quick: less of it)" if detail.get("quick") else what


def _measured(one: Mapping[str, Any]) -> tuple[str, str, str]:
    sign = "≥" if one["higher_is_better"] else "≤"
    values = f"{_number(one['median'])} ({_number(one['min'])} to {_number(one['max'])}, {one['n']})"
    return values, f"{sign} {one['goal']:g}", "yes" if reached(one) else "**no**"


def _number(value: float) -> str:
    if 0 < abs(value) < 0.005:
        return f"{value:.1e}"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _seconds(detail: Mapping[str, Any]) -> str:
    if "peer_seconds" not in detail or "our_seconds" not in detail:
        return ""
    return f"{median(detail['peer_seconds']):.2f} / {median(detail['our_seconds']):.2f}"


def _not_reached(found: Mapping[str, Any]) -> str:
    lost = [name for name, one in found.items() if not reached(one)]
    return f"Not reached: {', '.join(lost)}." if lost else "All goals are reached."


def _places(found: Mapping[str, Any]) -> list[str]:
    """One line for each place and day that figures were measured at."""
    places: dict[str, list[str]] = {}
    for name, one in found.items():
        places.setdefault(_place(one["detail"]), []).append(
            f"{name} (load {one['detail'].get('load', 0):.1f})"
        )
    return [f"* {', '.join(names)}: {place}" for place, names in places.items()]


def _place(detail: Mapping[str, Any]) -> str:
    known = dict(detail)
    if "dtype" in detail:  # something was multiplied
        known["amx"] = "AMX" if detail.get("amx") else "no AMX"
    versions = dict(detail.get("versions", {}))
    versions |= {f"peer's {name}": number for name, number in detail.get("peer_versions", {}).items()}
    parts = [str(known[key]) for key in ("device", "vectors", "amx", "dtype", "date") if known.get(key)]
    parts += [f"{detail[name]} {name}" for name in ("threads", "cores") if name in detail]
    return ", ".join(parts + [f"{name} {number}" for name, number in versions.items()])


def _soak(one: Mapping[str, Any]) -> str:
    more = f" More than before: {', '.join(one['grew'])}." if one["grew"] else ""
    return (
        f"{one['minutes']:.0f} minutes: {one['calls']:,} live calls of 16 clients ({one['problems']} without "
        f"candidates), {one['ahead']:,} tasks sampled ahead, {one['switches']} switches of adapters. The "
        f"backend's memory went from {one['memory_mib'][0]:.0f} to {one['memory_mib'][1]:.0f} MiB; after the "
        f"first third {one['slope_mib_per_hour']:+.1f} MiB/h "
        f"(95 %: {one['low']:+.1f} to {one['high']:+.1f}), "
        f"at most {one['limit']:g} allowed: {one['verdict']}.{more} ({_place(one)}.)"
    )


def written(files: Sequence[Path]) -> str:
    """The document from files of JSON."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return page(found, f"python benchmarks/speed_page.py {' '.join(file.name for file in files)}")


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", default=PAGE, type=click.Path(dir_okay=False, path_type=Path))
def main(files: Sequence[Path], out: Path) -> None:
    """Write the page."""
    out.write_text(written(files), encoding="utf-8")
    click.echo(f"{out.name} is written.")


if __name__ == "__main__":
    main()
