"""illume demo."""

from __future__ import annotations

from pathlib import Path

import click

from backend.cli import main


@main.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where everything the demo makes is kept.",
)
@click.option(
    "--label-studio",
    type=click.Path(path_type=Path),
    default=Path(".venv-labelstudio/bin/label-studio"),
    show_default=True,
    help="The label-studio program.",
)
@click.option("--tasks", default=60, show_default=True, type=click.IntRange(1, 5000), help="Number of tasks.")
@click.option("--port", default=9090, show_default=True, type=click.IntRange(1, 65535), help="Our port.")
@click.option(
    "--label-studio-port",
    default=8080,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Label Studio's port.",
)
@click.option(
    "--label-config",
    "configuration",
    type=click.Choice(["select", "full"]),
    help="select: tick what fits; full: stars, critique and new candidates on request besides. Without it "
    "the demo keeps what it has, a new one gets 'select'.",
)
def demo(
    folder: Path, label_studio: Path, tasks: int, port: int, label_studio_port: int, configuration: str | None
) -> None:
    """Start Label Studio, the backend and a project with candidates; say where to click.

    Run it again and it goes on where it was. Ctrl-C stops what it started.

    \b
    Examples:
      illume demo
      illume demo --label-config full
      illume demo --tasks 200 --label-studio-port 8090 --port 9190
    """
    from backend.demo.tour import Tour, run

    say = click.echo
    run(Tour(folder, label_studio, tasks, port, label_studio_port, say=say, configuration=configuration))
