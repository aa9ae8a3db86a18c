"""Texts that no person should have to read, whatever they say."""

from __future__ import annotations

import re

from illume_plugin.selection.similarity import coded, words

#: So many characters made of one short pattern are a loop inside a word ("hahahahahaha").
PATTERN_LENGTH = 12

# What templates and tokenizers write around words: <image>, </s>, <|im_end|>, [INST], USER:, Q: ... A:
_MARKUP = re.compile(
    r"<[/|]?[A-Za-z_][^<>\s]{0,40}>"
    r"|\[/?(?:INST|SYS|IMG)\]|\[feedback \|"
    r"|(?:^|\s)(?:USER|ASSISTANT|SYSTEM|Human|Assistant|### ?\w+)\s?:"
    r"|(?:^|\s)Q:.*\sA:"
)
# Over a text with one character for a word: a word four times in a row, or a phrase of two to eight words
# three times. "Very, very, very red" is no loop.
_LOOP = re.compile(r"(.)\1{3}|(.{2,8}?)\2{2}", re.DOTALL)
# One to six characters, again and again; a lazy pattern finds the shortest.
_PATTERN = re.compile(r"(\S{1,6}?)\1{3,}")
_ENDING = re.compile(r"[.!?…。！？][\"'”’»)\]」』]*$")
# A hyphen, a comma, an opening bracket or half a character: more was to come.
_DANGLING = re.compile(r"[-–,;:(\[{“„«\N{REPLACEMENT CHARACTER}]$")


def has_markup(text: str) -> bool:
    """Whether prompt markup stands inside: the text quotes its own scaffolding."""
    return _MARKUP.search(text) is not None


def loops(text: str) -> bool:
    """Whether a word, a phrase or a pattern inside a word is said over and over."""
    (said,) = coded([words(text)])
    return _LOOP.search(said) is not None or any(
        len(match.group()) >= PATTERN_LENGTH
        for word in text.split()
        if len(word) >= PATTERN_LENGTH
        for match in _PATTERN.finditer(word)
    )


def ends_a_sentence(text: str) -> bool:
    """Whether the text ends with the mark of a sentence's end."""
    return _ENDING.search(text[-8:]) is not None


def dangles(text: str) -> bool:
    """Whether the text breaks off in the middle of a word or phrase."""
    return _DANGLING.search(text[-1:]) is not None
