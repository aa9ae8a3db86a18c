"""What comes of a wish: all draws of the conversation, those of them that are shown, plain ones beside them.

\b
    python benchmarks/wishes.py --tasks 60
    python benchmarks/wishes.py --tasks 60 --wish "name the colors"

Held-out tasks of the picture world; the wish is about the first candidate that does not fit. The embedded
model was never shown a second turn: this says what becomes of a model that cannot follow a wish.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median

import click

from illume_plugin.base_model import load_base_model
from illume_plugin.embedded import Reason, Split, WorldTask, base_model_path, check, draw, make_tasks
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.engine import TransformersGenerator
from illume_plugin.proposals import Choice, propose
from illume_plugin.types import Task, Wish
from illume_plugin.wishes import propose_for_wish

PLAN = SamplingPlan()


@click.command(help=__doc__)
@click.option("--tasks", default=60, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=5, show_default=True, help="Of the world.")
@click.option("--wish", default="say what is in the corners", show_default=True)
def main(tasks: int, seed: int, wish: str) -> None:
    generator = TransformersGenerator(load_base_model(str(base_model_path()), device="cpu", dtype="float32"))
    counts = {name: Counter[Reason]() for name in ("first round", "conversation, all", "shown", "plain")}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for number, world in enumerate(make_tasks(tasks, seed=seed, split=Split.HELD_OUT)):
            request = _request(world, number, Path(folder))
            (first,) = propose(generator, [request], PLAN, Choice())
            texts = [each.text for each in first.chosen]
            counts["first round"].update(_reasons(world, texts))
            unfit = (text for text in texts if not _fits(world, text))
            asked = Wish(1, wish, next(unfit, texts[0]), frozenset(texts))
            (drawn,) = generator.draw([replace(request, wish=asked)], PLAN)
            counts["conversation, all"].update(_reasons(world, (each.text for each in drawn if each)))
            started = time.perf_counter()
            (new,) = propose_for_wish(generator, [request], PLAN, Choice(), wish=asked)
            seconds.append(time.perf_counter() - started)
            for each in new.chosen:
                counts["shown" if wish in each.prompt else "plain"].update(_reasons(world, [each.text]))
    click.echo(f"{'':18} {'texts':>5} {'fit':>6} {'malformed':>9}")
    for name, found in counts.items():
        n = max(1, found.total())
        click.echo(
            f"{name:18} {found.total():5} {found[Reason.OK] / n:6.2f} {found[Reason.MALFORMED] / n:9.2f}"
        )
    click.echo(f"a wish is answered in {median(seconds):.2f} s (median)")


def _request(world: WorldTask, number: int, folder: Path) -> SampleRequest:
    picture = folder / f"{number}.png"
    draw(world.scene, px=240).save(picture)
    return SampleRequest(Task(1, number, str(picture), world.question_text, world.answer), picture)


def _fits(world: WorldTask, text: str) -> bool:
    return check(world.scene, world.question, world.answer, text).fits


def _reasons(world: WorldTask, texts: Iterable[str]) -> list[Reason]:
    return [check(world.scene, world.question, world.answer, text).reason for text in texts]


if __name__ == "__main__":
    main()
