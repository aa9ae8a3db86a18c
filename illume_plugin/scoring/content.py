"""How much a rationale owes to the picture: C3L's content relevance (arXiv 2405.12752), pure arithmetic.

Both figures compare what the model gives each token with the picture (`seen`) and without it (`blind`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: A probability below this counts as this: one impossible token must not decide alone.
SMALLEST = 1e-6


def i2c(seen: Sequence[float], blind: Sequence[float]) -> float:
    """KL divergence between the two profiles of probability over the positions of a text, in nats, >= 0.

    Each profile is the tokens' probabilities divided by their sum over the text, as C3L has it. So it sees
    the shape of the change, not its size, and is 0 for a text of one token.

    Args:
        seen: log-probability of each token with the picture.
        blind: the same without the picture.

    Raises:
        ValueError: no tokens, or not as many on both sides.
    """
    p, q = _profile(seen), _profile(blind)
    divergence = math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return max(0.0, divergence)  # rounding may leave a hair below


def pmi(seen: Sequence[float], blind: Sequence[float]) -> float:
    """Mean over the tokens of log P(with the picture) / P(without it), in nats.

    Above 0 where the picture makes the text likelier; a text that can be written without looking is near 0.

    Raises:
        ValueError: no tokens, or not as many on both sides.
    """
    ratios = [math.log(_clamped(a) / _clamped(b)) for a, b in zip(seen, blind, strict=True)]
    if not ratios:
        raise ValueError("A text without tokens owes nothing to anything.")
    return math.fsum(ratios) / len(ratios)


def _profile(logprobs: Sequence[float]) -> list[float]:
    if not logprobs:
        raise ValueError("A text without tokens has no profile.")
    probabilities = [_clamped(value) for value in logprobs]
    total = math.fsum(probabilities)
    return [p / total for p in probabilities]


def _clamped(logprob: float) -> float:
    return min(1.0, max(SMALLEST, math.exp(min(0.0, logprob))))
