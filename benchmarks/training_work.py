"""P2, P2L: LoRA steps on 8 candidates for each of 2 pictures, against TRL's SFTTrainer on the same rows.

The peer has one row for each candidate, each with its picture. Both are Trainers on the same random weights,
with the same LoRA layers, rows, optimiser and batch of 16 rows. A candidate stands in the place of the
answer, so that both losses are the mean over the candidates' tokens. What is timed is a whole optimiser step
(forward, backward, clipping, AdamW) without the reading of pictures, which the peer does in every step and
we do once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import shapes
from figures import Figure, in_turns, ratio
from setting import Setting
from training_parts import (
    WORDS,
    Contender,
    StepClock,
    agreed,
    as_data_set,
    make_pictures,
    our_base,
    peers_settings,
    prompts_of,
    unsettle,
    words,
)

from illume_plugin.training import TrainConfig
from illume_plugin.training.arguments import arguments_of
from illume_plugin.training.lora import language_layers, lora_config
from illume_plugin.training.objective import IllumeObjective
from illume_plugin.training.step_trainer import IllumeTrainer
from illume_plugin.training.terms import terms_of_rows
from illume_plugin.training.ways import Ways
from illume_plugin.types import TrainingRow

PICTURES, CANDIDATES = 2, 8
ROWS = PICTURES * CANDIDATES
CONFIG = TrainConfig(rank=16, batch_size=ROWS, micro_batch_size=ROWS, max_steps=1, learning_rate=1e-5)


def against_sft(shape: shapes.Shape, goal: float) -> Callable[[Setting], Figure]:
    """A figure: SFTTrainer's time over ours for one optimiser step."""

    def measure(setting: Setting) -> Figure:
        sized = setting.sized(shape)
        with TemporaryDirectory() as folder:
            rows, images = make_rows(sized, Path(folder))
            peer = sft(sized, setting, rows, images, Path(folder))
            ours, way = shared_prefix(sized, setting, rows, images, Path(folder))
            peers, own = in_turns(peer.step, ours.step, setting.repeats)
        told = agreed(peer.clock, ours.clock, setting.dtype)
        detail = {"shape": sized.name, "rows": ROWS, "pictures": PICTURES, "mode": way, "told": told}
        detail["what"] = (
            f"a step on {CANDIDATES} candidates for each of {PICTURES} pictures of {sized.picture_tokens} "
            "tokens, times as fast as TRL's SFTTrainer"
        )
        return ratio(peers, own, goal=goal, detail=detail)

    return measure


def make_rows(shape: shapes.Shape, folder: Path) -> tuple[list[TrainingRow], dict[str, Path]]:
    """Candidates that begin alike no more than by chance, and drawings of noise."""
    numbers = random.Random(2)
    images = make_pictures(shape, folder, PICTURES, numbers)
    questions = [words(numbers, shapes.WORDS) for _ in images]
    rows = [
        TrainingRow(task, image, questions[task], words(numbers, WORDS))
        for task, image in enumerate(images)
        for _ in range(CANDIDATES)
    ]
    return rows, images


def shared_prefix(
    shape: shapes.Shape,
    setting: Setting,
    rows: Sequence[TrainingRow],
    images: dict[str, Path],
    folder: Path,
    config: TrainConfig = CONFIG,
) -> tuple[Contender, str]:
    """Our Trainer, and the way of computing rows that it took."""
    base, clock = our_base(shape, setting, config), StepClock()
    with base.adapters.training("new") as adapted:
        ways = Ways(base, adapted, terms_of_rows(rows, config), images, config, folder)
        objectives = [IllumeObjective(w=1.0)]
        packing = ways.choose(objectives).packing
        unsettle(adapted)
        trainer = IllumeTrainer(
            adapted,
            packing=packing,
            sampler=ways.sampler,
            objectives=objectives,
            args=arguments_of(config, folder / "ours", base.device),
            train_dataset=ways.terms,
            callbacks=[clock],
        )
    return Contender(trainer, clock), packing.name


def sft(
    shape: shapes.Shape, setting: Setting, rows: Sequence[TrainingRow], images: dict[str, Path], folder: Path
) -> Contender:
    """TRL's Trainer on the same rows, the loss on candidates alone.

    Raises:
        LeftOutError: TRL is not installed.
    """
    prompts = prompts_of(shape)
    pairs = [prompts.answer_only(row.question, row.answer) for row in rows]
    data = as_data_set(
        [
            {"images": [str(images[row.image])], "prompt": prompt.text, "completion": reply.text}
            for row, (prompt, reply) in zip(rows, pairs, strict=True)
        ]
    )
    from trl import SFTConfig, SFTTrainer

    model, clock = shape.model(setting.dtype, setting.device), StepClock()
    settings = peers_settings(CONFIG, folder / "peer", setting, rows=ROWS)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**settings, completion_only_loss=True),
        train_dataset=data,
        processing_class=prompts.processor,
        peft_config=lora_config(CONFIG, language_layers(model)),
        callbacks=[clock],
    )
    unsettle(trainer.model)
    return Contender(trainer, clock)
