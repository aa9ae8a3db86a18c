"""Choosing what a person reads: good candidates that are not all the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from illume_plugin.selection.similarity import similarities
from illume_plugin.types import Candidate

#: Weight of quality against novelty [ours].
TRADE_OFF = 0.7


def choose(candidates: Sequence[Candidate], limit: int, *, trade_off: float = TRADE_OFF) -> list[Candidate]:
    """Choose up to `limit` candidates by maximal marginal relevance (Carbonell and Goldstein, 1998).

    One after the other, the candidate with the largest

        trade_off * quality - (1 - trade_off) * likeness to the most alike one chosen so far

    is taken. Quality is its calibrated rank (`Candidate.rank`; 0.5 where it has none), likeness is
    `similarities`. Equal values go to the likelier one, then by text, so the outcome depends on the
    candidates, not on their order.

    Args:
        trade_off: 1 takes the best whatever they repeat, 0 the most different.

    Returns:
        The chosen ones, best first.
    """
    pool = sorted(candidates, key=_best_first)
    quality = np.array([_quality(candidate) for candidate in pool])
    alike = similarities([candidate.text for candidate in pool])
    nearest = np.zeros(len(pool))
    value = trade_off * quality
    chosen: list[int] = []
    for _ in range(min(limit, len(pool))):
        index = int(np.argmax(value))  # of equal values the first, which is the best of them
        chosen.append(index)
        nearest = np.maximum(nearest, alike[index])
        value = trade_off * quality - (1 - trade_off) * nearest
        value[chosen] = -math.inf
    return [pool[index] for index in sorted(chosen)]


def _quality(candidate: Candidate) -> float:
    return 0.5 if candidate.rank is None else candidate.rank


def _best_first(candidate: Candidate) -> tuple[float, float, str, float, int, str]:
    logprob = candidate.logprob_mean
    unlikely = math.inf if logprob is None or math.isnan(logprob) else -logprob
    return (
        -_quality(candidate),
        unlikely,
        candidate.text,
        candidate.temperature,
        candidate.seed,
        candidate.prompt,
    )
