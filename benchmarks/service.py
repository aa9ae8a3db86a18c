"""Load: what the service does under it, against others in the same run.

\b
    python benchmarks/service.py --quick
    python benchmarks/service.py --json results/service.json
    python benchmarks/service.py --only P5,P9

\b
P4   /predict of tasks with stored candidates, 16 clients, while a training run is on; /health and /setup
     meanwhile. Against label-studio-ml's own app with an instant model.
P5   webhook events stored durably, 16 clients, against that app with a fit that does nothing.
     P5_postgresql the same on PostgreSQL, where its server is installed.
P6   10,000 predictions pushed into a real Label Studio, against the SDK's `predictions.create`, one by one.
     P6_installed the same without the flag that makes Label Studio's bulk requests cheap.
P7   catching up after the listener was down, in a real Label Studio, against a full export.
P9   the training set from a million preferences.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
from figures import Figure, LeftOutError, line
from service_setting import ServiceSetting, place

QUICK_REPEATS, QUICK_SECONDS = 2, 2.0
REPEATS, SECONDS = 5, 8.0


def _by(module: str, name: str = "measure") -> Callable[[ServiceSetting], dict[str, Figure]]:
    """The measurement of a module, which is loaded when it is wanted: some load torch."""
    return lambda setting: getattr(import_module(module), name)(setting)


#: What is measured together, by the name of its first figure.
FIGURES: dict[str, Callable[[ServiceSetting], dict[str, Figure]]] = {
    "P4": _by("predict_work"),
    "P5": _by("webhook_work"),
    "P5_postgresql": _by("webhook_work", "measure_postgresql"),
    "P6": _by("push_work"),
    "P6_installed": _by("push_work", "measure_installed"),
    "P7": _by("catch_up_work"),
    "P9": _by("training_set_work"),
}


def chosen(names: str) -> list[str]:
    """The figures asked for.

    Raises:
        click.BadParameter: one of them is none.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FIGURES]
    if unknown or not wanted:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}; there are {', '.join(FIGURES)}.")
    return wanted


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Less of the same work, 2 repeats.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="The figures.")
@click.option("--only", default=",".join(FIGURES), show_default=True, help="Comma separated.")
@click.option("--repeats", default=REPEATS, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=SECONDS, show_default=True, help="Of one window under load (P4, P5).")
def main(quick: bool, out: Path | None, only: str, repeats: int, seconds: float) -> None:
    """Measure, print and write."""
    setting = ServiceSetting(repeats, seconds)
    if quick:
        setting = ServiceSetting(min(repeats, QUICK_REPEATS), min(seconds, QUICK_SECONDS), quick=True)
    found: dict[str, Figure] = {}
    click.echo(f"{'':9} {'median':>7} {'min':>7} {'max':>7}")
    for name in chosen(only):
        try:
            measured = FIGURES[name](setting)
        except LeftOutError as reason:
            click.echo(f"{name:9} left out: {reason}")
            continue
        for each, one in measured.items():
            one["detail"] |= {"quick": quick, **place()}
            found[each] = one
            click.echo(line(each, one))
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
