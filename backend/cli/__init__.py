"""The `illume` command. Each command imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from backend.cli.printing import plain
from backend.logs import quiet_libraries
from illume_plugin import __version__
from illume_plugin.errors import IllumeError


class PlainErrors(click.Group):
    """A group whose commands end with one clear message and exit code 1 instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IllumeError as error:
            for part in (error.what, error.why, error.todo):
                if part:
                    click.echo(plain(part), err=True)
            sys.exit(1)


@click.group(
    cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="illume")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file to use instead of illume.toml.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(*, config: Path | None, verbose: bool) -> None:
    """ILLUME for Label Studio: a vision-language model learns from ticks to explain its answers.

    \b
    Try it:                illume demo
    Your own project:      illume connect --project 12 --dry-run
    What is wrong?         illume doctor

    Settings come from ILLUME_* environment variables or from illume.toml in the current folder.
    """
    if config:
        os.environ["ILLUME_CONFIG"] = str(config.absolute())
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # Before torch is loaded: threads that spin while they wait make two processes on few cores crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    quiet_libraries()


from backend.cli import backup, demo, doctor, evaluate, project, run, serve, simulate, sync, trial, versions  # noqa: E402 - they register themselves on `main`

__all__ = [
    "backup",
    "demo",
    "doctor",
    "evaluate",
    "main",
    "project",
    "run",
    "serve",
    "simulate",
    "sync",
    "trial",
    "versions",
]
