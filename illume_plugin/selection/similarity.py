"""How alike two texts are, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Indel

from illume_plugin.identity import wording

# Chinese and Japanese write no spaces: there every character counts as a word.
_CHARACTER = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+(?:['’-][^\W{_CHARACTER}]+)*")


#: Words that may come and go without a text becoming another one.
ARTICLES = frozenset(
    {"a", "an", "the", "das", "dem", "den", "der", "die", "ein", "eine", "einen", "el", "la", "le", "les"}
    | {"los", "las", "un", "una", "une"}
)
#: Two words that begin alike and share more than this of their characters are one word, spelt two ways.
SPELLING = 80.0


@lru_cache(maxsize=2048)
def words(text: str) -> tuple[str, ...]:
    """The words of a text, without case and punctuation."""
    return tuple(_WORD.findall(wording(text)))


def similarities(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Likeness of every pair in [0, 1], shape (texts, texts); 1 where all words are the same.

    It is rapidfuzz's `fuzz.ratio` over words instead of characters: 2 M / T, where M is the length of the
    longest common subsequence of words and T the number of words of both. Word order counts: a red cup on a
    blue box is not a blue cup on a red box. One word changed among n leaves 1 - 1/n.
    """
    as_characters = coded([words(text) for text in texts])
    found = process.cdist(as_characters, as_characters, scorer=fuzz.ratio, dtype=np.float32)
    return np.asarray(found, dtype=np.float32) / np.float32(100)


def same_but_for_spelling(one: str, other: str) -> bool:
    """Whether two texts differ in articles and in the spelling of single words only.

    "circle" and "circles", "color" and "colour" are spellings; "left" and "right", "one" and "none" are not.
    """
    mine, theirs = words(one), words(other)
    left, right = [list(side) for side in (mine, theirs)]
    # from the back, so that what is taken out does not move what is still to come
    for part in reversed(Indel.opcodes(*coded([mine, theirs]))):
        if part.tag == "equal":
            del left[part.src_start : part.src_end], right[part.dest_start : part.dest_end]
    left, right = [[word for word in side if word not in ARTICLES] for side in (left, right)]
    return len(left) == len(right) and all(map(_one_word, left, right))


def _one_word(one: str, other: str) -> bool:
    return one[0] == other[0] and fuzz.ratio(one, other) > SPELLING


def coded(texts: Sequence[Sequence[str]]) -> list[str]:
    """Each text with a character for a word: rapidfuzz then compares words at the speed of characters."""
    distinct = dict.fromkeys(word for text in texts for word in text)
    character = {word: chr(index) for index, word in enumerate(distinct)}
    return ["".join(map(character.__getitem__, text)) for text in texts]
