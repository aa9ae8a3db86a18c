"""The command that makes the weights."""

from __future__ import annotations

import time
from pathlib import Path

import click

EPILOG = """\b
Example:
  python -m illume_plugin.embedded.build --out weights
  python -m illume_plugin.embedded.build --out try --share 0.02
"""


@click.command(epilog=EPILOG)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
@click.option("--seed", default=0, show_default=True, help="Seed of everything.")
@click.option("--share", default=1.0, show_default=True, help="Share of the recipe's tasks and steps.")
@click.option("--threads", default=2, show_default=True, help="Threads of torch.")
def main(out: Path, seed: int, share: float, threads: int) -> None:
    """Make the embedded base model from nothing but the picture world."""
    import torch

    from illume_plugin.embedded.build.recipe import SHIPPED, build

    torch.set_num_threads(threads)
    started = time.perf_counter()

    def report(what: str) -> None:
        click.echo(f"{time.perf_counter() - started:6.0f} s  {what}")

    build(SHIPPED if share == 1.0 else SHIPPED.scaled(share), seed, out, report)
    report(f"written to {out}")


if __name__ == "__main__":
    main()
