"""Calibrated ranks: CSR's way to add two figures that have no common scale (arXiv 2405.14622)."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import fmean

#: CSR's lambda: weight of the image-text encoder against the model's own likelihood.
RELEVANCE_WEIGHT = 0.9


def normalised_ranks(values: Sequence[float | None]) -> list[float]:
    """Rank of each value among its siblings in [0, 1]: 1 is the largest, 0 the smallest.

    It is the share of the other values that are smaller, ties counted half; 0.5 for an only child. A value
    that is missing (None or not a number) ranks below all that are there.
    """
    known = [-math.inf if value is None or math.isnan(value) else value for value in values]
    others = len(known) - 1
    if others < 1:
        return [0.5 for _ in known]
    ordered = sorted(known)
    # bisect counts the smaller ones on one side and the equal ones, itself among them, on the other
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) - 1) / 2 / others for value in known]


def calibrated_ranks(
    likelihoods: Sequence[float | None],
    relevances: Sequence[float | None],
    *,
    weight: float = RELEVANCE_WEIGHT,
) -> list[float]:
    """(1 - weight) rank of likelihood + weight rank of relevance, for siblings; in [0, 1], 1 is the best.

    A sum of the raw figures would be one-sided, so CSR adds their ranks among siblings. Siblings are the
    next sentences that one path was tried with; of texts that were sampled in one go, the task's candidates.
    Where nothing has a relevance (no image-text encoder), the likelihood decides alone.

    Args:
        likelihoods: of each sibling by the model itself.
        relevances: of each sibling with the picture, as many as there are likelihoods.
        weight: CSR's lambda, in [0, 1].

    Raises:
        ValueError: the two do not go together, or the weight is outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"The weight of relevance must be in [0, 1], not {weight}.")
    share = weight if any(value is not None for value in relevances) else 0.0
    pairs = zip(normalised_ranks(likelihoods), normalised_ranks(relevances), strict=True)
    return [(1 - share) * likely + share * relevant for likely, relevant in pairs]


def path_rank(sentences: Sequence[float]) -> float:
    """Reward of a path of sentences: the mean of their calibrated ranks.

    CSR's code divides by the number of nodes with the root among them and so favours short answers; this
    divides by the number of sentences.

    Raises:
        ValueError: the path has no sentence.
    """
    if not sentences:
        raise ValueError("A path without sentences has no rank.")
    return fmean(sentences)
