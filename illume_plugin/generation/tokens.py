"""New tokens for the prompts of several tasks, in the way of decoding that suits the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from illume_plugin.base_model import BaseModel, encode_prompts, open_image
from illume_plugin.generation.decoder import Decoder, generated, greedy
from illume_plugin.generation.drawing import DrawInGenerate, SeededDraw
from illume_plugin.generation.limits import must_fit
from illume_plugin.generation.selfcheck import PLAIN, SHARED, bare_model, mode_of
from illume_plugin.generation.stopping import SamplingStopped, never

# Whatever a model's own generation settings say, we draw from its plain distribution.
_DRAWN = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
_GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


def new_tokens(
    base: BaseModel,
    prompts: Sequence[str],
    images: Sequence[Path],
    *,
    adapter: str | None,
    steps: int,
    rows: int,
    copies: int = 1,
    draw: SeededDraw | None = None,
    stop: Callable[[], bool] = never,
) -> list[list[int]]:
    """What follows each prompt, several times.

    Args:
        images: the picture of each prompt.
        steps: tokens of a row at most.
        rows: rows decoded at a time, where prompts can be kept between them.
        copies: rows of each prompt.
        draw: draws the tokens of all rows; without it, each token is the likeliest one.
        stop: asked after every token.

    Returns:
        Tokens of every row, in the order of `prompts`, the rows of one together; they go on behind an end.

    Raises:
        SamplingStopped: `stop` said so.
        TaskError: a prompt is longer than what the base model reads.
    """
    batch = encoded(base, prompts, images, steps=steps)
    settings = generate_settings(base, steps, drawn=draw is not None)
    mode = mode_of(base)
    with base.adapters.using(adapter) as switched, torch.inference_mode():
        model = bare_model(switched)
        if mode.startswith(PLAIN):
            processors = LogitsProcessorList([DrawInGenerate(draw)] if draw else [])
            output = model.generate(
                **batch,
                **settings,
                num_return_sequences=copies,
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([_Asking(stop)]),
            )[:, batch["input_ids"].shape[1] :]
        else:
            decoder = Decoder(
                copies,
                draw or greedy,
                base.end_ids,
                base.pad_id,
                shared=mode == SHARED,
                rows=rows,
                stop=stop,
            )
            output = generated(model, batch, decoder, **settings)
    found: list[list[int]] = output.tolist()
    return found


def encoded(
    base: BaseModel, prompts: Sequence[str], images: Sequence[Path], *, steps: int
) -> dict[str, torch.Tensor]:
    """The prompts with their pictures as the model reads them, on its device; so many tokens shall follow.

    Raises:
        TaskError: a prompt is longer than what the base model reads.
        ImageError: a picture cannot be read.
    """
    batch = encode_prompts(base.prompts, prompts, [open_image(image) for image in images])
    must_fit(base, batch, steps)
    return {key: value.to(base.device) for key, value in batch.items()}


def generate_settings(base: BaseModel, steps: int, *, drawn: bool) -> dict[str, Any]:
    """Arguments of `generate` for so many new tokens, which are drawn, or else the likeliest ones."""
    return {
        **(_DRAWN if drawn else _GREEDY),
        "num_beams": 1,
        "max_new_tokens": steps,
        "eos_token_id": list(base.end_ids),
        "pad_token_id": base.pad_id,
    }


@dataclass(frozen=True)
class _Asking(StoppingCriteria):  # type: ignore[misc]
    """Ends plain `generate` between two tokens, by raising."""

    stop: Callable[[], bool]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: ARG002
        """False for every row.

        Raises:
            SamplingStopped: `stop` said so.
        """
        if self.stop():
            raise SamplingStopped("Sampling was stopped.", why="Nobody waits for its result any more.")
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
