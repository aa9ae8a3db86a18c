"""How likely the model finds a task's candidates, and how much they owe to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image

from illume_plugin.base_model import BaseModel, open_image
from illume_plugin.scoring.branches import Branch, Branches, encode
from illume_plugin.scoring.content import i2c, pmi
from illume_plugin.scoring.model_facts import GREY_PICTURE, Mode, ModelFacts, blind_prompts, facts, grey
from illume_plugin.scoring.passes import (
    chain_logprobs,
    plain_logprobs,
    read_prompt,
    sliding_window,
    tree_logprobs,
)
from illume_plugin.types import Blind, Scores

#: Candidate tokens computed together; logits of so many tokens are in memory at once.
TOKENS_AT_A_TIME = 1024


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A task, its picture as a local file, and the rationales to score."""

    image: Path
    question: str
    answer: str
    texts: Sequence[str]


def score(
    base: BaseModel,
    requests: Sequence[ScoreRequest],
    *,
    adapter: str | None = None,
    blind: bool = True,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
) -> list[list[Scores]]:
    """Score the rationales of several tasks, teacher-forced, conditioned on the task's answer.

    Probabilities are the model's own, at temperature 1 over the whole vocabulary, whatever the temperature
    a text was sampled at. Each task's prompt and picture are read once, all its rationales follow as one
    tree of tokens (`passes`); the first task of a base model is computed as plain rows too, and where the
    two differ, what agrees is used from then on (`model_facts`).

    Args:
        adapter: name of a loaded adapter, None for the base model.
        blind: also read the prompt without the picture, for `i2c` and `pmi` (C3L, arXiv 2405.12752).

    Returns:
        For each request, one Scores for each of its texts, in order.

    Raises:
        ImageError: a picture cannot be read.
        ModelError: no adapter of that name, or a processor whose prompts cannot be continued.
    """
    found: list[list[Scores]] = []
    for request in requests:
        picture = open_image(request.image)
        if not request.texts:
            found.append([])
            continue
        with base.adapters.using(adapter) as model, torch.inference_mode():
            found.append(_task(base, model, request, picture, blind=blind, at_a_time=tokens_at_a_time))
    return found


def facts_of(base: BaseModel) -> ModelFacts:
    """How candidates of a base model are scored; found out on a made-up task where nothing was scored yet."""
    with base.adapters.using(None) as model, torch.inference_mode():
        task = encode(base.prompts, "What is it?", "a dog", ["it has a tail"], GREY_PICTURE)
        return facts(base, model, _on_device(task, base.device))


def logprob_mean(
    base: BaseModel,
    image: Path,
    question: str,
    answer: str,
    texts: Sequence[str],
    *,
    adapter: str | None = None,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
) -> list[float]:
    """Mean log-probability per token (nats, at most 0) of each rationale; see `score`.

    The end token counts as one token: a rationale that stops where the model would go on is less likely.
    """
    request = ScoreRequest(image, question, answer, texts)
    (scores,) = score(base, [request], adapter=adapter, blind=False, tokens_at_a_time=tokens_at_a_time)
    return [each.logprob_mean for each in scores]


def _task(
    base: BaseModel,
    model: Any,
    request: ScoreRequest,
    picture: Image.Image,
    *,
    blind: bool,
    at_a_time: int,
) -> list[Scores]:
    said = (request.question, request.answer, request.texts)
    task = _on_device(encode(base.prompts, *said, picture), base.device)
    known = facts(base, model, task)
    seen = _logprobs(model, task, known.mode, at_a_time)
    if not blind:
        return [scores_of(branch, with_it) for branch, with_it in zip(task.branches, seen, strict=True)]
    without = (
        encode(blind_prompts(base.prompts), *said, picture)
        if known.blind is Blind.TEXT
        else encode(base.prompts, *said, grey(picture))
    )
    unseen = _logprobs(model, _on_device(without, base.device), known.mode, at_a_time)
    return [
        scores_of(branch, with_it, without_it, known.blind)
        for branch, with_it, without_it in zip(task.branches, seen, unseen, strict=True)
    ]


def _logprobs(model: Any, task: Branches, mode: Mode, at_a_time: int) -> list[list[float]]:
    """log P of each candidate's own tokens."""
    tokens = [branch.tokens for branch in task.branches]
    if mode is Mode.PLAIN:
        every = plain_logprobs(model, task.prompt, tokens)
    else:
        reading = read_prompt(model, task.prompt)
        window = sliding_window(model)
        # A tree's mask knows no windows; where one is too short to see everything, the model's own mask does.
        fits = window is None or task.length + max(map(len, tokens)) <= window
        every = (
            tree_logprobs(model, reading, tokens, tokens_at_a_time=at_a_time)
            if mode is Mode.TREE and fits
            else chain_logprobs(model, reading, tokens)
        )
    return [
        values[len(values) - len(branch.sentences) :]
        for values, branch in zip(every, task.branches, strict=True)
    ]


def scores_of(
    branch: Branch, seen: list[float], blind: list[float] | None = None, how: Blind | None = None
) -> Scores:
    """Scores out of the log-probabilities of a branch's own tokens, with the picture and without it."""
    by_sentence = [0.0] * (max(branch.sentences) + 1)
    for sentence, value in zip(branch.sentences, seen, strict=True):
        by_sentence[sentence] += value
    words = len(seen) - branch.ends
    comparable = blind is not None and words > 0
    return Scores(
        logprob_mean=fmean(seen),
        sentence_logprobs=tuple(by_sentence),
        i2c=i2c(seen[:words], blind[:words]) if blind is not None and comparable else None,
        pmi=pmi(seen[:words], blind[:words]) if blind is not None and comparable else None,
        blind=how,
    )


def _on_device(task: Branches, device: torch.device) -> Branches:
    return Branches({key: value.to(device) for key, value in task.prompt.items()}, task.branches)
