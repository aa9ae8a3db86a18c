"""Figures about texts: how much two sentences share, how many of several samples differ."""

from __future__ import annotations

from collections.abc import Sequence

from illume_plugin.identity import wording

#: A text shorter than this, in characters, says nothing: it scores 0.
SHORTEST = 3


def rouge_l(candidate: str, reference: str, *, beta: float = 1.2) -> float:
    """Word-level ROUGE-L of a candidate against one reference, in [0, 1].

    As in ILLUME's own critic (arXiv 2208.08241): both sides are stripped, lower-cased and split at white
    space; with precision P and recall R of the longest common subsequence it is
    (1 + beta^2) P R / (R + beta^2 P). Texts under three characters score 0.

    Args:
        beta: above 1, missing words of the reference cost more than words beside it.
    """
    said, wanted = _words(candidate), _words(reference)
    shared = _common_subsequence(said, wanted)
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def distinct_share(texts: Sequence[str], *, draws: int | None = None) -> float:
    """Number of different wordings per draw, in [0, 1]: 1 where no sample repeats another.

    Args:
        texts: the samples of one task.
        draws: how many were drawn, where some gave no text at all; default: as many as there are texts.

    Raises:
        ValueError: nothing was drawn.
    """
    drawn = len(texts) if draws is None else draws
    if drawn < 1:
        raise ValueError(f"{drawn} draws have no share of distinct ones.")
    return len({wording(text) for text in texts}) / drawn


def _words(text: str) -> list[str]:
    plain = text.strip().lower()
    return plain.split() if len(plain) >= SHORTEST else []


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have, in order, gaps allowed."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
