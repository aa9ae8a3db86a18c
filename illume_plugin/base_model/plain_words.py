"""A task's words as plain words: nothing in them can end a turn, begin one, or stand for a picture.

Three things could. Tokens that mean something to the model beside their letters: they are found by their
text, and then by asking the tokenizer itself, which may make them of other letters (full width, joined, lower
case). Words that a template marks turns with ("USER:", "[INST]", our own "Q:" and "A:"): they lose what makes
them marks, so "A: red" becomes "A red". Characters that are not seen: controls and marks of direction. Line
breaks become spaces, so nothing begins a line of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from illume_plugin.identity import storable

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Not seen, and able to change how other letters are read or matched. The joiners of emoji and Persian stay.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_NO_WORD = re.compile(r"[\W_]")
_NOTHING = re.compile(r"(?!)")
_TEXTS_REMEMBERED = 4096


class PlainWords:
    """Makes plain words of any text, for one tokenizer and one template.

    Args:
        tokenizer: a fast tokenizer.
        tokens: texts of the tokens that mean something beside their letters.
        ids: ids of those that no text may become.
        marks: words that mark turns, punctuation included.
    """

    def __init__(
        self, tokenizer: Any, tokens: Iterable[str], ids: Iterable[int], marks: Sequence[str]
    ) -> None:
        self._tokenizer = tokenizer
        longest_first = sorted({token for token in tokens if token}, key=len, reverse=True)
        self._tokens = _any_of(re.escape(token) for token in longest_first)
        self._ids = frozenset(ids)
        self._marks = _any_of(map(_pattern, marks))
        # Each of a task's candidates is told with the same question and answer.
        self._remembered = lru_cache(_TEXTS_REMEMBERED)(self._plain)

    def __call__(self, text: str) -> str:
        """`text` as plain words with single spaces between them; the same again where it is plain already."""
        return self._remembered(text)

    def _plain(self, text: str) -> str:
        text = _UNSEEN.sub("", _CONTROLS.sub(" ", storable(text)))
        before = None
        while text != before:  # what is taken out may bring together what was apart
            before = text
            text = " ".join(self._unmarked(self._tokens.sub(" ", text)).split())
            text = " ".join(self._untokened(text).split())
        return text

    def _unmarked(self, text: str) -> str:
        """Without the punctuation of turn marks, however their letters are written."""
        folded, origins = _folded(text)
        letters = list(text)
        for found in self._marks.finditer(folded):
            for place in origins[found.start() : found.end()]:
                letters[place] = _NO_WORD.sub(" ", letters[place])
        return "".join(letters)

    def _untokened(self, text: str) -> str:
        """Without the letters that the tokenizer makes one of `ids` of."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        letters = list(text)
        for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if token in self._ids:
                letters[start:stop] = " " * (stop - start)
        return "".join(letters)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    joined = "|".join(patterns)
    return re.compile(joined) if joined else _NOTHING


def _pattern(mark: str) -> str:
    """Matches a mark in folded text, also with spaces inside; not where it only ends a longer word."""
    parts = re.findall(r"\w+|[^\w\s]+", _folded(mark)[0])
    start = r"(?<!\w)" if mark[0].isalnum() else ""
    return start + r"\s*".join(map(re.escape, parts))


def _folded(text: str) -> tuple[str, list[int]]:
    """The text without differences of case and form, and where in it each folded character comes from."""
    pairs = list(_folding(text))
    return "".join(letter for letter, _ in pairs), [place for _, place in pairs]


def _folding(text: str) -> Iterator[tuple[str, int]]:
    for place, letter in enumerate(text):
        for folded in letter.casefold() if letter.isascii() else _form(letter):
            yield folded, place


@lru_cache(_TEXTS_REMEMBERED)
def _form(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter).casefold()
