"""Words, likeness by words, and what counts as a spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.selection.similarity import same_but_for_spelling, similarities, words

TEXTS = st.lists(st.text(alphabet="ab cd.", max_size=20), max_size=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" . , ", []),
        ("The dog's ball, a RED one.", ["the", "dog's", "ball", "a", "red", "one"]),
        ("well-known", ["well-known"]),
        ("Größe ändern", ["größe".casefold(), "ändern"]),
        ("猫がいる。", ["猫", "が", "い", "る"]),
        ("3 dogs", ["3", "dogs"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert list(words(text)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a b c d", "a b c d", 1.0),
        ("a b c d", "A, b. C d!", 1.0),
        ("a b c d", "a b c e", 0.75),  # one of four changed
        ("a b c d", "a b c", 6 / 7),  # one of four gone: 2 * 3 / 7
        ("a b", "c d", 0.0),
        ("a b", "b a", 0.5),  # order counts
        ("abcdef", "abcdeg", 0.0),  # words, not characters
        ("", "a", 0.0),
    ],
)
def test_likeness_is_by_words(one: str, other: str, expected: float) -> None:
    matrix = similarities([one, other])
    assert matrix[0, 1] == pytest.approx(expected)
    assert matrix[1, 0] == pytest.approx(expected)


@given(TEXTS)
def test_likeness_is_symmetric_and_every_text_is_like_itself(texts: list[str]) -> None:
    matrix = similarities(texts)
    assert matrix.shape == (len(texts), len(texts))
    assert (matrix == matrix.T).all()
    assert (matrix.diagonal() == 1).all()
    assert ((matrix >= 0) & (matrix <= 1)).all()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("the red circles are large", "the red circle are large", True),
        ("a color", "a colour", True),
        ("the dog runs", "dog runs", True),
        ("ein Hund", "der Hund", True),
        ("the red ball is left", "the red ball is right", False),
        ("there is one", "there is none", False),
        ("the circle is red", "the circle is not red", False),
        ("two dogs", "three dogs", False),
        ("a small red circle", "a red circle", False),
        ("red cup, blue box", "blue cup, red box", False),
        ("", "the", True),
    ],
)
def test_same_but_for_spelling(one: str, other: str, same: bool) -> None:
    assert same_but_for_spelling(one, other) is same
    assert same_but_for_spelling(other, one) is same
