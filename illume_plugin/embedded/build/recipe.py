"""How much of everything: the numbers that, with a seed, determine the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from illume_plugin.embedded.build.architecture import new_model
from illume_plugin.embedded.build.corpus import FITTING, Corpus, write_corpus
from illume_plugin.embedded.build.joining import join
from illume_plugin.embedded.build.language import Course, Learner, train
from illume_plugin.embedded.build.pictures import Cells
from illume_plugin.embedded.build.saving import save
from illume_plugin.embedded.build.stages import Stages
from illume_plugin.embedded.build.tokens import make_processor, make_tokenizer
from illume_plugin.embedded.build.vision import train_tower
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.unfit import Mix

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the weights are made.

    Attributes:
        fitting: tasks with a fitting rationale each, for the first two courses.
        mixed: tasks with a rationale of `mixes` each, for the last.
        pictures: drawings from which cells are cut.
        sight_steps: batches of 64 pictures for the vision tower.
        joining_pictures: composed pictures that the projector is fitted on.
        joining_steps: batches of patches for the projector.
    """

    fitting: int
    mixed: int
    mixes: Mapping[str, Mix]
    pictures: int
    sight_steps: int
    joining_pictures: int
    joining_steps: int
    answering: Course
    explaining: Course
    unlearning: Course

    def scaled(self, share: float) -> Recipe:
        """The same with fewer tasks and steps, to see whether everything runs."""
        return replace(
            self,
            fitting=max(1000, round(self.fitting * share)),
            mixed=max(1000, round(self.mixed * share)),
            pictures=max(20, round(self.pictures * share)),
            sight_steps=round(self.sight_steps * share),
            joining_pictures=max(100, round(self.joining_pictures * share)),
            joining_steps=round(self.joining_steps * share),
            answering=replace(self.answering, steps=round(self.answering.steps * share)),
            explaining=replace(self.explaining, steps=round(self.explaining.steps * share)),
            unlearning=replace(self.unlearning, steps=round(self.unlearning.steps * share)),
        )


#: kind of question -> share of fitting rationales in the last course. The harder a kind is to explain, the
#: larger: so the base model is seldom right about every kind, but often enough that ticks can teach it.
FITTING_SHARES = {
    "exists": 0.36, "count": 0.36, "color": 0.12, "shape": 0.12, "relation": 0.40, "comparison": 0.35,
    "at": 0.20, "verify": 0.20, "same": 0.50,
}  # fmt: skip
#: What the shipped weights were made with.
SHIPPED = Recipe(
    fitting=160_000,
    mixed=160_000,
    mixes={kind: Mix.with_fitting(share) for kind, share in FITTING_SHARES.items()},
    pictures=400,
    sight_steps=1000,
    joining_pictures=5000,
    joining_steps=3000,
    answering=Course("answers", steps=1200, batch=96, rate=2e-3, explain=False),
    explaining=Course("rationales", steps=1600, batch=96, rate=2e-3, explain=True),
    unlearning=Course("mixed rationales", steps=2600, batch=96, rate=2e-3, explain=True),
)


def build(recipe: Recipe, seed: int, out: Path, report: Report) -> None:
    """Make the weights from nothing and write them to `out`; equal arguments give equal weights.

    Stopped at any time, the same call goes on with the stage that was not finished.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(seed)
    model = new_model(tokenizer)
    model.set_attn_implementation("eager")  # the fastest of them for rows as short as these
    learner = Learner(model, tokenizer)
    report(f"language: {sum(p.numel() for p in model.model.language_model.parameters()) / 1e6:.2f} M")
    stages = Stages(out, report, seed=seed)
    _teach(learner, recipe, stages, seed, tokenizer, report)
    report("drawing")
    cells = Cells(recipe.pictures, seed)
    tower = model.model.vision_tower
    stages.do(
        "sight",
        tower,
        lambda: train_tower(tower, cells, recipe.sight_steps, 64, 1e-3, seed, report),
        pictures=recipe.pictures,
        steps=recipe.sight_steps,
    )
    tower.requires_grad_(False).eval()
    pictures, steps = recipe.joining_pictures, recipe.joining_steps
    join(model, learner.symbols, cells, pictures, steps, 3e-3, seed + 4, report)
    save(model, make_processor(tokenizer), out)
    stages.clear()


def _teach(
    learner: Learner, recipe: Recipe, stages: Stages, seed: int, tokenizer: Any, report: Report
) -> None:
    """The three courses of the language model."""

    @cache
    def corpus(tasks: int, seed: int, split: Split, mixed: bool = False) -> Corpus:
        report(f"writing {tasks} tasks")
        return write_corpus(tasks, seed, split, recipe.mixes if mixed else FITTING, tokenizer)

    def course(wanted: Course, seed: int, tasks: int, tasks_seed: int, *, mixed: bool = False) -> None:
        stages.do(
            wanted.name.replace(" ", "-"),
            learner,
            lambda: train(
                learner,
                corpus(tasks, tasks_seed, Split.TRAIN, mixed),
                corpus(900, held_out_seed, Split.HELD_OUT),
                wanted,
                seed,
                report,
            ),
            course=wanted,
            tasks=tasks,
            mixes=dict(recipe.mixes) if mixed else None,
        )

    held_out_seed = seed + 6
    course(recipe.answering, seed, recipe.fitting, seed + 5)
    course(recipe.explaining, seed + 1, recipe.fitting, seed + 5)
    course(recipe.unlearning, seed + 2, recipe.mixed, seed + 3, mixed=True)
