"""P1, P1L: 25 rationales of 30 tokens for one picture, against one call of transformers' `generate`."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import shapes
import torch
from figures import Figure, clocked, in_turns, ratio
from setting import Setting

from illume_plugin.generation import SamplingPlan
from illume_plugin.generation.decoder import Decoder, generated
from illume_plugin.generation.drawing import SeededDraw
from illume_plugin.generation.selfcheck import choose

Rows = list[list[int]]


def against_generate(shape: shapes.Shape, goal: float) -> Callable[[Setting], Figure]:
    """A figure: the peer's time over ours for all candidates of one task."""

    def measure(setting: Setting) -> Figure:
        sized = setting.sized(shape)
        model = sized.model(setting.dtype, setting.device)
        batch = sized.prompts(1, setting.dtype, setting.device)
        with torch.inference_mode():
            mode = decoding(model, sized, setting)
            peers, own = in_turns(
                clocked(lambda: full(peer_draws(model, batch, setting.plan), setting.plan)),
                clocked(lambda: full(our_draws(model, batch, setting.plan), setting.plan)),
                setting.repeats,
            )
        return ratio(peers, own, goal=goal, detail={**what(model, sized, setting.plan), "mode": mode})

    return measure


def what(model: Any, shape: shapes.Shape, plan: SamplingPlan) -> dict[str, Any]:
    """What is drawn, and from what."""
    parameters = sum(one.numel() for one in model.parameters())
    return {"shape": shape.name, "parameters": parameters, "rows": plan.size, "tokens": plan.max_new_tokens}


def decoding(model: Any, shape: shapes.Shape, setting: Setting) -> str:
    """How our engine decodes this model, as it finds out when it loads one."""
    return choose(model, shape.prompts(2, setting.dtype, setting.device), (shapes.END,), shapes.PAD)


def peer_draws(model: Any, batch: dict[str, torch.Tensor], plan: SamplingPlan) -> Rows:
    """The draws by one call of `generate`; one temperature for all, as it has no others in one call."""
    out = model.generate(
        **batch,
        **_settings(plan),
        num_return_sequences=plan.size,
        top_k=plan.top_k(shapes.VOCABULARY),
        temperature=median(_temperatures(plan)),
    )
    rows: Rows = out[:, batch["input_ids"].shape[1] :].tolist()
    return rows


def our_draws(model: Any, batch: dict[str, torch.Tensor], plan: SamplingPlan) -> Rows:
    """The draws of the plan by our decoder."""
    draw = SeededDraw(
        range(plan.size),
        _temperatures(plan),
        top_k=plan.top_k(shapes.VOCABULARY),
        steps=plan.max_new_tokens,
        device=str(model.device),
    )
    decoder = Decoder(plan.size, draw, (shapes.END,), shapes.PAD)
    rows: Rows = generated(model, batch, decoder, **_settings(plan), top_k=0).tolist()
    return rows


def full(rows: Rows, plan: SamplingPlan) -> Rows:
    """The rows, which must all be there in full length: else the work would not be the same.

    Raises:
        AssertionError: they are not.
    """
    lengths = [len(row) for row in rows]
    if lengths != [plan.max_new_tokens] * plan.size:
        raise AssertionError(f"{plan.size} rows of {plan.max_new_tokens} tokens are wanted, not {lengths}.")
    return rows


def _temperatures(plan: SamplingPlan) -> list[float]:
    return [t for t in plan.temperatures for _ in range(plan.samples)]


def _settings(plan: SamplingPlan) -> dict[str, Any]:
    return {
        "do_sample": True,
        "num_beams": 1,
        "max_new_tokens": plan.max_new_tokens,
        "eos_token_id": shapes.END,
        "pad_token_id": shapes.PAD,
    }
