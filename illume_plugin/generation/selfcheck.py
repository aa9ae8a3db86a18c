"""Which way of decoding a model takes: each is compared with plain `generate` before it is trusted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image

from illume_plugin.base_model import BaseModel, encode_prompts
from illume_plugin.generation.decoder import Decoder, generated

log = logging.getLogger(__name__)

SHARED = "shared prefix"
REPEATED = "repeated cache"
PLAIN = "plain generate"

#: Tokens compared.
STEPS = 6

#: Largest difference between two ways of computing the same logits, root mean square, as a share of the
#: logits' own spread. A wrong mask or position moves them by more; rounding, by dtype, by less.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}

#: What a forward pass raises when a model does not get on with a cache or an attention function.
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError)

_modes: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def mode_of(base: BaseModel) -> str:
    """How rows of this model are decoded; found out by comparing at the first call, then remembered.

    Returns:
        "shared prefix", "repeated cache", or "plain generate: " and the reason.
    """
    with base.adapters.using(None) as model, torch.inference_mode():
        bare = bare_model(model)
        if bare not in _modes:
            _modes[bare] = _tell(base, _chosen(base, bare))
        return _modes[bare]


def bare_model(model: Any) -> Any:
    """The transformers model itself, adapters inside it as they are switched."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _chosen(base: BaseModel, model: Any) -> str:
    batch = {key: value.to(base.device) for key, value in _example(base).items()}
    return choose(model, batch, base.end_ids, base.pad_id)


def _tell(base: BaseModel, mode: str) -> str:
    if mode != SHARED:
        log.warning("Sampling from %s is slower than it could be: %s.", base.source, mode)
    return mode


def _example(base: BaseModel) -> dict[str, torch.Tensor]:
    """Two prompts of very different lengths about two pictures, so that one of them is padded."""
    prompts = [
        base.prompts.rationale("What is it?", "a dog"),
        base.prompts.rationale("Is this a red cat on a sofa, or is it a blue dog under a green chair?", "no"),
    ]
    pictures = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB")]
    return encode_prompts(base.prompts, prompts, pictures)


def choose(model: Any, batch: dict[str, torch.Tensor], end_ids: tuple[int, ...], pad_id: int) -> str:
    """The fastest way of decoding whose logits are those of `generate` on `batch`."""
    settings = {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": STEPS,
        "min_new_tokens": STEPS,
        "eos_token_id": list(end_ids),
        "pad_token_id": pad_id,
    }
    plain = model.generate(**batch, **settings, output_scores=True, return_dict_in_generate=True)
    expected = torch.stack(plain.scores, dim=1).float()
    tokens = plain.sequences[:, batch["input_ids"].shape[1] :]
    reasons = []
    for shared, mode in ((True, SHARED), (False, REPEATED)):
        told = _Retold(tokens, end_ids[0])
        decoder = Decoder(2, told, (end_ids[0],), pad_id, shared=shared)
        try:
            generated(model, batch, decoder, **settings)
        except torch.OutOfMemoryError:  # tells nothing about the model
            raise
        except _FAILURES as error:
            reasons.append(f"{mode}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
            continue
        difference = max(told.differences(expected))
        if difference <= TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16]):
            return mode
        reasons.append(f"{mode}: its logits differ by {difference:.2g} of their spread")
    return f"{PLAIN}: {'; '.join(reasons)}"


class _Retold:
    """Makes two rows of each task say what `generate` said, and keeps the scores they are chosen by.

    The second row ends early, so that leaving rows are part of the comparison.
    """

    def __init__(self, tokens: torch.Tensor, end: int) -> None:
        self._tokens = tokens.repeat_interleave(2, dim=0)
        self._tokens[1, STEPS // 2] = end
        self._seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, scores: torch.Tensor, step: int, rows: torch.Tensor) -> torch.Tensor:
        self._seen.append((step, rows // 2, scores))
        return self._tokens[rows, step]

    def differences(self, expected: torch.Tensor) -> Iterator[float]:
        """For every step, how far the scores are from `expected`, shape (tasks, steps, vocabulary)."""
        for step, tasks, scores in self._seen:
            aim = expected[tasks, step]
            compared = aim.isfinite() & scores.isfinite()
            gap = (scores - aim)[compared].square().mean().sqrt() / aim[compared].std()
            yield float(gap)
