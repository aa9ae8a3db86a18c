"""What scoring must find out about a base model once: whether trees are safe, and what it takes for blind."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from statistics import fmean
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image

from illume_plugin.base_model import Adapters, BaseModel, Prompts
from illume_plugin.scoring.branches import Branches, encode
from illume_plugin.scoring.passes import chain_logprobs, plain_logprobs, read_prompt, tree_logprobs
from illume_plugin.scoring.tree import Tokens
from illume_plugin.types import Blind

log = logging.getLogger(__name__)

#: Mean difference per token (nats) up to which two ways of computing are the same, by type of the weights.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.float16: 0.02}
TOLERANCE_OTHERWISE = 0.1  # bfloat16 has eight bits
#: Tokens that the two ways are compared on.
COMPARED = 8

#: What models and processors raise at input they are not made for; which one depends on the architecture.
REFUSALS = (
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    AssertionError,
    NotImplementedError,
)


class Mode(StrEnum):
    """How candidates are computed; the value is what a status page says."""

    TREE = "shared prompt, all candidates as one tree"
    CHAIN = "shared prompt, one candidate after another"
    PLAIN = "plain rows"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was found out about one base model.

    Attributes:
        why: why the mode is not TREE; empty where it is.
        blind: what stands in for "without the picture".
    """

    mode: Mode
    why: str
    blind: Blind


_known: WeakKeyDictionary[Adapters, ModelFacts] = WeakKeyDictionary()


def known_facts(base: BaseModel) -> ModelFacts | None:
    """What is known about a base model; None before anything was scored with it."""
    return _known.get(base.adapters)


def facts(base: BaseModel, model: Any, task: Branches) -> ModelFacts:
    """What is known about a base model, found out on its first task.

    Args:
        model: the base model with the adapter that is in use; its lock is held.
    """
    found = _known.get(base.adapters)
    if found is None:
        mode, why = _mode(model, task)
        found = ModelFacts(mode, why, _blind(base, model))
        _known[base.adapters] = found
        if why:
            log.warning("Scoring %s by %s: %s.", base.source, mode.value, why)
    return found


def blind_prompts(prompts: Prompts) -> Prompts:
    """The same prompts without the picture."""
    return replace(prompts, pictured=False)


def _mode(model: Any, task: Branches) -> tuple[Mode, str]:
    candidates = _probes(task.branches[0].tokens)
    expected = plain_logprobs(model, task.prompt, candidates)
    whys: list[str] = []
    for mode in (Mode.TREE, Mode.CHAIN):
        why = _difference(model, task, candidates, expected, mode)
        if not why:
            return mode, "; ".join(whys)
        whys.append(f"as {mode.value} {why}")
    return Mode.PLAIN, "; ".join(whys)


def _probes(tokens: Tokens) -> list[Tokens]:
    """Two made-up candidates that part in the middle."""
    one = (tokens * COMPARED)[:COMPARED]
    return [one, one[: COMPARED // 2] + one[: COMPARED // 2 - 1 : -1]]


def _difference(
    model: Any, task: Branches, candidates: Sequence[Tokens], expected: list[list[float]], mode: Mode
) -> str:
    """What is wrong with `mode`; empty where it gives what plain rows give."""
    try:
        reading = read_prompt(model, task.prompt)
        found = (
            tree_logprobs(model, reading, candidates, tokens_at_a_time=4 * COMPARED)
            if mode is Mode.TREE
            else chain_logprobs(model, reading, candidates)
        )
    except REFUSALS as error:
        return f"it fails ({type(error).__name__}: {(str(error).splitlines() or [''])[0]:.120})"
    pairs = zip(chain.from_iterable(found), chain.from_iterable(expected), strict=True)
    gap = fmean(abs(a - b) for a, b in pairs)
    dtype = next(model.parameters()).dtype
    allowed = TOLERANCE.get(dtype, TOLERANCE_OTHERWISE)
    return "" if gap <= allowed else f"it differs by {gap:.2g} nats a token ({allowed:g} allowed)"


def _blind(base: BaseModel, model: Any) -> Blind:
    """Whether the model reads a prompt without a picture; otherwise a grey one must do."""
    try:
        task = encode(blind_prompts(base.prompts), "why ?", "so", [], GREY_PICTURE)
        prompt = {key: value.to(base.device) for key, value in task.prompt.items()}
        logits = read_prompt(model, prompt).logits
    except REFUSALS as error:
        log.info("%s takes no prompt without a picture (%s): grey ones stand in.", base.source, error)
        return Blind.GREY
    return Blind.TEXT if bool(torch.isfinite(logits).all()) else Blind.GREY


def grey(picture: Image.Image) -> Image.Image:
    """A picture of the same size in which there is nothing to see."""
    return Image.new("RGB", picture.size, (128, 128, 128))


GREY_PICTURE = Image.new("RGB", (32, 32), (128, 128, 128))
