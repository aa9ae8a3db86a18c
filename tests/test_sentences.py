"""Where sentences end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.sentences import sentence_ends, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   ", []),
        ("It rains", ["It rains"]),
        ("It rains.", ["It rains."]),
        ("It rains. The street is wet.", ["It rains.", "The street is wet."]),
        ("the dog runs . the ball is red .", ["the dog runs .", "the ball is red ."]),
        ("it rains. it is wet", ["it rains.", "it is wet"]),
        ("Really?! Yes… Good.", ["Really?!", "Yes…", "Good."]),
        ("It says “Stop.” The car waits.", ["It says “Stop.”", "The car waits."]),
        ("The tower is 3.5 m high. It leans.", ["The tower is 3.5 m high.", "It leans."]),
        ("There are 3. They run.", ["There are 3.", "They run."]),
        ("1. The dog runs. 2. It is wet.", ["1. The dog runs.", "2. It is wet."]),
        ("Dr. Who waits, e.g. here. He is late.", ["Dr. Who waits, e.g. here.", "He is late."]),
        ("The U.S. flag waves. J. Smith too.", ["The U.S. flag waves.", "J. Smith too."]),
        ("It is I. He left.", ["It is I.", "He left."]),
        ("It rains. ...", ["It rains. ..."]),
        ("猫がいる。犬もいる。", ["猫がいる。", "犬もいる。"]),
        ("...", ["..."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="ab. !?…。1\"'", max_size=30))
def test_ends_rise_to_the_end_of_the_text_and_no_word_is_lost(text: str) -> None:
    ends = sentence_ends(text)
    assert ends[-1] == len(text)
    assert ends == sorted(ends)
    assert "".join(sentences(text)).replace(" ", "") == text.replace(" ", "")
