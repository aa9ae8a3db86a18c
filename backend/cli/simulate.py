"""illume simulate."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from backend.cli import main
from backend.cli.run import Assignment


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


def _weights(
    _context: click.Context, _parameter: click.Parameter, value: tuple[tuple[str, float], ...]
) -> dict[str, float]:
    return dict(value)


_COUNT = click.IntRange(min=1)


@main.command()
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results."
)
@click.option(
    "--world",
    default="shapes",
    show_default=True,
    type=click.Choice(["shapes", "patterns"]),
    help="patterns: a control; the embedded base model knows no patterns, so it has nothing to learn from.",
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
    "--weigh-agreement/--majority",
    default=True,
    show_default=True,
    help="A rationale counts by the share of annotators who ticked it, or all or nothing by the majority.",
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
    "--objective",
    "objectives",
    multiple=True,
    type=Assignment(),
    metavar="NAME=WEIGHT",
    callback=_weights,
    help="Weight of an objective: illume, dress, dpo, kto, contrast; may be given several times.",
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
@click.option(
    "--label-studio", is_flag=True, help="Let tasks, candidates and ticks travel through your Label Studio."
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="With --label-studio: port to listen on meanwhile."
)
@click.option(
    "--remove", is_flag=True, help="With --label-studio: say what OUT has there, ask, and delete it."
)
@click.option("--yes", is_flag=True, help="With --remove: do not ask.")
def simulate(
    out: Path,
    world: str,
    critic: str,
    strictness: tuple[str, ...],
    *,
    label_studio: bool,
    port: int | None,
    remove: bool,
    yes: bool,
    **asked: Any,
) -> None:
    """Run the loop on the picture world with simulated annotators.

    Candidates, webhook events, training runs and the gate are the real ones. The figures come from tasks
    that are never labelled. Where the gate policy lets people decide (docs/evidence.md), the annotators do.
    Stopped at any instant, the same command goes on where it was. OUT gets results.json, results.md and
    curve.svg.

    With --label-studio it proves your installation end to end before people are let in: a project of its
    own in the Label Studio of your settings, pictures uploaded, candidates pushed, annotations submitted
    through the API, every tick compared with what the webhook brought. Other projects are not touched.
    Meanwhile it listens where your settings say that Label Studio reaches this backend, so either stop
    `illume serve` or give another --port.

    \b
    Examples:
      illume simulate --out results/try1
      illume simulate --out results/quick --tasks 20 --iterations 2 --held-out-tasks 40
      illume simulate --out results/noisy --annotators 3 --strictness exact,lenient,strict --noise 0.1
      illume simulate --out results/control --world patterns --tasks 24 --held-out-tasks 30
      illume simulate --out results/dpo --objective dpo=0.1 --objective contrast=0.1
      illume simulate --out results/lr --train learning_rate=5e-4 --train epochs=3
      illume simulate --out results/proof --label-studio --tasks 40 --iterations 2 --port 9100
      illume simulate --out results/proof --label-studio --remove
    """
    if not label_studio and (port or remove or yes):
        raise click.UsageError("--port, --remove and --yes go with --label-studio.")
    if yes and not remove:
        raise click.UsageError("--yes goes with --remove.")
    if remove:
        _remove(out, ask=not yes)
        return
    from backend.simulate import Options, Simulation
    from illume_plugin.annotators import Critic, Strictness
    from illume_plugin.embedded import World

    known = [each.value for each in Strictness]
    for word in strictness:
        if word not in known:
            raise click.BadParameter(f"{word!r} is none of {', '.join(known)}.", param_hint="--strictness")
    options = Options(
        world=World(world), critic=Critic(critic), strictness=tuple(map(Strictness, strictness)), **asked
    )
    if label_studio:
        from backend.simulate.labelstudio import LabelStudioSimulation

        LabelStudioSimulation(options, out, port=port, say=click.echo).run()
        click.echo(f"Remove it from Label Studio: illume simulate --label-studio --out {out} --remove")
    else:
        Simulation(options, out, say=click.echo).run()
    click.echo(f"Results: {out / 'results.md'}")


def _remove(out: Path, *, ask: bool) -> None:
    from backend.settings import load_settings
    from backend.simulate.labelstudio import door_to, removable
    from backend.simulate.labelstudio import remove as remove_from

    with closing(door_to(load_settings())) as door:
        found = removable(door, out)
        for project in found:
            click.echo(
                f"project {project.project_id} ({project.title}) in {door.url}: {project.task_number} tasks "
                "with their candidates and annotations, the ML backend, the webhook"
            )
        if ask:
            click.confirm("Delete this from Label Studio?", abort=True)
        remove_from(door, out)
    click.echo(f"Removed. The results stay in {out}.")
    folders = " and ".join(f"media/upload/{project.project_id}" for project in found)
    click.echo(
        "Label Studio itself never deletes an uploaded file: the pictures, some kilobytes each, stay in "
        f"{folders} of its data until an administrator deletes them."
    )
