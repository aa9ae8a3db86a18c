"""Where the sentences of a text end.

CSR (arXiv 2405.14622) scores a response sentence by sentence and takes spaCy's word for what a sentence is.
This is our own rule, for one to three sentences as a model writes them: a sentence ends at `.`, `!`, `?`,
`…` or their CJK forms, with the quotes and brackets that close there, where white space or the end of the
text follows (CJK marks need none). An abbreviation or an initial before a full stop ends nothing, nor
does a stretch without a letter ("1."), which belongs to the sentence after it. Not covered: a sentence that
ends in an abbreviation before another one, and line breaks without a mark.
"""

from __future__ import annotations

import re

#: Words before a full stop that is no end; short on purpose, for what is said about pictures.
ABBREVIATIONS = frozenset(
    {
        "approx",
        "bzw",
        "ca",
        "cf",
        "d.h",
        "dr",
        "e.g",
        "etc",
        "fig",
        "i.e",
        "incl",
        "mr",
        "mrs",
        "ms",
        "prof",
        "resp",
        "usw",
        "vs",
        "z.b",
    }
)

_CLOSING = "\"'”’»)\\]」』"
_MARK = re.compile(rf"(?:[.!?…]+[{_CLOSING}]*(?=\s|$)|[。！？]+[{_CLOSING}]*)")
_WORD_BEFORE = re.compile(r"[^\W_](?:[^\W_]|\.(?=[^\W_]))*$")


def sentence_ends(text: str) -> list[int]:
    """Character position after each sentence of `text`; the last one is its length. Never empty."""
    ends: list[int] = []
    start = 0
    for mark in _MARK.finditer(text):
        if any(c.isalpha() for c in text[start : mark.start()]) and not _abbreviates(text, mark):
            ends.append(mark.end())
            start = mark.end()
    if ends and not any(c.isalpha() for c in text[start:]):
        ends.pop()  # what follows the last sentence says nothing: it belongs to that sentence
    return [*ends, len(text)]


def sentences(text: str) -> list[str]:
    """The sentences of `text`, stripped; together they hold all of its words. Empty for a blank text."""
    ends = sentence_ends(text)
    parts = (text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False))
    return [part for part in parts if part]


def _abbreviates(text: str, mark: re.Match[str]) -> bool:
    if mark.group() != "." or mark.end() == len(text):
        return False
    before = _WORD_BEFORE.search(text, 0, mark.start())
    word = before.group().casefold() if before else ""
    initials = word != "i" and word.isascii() and all(len(p) == 1 and p.isalpha() for p in word.split("."))
    return word in ABBREVIATIONS or initials
