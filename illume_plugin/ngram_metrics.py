"""How like texts are to references: BLEU and CIDEr-D over words. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Longest run of words that counts.
ORDER = 4
#: Standard deviation of CIDEr-D's penalty on a difference of length, words.
SIGMA = 6.0

_TOKEN = re.compile(r"\w+|[^\w\s]")

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and punctuation marks, without letter case."""
    return _TOKEN.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class BleuCounts:
    """What BLEU needs of one text; the counts of a corpus are the sums.

    Attributes:
        matched: of each order 1 to 4, runs of words that some reference has, each as often as it has it.
        total: of each order, runs of words.
        length, reference_length: words of the text, and of the reference closest to it in length.
    """

    matched: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference_length: int


def bleu_counts(candidate: str, references: Sequence[str]) -> BleuCounts:
    """Compare one text with its references, of which there is at least one."""
    said, wanted = words(candidate), [words(reference) for reference in references]
    matched, total = [], []
    for n in range(1, ORDER + 1):
        counts = _ngrams(said, n)
        most: Counter[Ngram] = Counter()
        for reference in wanted:
            most |= _ngrams(reference, n)
        matched.append((counts & most).total())
        total.append(counts.total())
    closest = min((len(reference) for reference in wanted), key=lambda n: (abs(n - len(said)), n))
    return BleuCounts(tuple(matched), tuple(total), len(said), closest)


def bleu(counts: Iterable[BleuCounts]) -> float:
    """BLEU of a corpus in [0, 1] (Papineni et al., ACL 2002), orders 1 to 4.

    Orders without a match are smoothed as SacreBLEU does by default ("exp": each further one counts half of
    the one before); where no word matches, or no text has four words, it is 0.
    """
    known = list(counts)
    matched = [sum(each.matched[n] for each in known) for n in range(ORDER)]
    total = [sum(each.total[n] for each in known) for n in range(ORDER)]
    if not any(matched) or not all(total):
        return 0.0
    length, wanted = sum(each.length for each in known), sum(each.reference_length for each in known)
    logs, smooth = 0.0, 1.0
    for right, of in zip(matched, total, strict=True):
        smooth *= 1 if right else 2
        logs += math.log(right / of if right else 1 / (smooth * of))
    return min(1.0, math.exp(1 - wanted / length)) * math.exp(logs / ORDER)


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each text against its own references, 0 to 10 (Vedantam et al., arXiv 1411.5726).

    Runs of one to four words, weighed by how few of the other texts' references hold them; lengths are
    compared in words. With one text in all every weight, and so the figure, is 0. No stemming.

    Args:
        references: of each of `candidates`, at least one.
    """
    wanted = [[_profile(reference) for reference in some] for some in references]
    seen: Counter[Ngram] = Counter()
    for some in wanted:
        seen.update(set().union(*some))
    weigh = math.log(max(1, len(wanted)))
    idf = {ngram: weigh - math.log(count) for ngram, count in seen.items()}
    return [
        sum(_similarity(_profile(text), other, idf, weigh) for other in some) / len(some)
        for text, some in zip(candidates, wanted, strict=True)
    ]


def _similarity(
    said: Counter[Ngram], wanted: Counter[Ngram], idf: dict[Ngram, float], unseen: float
) -> float:
    """Ten times the mean over the orders of the clipped cosine, times the penalty on length."""
    cosines = [_cosine(said, wanted, n, idf, unseen) for n in range(1, ORDER + 1)]
    apart = _length(said) - _length(wanted)
    return 10 * math.exp(-(apart**2) / (2 * SIGMA**2)) * sum(cosines) / ORDER


def _cosine(
    said: Counter[Ngram], wanted: Counter[Ngram], n: int, idf: dict[Ngram, float], unseen: float
) -> float:
    a = {ngram: count * idf.get(ngram, unseen) for ngram, count in said.items() if len(ngram) == n}
    b = {ngram: count * idf.get(ngram, unseen) for ngram, count in wanted.items() if len(ngram) == n}
    norms = math.hypot(*a.values()) * math.hypot(*b.values())
    shared = sum(min(weight, b[ngram]) * b[ngram] for ngram, weight in a.items() if ngram in b)
    return shared / norms if norms else 0.0


def _profile(text: str) -> Counter[Ngram]:
    said = words(text)
    found: Counter[Ngram] = Counter()
    for n in range(1, ORDER + 1):
        found += _ngrams(said, n)
    return found


def _length(profile: Counter[Ngram]) -> int:
    return sum(count for ngram, count in profile.items() if len(ngram) == 1)


def _ngrams(said: Sequence[str], n: int) -> Counter[Ngram]:
    return Counter(tuple(said[start : start + n]) for start in range(len(said) - n + 1))
