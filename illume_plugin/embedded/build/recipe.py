"""How much of everything: the numbers that, with a seed, determine the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from illume_plugin.embedded.build.architecture import new_model
from illume_plugin.embedded.build.corpus import FITTING, Corpus, write_corpus
from illume_plugin.embedded.build.joining import join
from illume_plugin.embedded.build.language import Course, Learner, train
from illume_plugin.embedded.build.pictures import Cells
from illume_plugin.embedded.build.saving import save
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
    "exists": 0.20, "count": 0.45, "color": 0.15, "shape": 0.15, "relation": 0.60, "comparison": 0.45,
    "at": 0.05, "verify": 0.05, "same": 0.60,
}  # fmt: skip
#: What the shipped weights were made with.
SHIPPED = Recipe(
    fitting=160_000,
    mixed=24_000,
    mixes={kind: Mix.with_fitting(share) for kind, share in FITTING_SHARES.items()},
    pictures=400,
    sight_steps=1000,
    joining_pictures=5000,
    joining_steps=3000,
    answering=Course("answers", steps=1200, batch=96, rate=2e-3, explain=False),
    explaining=Course("rationales", steps=700, batch=96, rate=2e-3, explain=True),
    unlearning=Course("mixed rationales", steps=250, batch=96, rate=7e-4, explain=True),
)


def build(recipe: Recipe, seed: int, out: Path, report: Report) -> None:
    """Make the weights from nothing and write them to `out`; equal arguments give equal weights."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(seed)
    model = new_model(tokenizer)
    model.set_attn_implementation("eager")  # the fastest of them for rows as short as these
    learner = Learner(model, tokenizer)
    report(f"language: {sum(p.numel() for p in model.model.language_model.parameters()) / 1e6:.2f} M")
    _teach(learner, recipe, seed, tokenizer, report)
    report("drawing")
    cells = Cells(recipe.pictures, seed)
    train_tower(model.model.vision_tower, cells, recipe.sight_steps, 64, 1e-3, seed, report)
    join(model, learner.symbols, cells, recipe.joining_pictures, recipe.joining_steps, 3e-3, report)
    save(model, make_processor(tokenizer), out)


def _teach(learner: Learner, recipe: Recipe, seed: int, tokenizer: Any, report: Report) -> None:
    """The three courses of the language model."""
    report("writing tasks")
    held_out = write_corpus(900, seed + 6, Split.HELD_OUT, FITTING, tokenizer)
    fitting: Corpus = write_corpus(recipe.fitting, seed + 5, Split.TRAIN, FITTING, tokenizer)
    train(learner, fitting, held_out, recipe.answering, seed, report)
    train(learner, fitting, held_out, recipe.explaining, seed + 1, report)
    report("writing mixed tasks")
    mixed = write_corpus(recipe.mixed, seed + 3, Split.TRAIN, recipe.mixes, tokenizer)
    train(learner, mixed, held_out, recipe.unlearning, seed + 2, report)
