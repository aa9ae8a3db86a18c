"""P2D: a DPO step on all pairs of 4 fitting and 4 unfitting candidates, against TRL's DPOTrainer.

The peer has two rows for each of the 16 pairs, each with its picture, and computes them twice: with the
adapter, and without it as the reference. It could keep the reference's log-probabilities for texts
(`precompute_ref_log_probs`), but refuses to where there are pictures. We compute 8 branches of one sequence,
and the reference once in a run; what that takes is in the detail (`reference_seconds`). P2D_kept hands
the reference's log-probabilities to the peer as well, past its own check.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import shapes
import torch
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

from illume_plugin.base_model import Prompts
from illume_plugin.examples import PairSource, PreferencePair
from illume_plugin.training import TrainConfig
from illume_plugin.training.arguments import arguments_of
from illume_plugin.training.lora import language_layers, lora_config
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.preference_objectives import DpoObjective
from illume_plugin.training.reference import reference_logps
from illume_plugin.training.step_trainer import IllumeTrainer
from illume_plugin.training.terms import run_terms
from illume_plugin.training.ways import Ways
from illume_plugin.types import TrainingRow, TrainingSet

FITTING = UNFITTING = 4
BETA = 0.1
_TEXTS = FITTING + UNFITTING
CONFIG = TrainConfig(
    rank=16,
    batch_size=_TEXTS,
    micro_batch_size=_TEXTS,
    max_steps=1,
    learning_rate=1e-5,
    objectives=ObjectiveSettings(illume=0.0, dress=0.0, dpo=1.0, beta=BETA),
)


def against_dpo(shape: shapes.Shape, goal: float, *, kept: bool = False) -> Callable[[Setting], Figure]:
    """A figure: DPOTrainer's time over ours for one optimiser step.

    Args:
        kept: the peer is given the reference's log-probabilities.
    """

    def measure(setting: Setting) -> Figure:
        sized = setting.sized(shape)
        with TemporaryDirectory() as folder:
            pairs, images = make_pairs(sized, Path(folder))
            ours, detail, reference = shared_prefix(sized, setting, pairs, images, Path(folder))
            known = reference if kept else None
            peer = dpo(sized, setting, pairs, images, Path(folder), reference=known)
            peers, own = in_turns(peer.step, ours.step, setting.repeats)
        detail |= {"shape": sized.name, "pairs": len(pairs), "texts": _TEXTS}
        detail["what"] = (
            f"a DPO step on all {len(pairs)} pairs of {_TEXTS} candidates of a picture, times as fast as "
            f"TRL's DPOTrainer, which {'is given' if kept else 'computes'} what its reference says"
        )
        detail["told"] = agreed(peer.clock, ours.clock, setting.dtype)
        return ratio(peers, own, goal=goal, detail=detail)

    return measure


def make_pairs(shape: shapes.Shape, folder: Path) -> tuple[list[PreferencePair], dict[str, Path]]:
    """Every fitting candidate over every unfitting one, about one drawing of noise."""
    numbers = random.Random(2)
    images = make_pictures(shape, folder, 1, numbers)
    question, answer = words(numbers, shapes.WORDS), words(numbers, 1)
    texts = [words(numbers, WORDS) for _ in range(_TEXTS)]
    pairs = [
        PreferencePair(1, image, question, answer, chosen, rejected, PairSource.FITS)
        for image in images
        for chosen, rejected in product(texts[:FITTING], texts[FITTING:])
    ]
    return pairs, images


def shared_prefix(
    shape: shapes.Shape,
    setting: Setting,
    pairs: Sequence[PreferencePair],
    images: Mapping[str, Path],
    folder: Path,
) -> tuple[Contender, dict[str, Any], dict[str, float]]:
    """Our Trainer, what is to be told of it, and each rationale's log-probability by the reference, nats."""
    base, clock = our_base(shape, setting, CONFIG), StepClock()
    run = run_terms(TrainingSet(1, (), (), "", pairs=tuple(pairs)), CONFIG)
    with base.adapters.training("new") as adapted:
        ways = Ways(base, adapted, run, images, CONFIG, folder)
        packing = ways.choose([DpoObjective(torch.zeros(len(run.texts)), BETA)]).packing
        began = time.perf_counter()
        reference = reference_logps(adapted, packing, run.terms, len(run.texts))
        took = time.perf_counter() - began
        unsettle(adapted)
        trainer = IllumeTrainer(
            adapted,
            packing=packing,
            sampler=ways.sampler,
            objectives=[DpoObjective(reference, BETA)],
            args=arguments_of(CONFIG, folder / "ours", base.device),
            train_dataset=ways.terms,
            callbacks=[clock],
        )
    told = {"mode": packing.name, "reference_seconds": took}
    of_text = {
        text.rationale: value
        for text, value in zip(run.texts, reference.tolist(), strict=True)
        if isinstance(text, TrainingRow) and text.rationale is not None
    }
    return Contender(trainer, clock), told, of_text


def dpo(
    shape: shapes.Shape,
    setting: Setting,
    pairs: Sequence[PreferencePair],
    images: Mapping[str, Path],
    folder: Path,
    *,
    reference: Mapping[str, float] | None = None,
) -> Contender:
    """TRL's Trainer on the same pairs.

    Args:
        reference: log-probability of each rationale; None: the peer computes it in every step.

    Raises:
        LeftOutError: TRL is not installed.
    """
    prompts = prompts_of(shape)
    data = as_data_set([_row(prompts, pair, images) for pair in pairs])
    from trl import DPOConfig, DPOTrainer

    model, clock = shape.model(setting.dtype, setting.device), StepClock()
    settings = peers_settings(CONFIG, folder / "peer", setting, rows=len(pairs))
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**settings, beta=BETA),
        train_dataset=data,
        processing_class=prompts.processor,
        peft_config=lora_config(CONFIG, language_layers(model)),
        callbacks=[clock],
    )
    unsettle(trainer.model)
    if reference is not None:
        by_reply = {prompts.told("", "", text)[1].text: value for text, value in reference.items()}
        trainer.data_collator = _KnownReference(trainer.data_collator, by_reply)
        trainer.precompute_ref_logps = True
    return Contender(trainer, clock)


class _KnownReference:
    """TRL's collator, and beside what it gives the log-probabilities that its Trainer would compute."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], known: Mapping[str, float]) -> None:
        self._collator = collator
        self._known = known

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        batch = self._collator(rows)
        for side in ("chosen", "rejected"):
            batch[f"ref_{side}_logps"] = torch.tensor([self._known[row[side]] for row in rows])
        return batch


def _row(prompts: Prompts, pair: PreferencePair, images: Mapping[str, Path]) -> dict[str, Any]:
    prompt, chosen = prompts.told(pair.question, pair.answer, pair.chosen)
    _, rejected = prompts.told(pair.question, pair.answer, pair.rejected)
    return {
        "images": [str(images[pair.image])],
        "prompt": prompt.text,
        "chosen": chosen.text,
        "rejected": rejected.text,
    }
