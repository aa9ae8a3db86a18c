"""illume simulate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from backend.cli import main


def _list(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _list(context, parameter, value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.3,0.6,0.9.") from error


def _settings(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for item in value:
        name, equals, text = item.partition("=")
        if not equals:
            raise click.BadParameter(f"{item!r} is not NAME=VALUE.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


_COUNT = click.IntRange(min=1)


@main.command()
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results."
)
@click.option("--tasks", default=120, show_default=True, type=_COUNT, help="Fresh tasks per iteration.")
@click.option("--iterations", default=5, show_default=True, type=_COUNT, help="Rounds of the loop.")
@click.option("--samples", default=5, show_default=True, type=_COUNT, help="Draws per temperature.")
@click.option(
    "--temperatures",
    default="0.3,0.6,0.9",
    show_default=True,
    callback=_numbers,
    help="Sampling temperatures.",
)
@click.option(
    "--candidates", default=10, show_default=True, type=click.IntRange(1, 10), help="Rows an annotator sees."
)
@click.option(
    "--annotators", default=1, show_default=True, type=_COUNT, help="Annotators who judge every task."
)
@click.option(
    "--critic",
    default="checker",
    show_default=True,
    type=click.Choice(["checker", "rouge"]),
    help="checker: true of the picture and supports the answer; rouge: ROUGE-L >= 0.7 with one reference.",
)
@click.option(
    "--strictness",
    default="exact",
    show_default=True,
    callback=_list,
    help="exact, lenient (ticks harmless ones too), strict (two ticks at most); a list is shared out.",
)
@click.option(
    "--noise", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of wrong ticks."
)
@click.option("--held-out-tasks", default=150, show_default=True, type=_COUNT, help="Tasks for the figures.")
@click.option(
    "--held-out-samples", default=4, show_default=True, type=_COUNT, help="Draws of each at T = 0.7."
)
@click.option(
    "--objective", default="illume", show_default=True, type=click.Choice(["illume"]), help="What is trained."
)
@click.option(
    "--train", multiple=True, metavar="NAME=VALUE", callback=_settings, help="A training setting; repeatable."
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of tasks, slips and training.",
)
def simulate(out: Path, critic: str, strictness: tuple[str, ...], **asked: Any) -> None:
    """Run the loop on the picture world with simulated annotators, no Label Studio.

    Candidates, webhook events, training runs and the gate are the real ones. The figures come from tasks
    that are never labelled. Stopped at any instant, the same command goes on where it was. OUT gets
    results.json, results.md and curve.svg.

    \b
    Examples:
      illume simulate --out results/try1
      illume simulate --out results/quick --tasks 20 --iterations 2 --held-out-tasks 40
      illume simulate --out results/noisy --annotators 3 --strictness exact,lenient,strict --noise 0.1
      illume simulate --out results/lr --train learning_rate=5e-4 --train epochs=3
    """
    from backend.simulate import Options, Simulation
    from illume_plugin.annotators import Critic, Strictness

    known = [each.value for each in Strictness]
    for word in strictness:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of {', '.join(known)}.", param_hint="--strictness")
    options = Options(critic=Critic(critic), strictness=tuple(map(Strictness, strictness)), **asked)
    Simulation(options, out, say=click.echo).run()
    click.echo(f"Results: {out / 'results.md'}")
