"""Texts of outsiders on a terminal, which would obey the control characters in them."""

from __future__ import annotations

_MARK = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """The text with a mark in place of every letter that does not show; line breaks stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else _MARK for letter in text)
