"""Where sentences end while their tokens come in, by a tokenizer of a few lines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from illume_plugin.generation.sentence_search_reading import GrowingSentence, SentenceReader

END = "</s>"


class Pieces:
    """A token is the index of its piece."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = pieces

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(self.pieces[token] for token in tokens if self.pieces[token] != END)


def grown(pieces: Sequence[str], limit: int = 99) -> tuple[GrowingSentence, int]:
    """The sentence that the pieces begin with, and how many of them it took to know."""
    ends = {index for index, piece in enumerate(pieces) if piece == END}
    growing = GrowingSentence(SentenceReader(Pieces(pieces), ends), limit)
    for index in range(len(pieces)):
        if growing.add(index, -float(index + 1)):
            return growing, index + 1
    return growing, 0


@pytest.mark.parametrize(
    ("pieces", "text", "tokens", "looked_at"),
    [
        (["It", " is", " red", ".", " The", " dog"], "It is red.", 4, 5),
        (["It", " is", " 0", ".", "5", " metres", ".", " So"], "It is 0.5 metres.", 7, 8),
        (["See", " e", ".", "g", ".", " dogs", "!", " So"], "See e.g. dogs!", 7, 8),
        (["He", " says", ' "', "no", ".", '"', " So"], 'He says "no."', 6, 7),
        (["So", ".", " (", "1", " dog"], "So.", 2, 5),  # brackets and figures are no words
        (["So", ".\n", "\n", "And"], "So.", 2, 4),
        (["So", "...", " And"], "So...", 2, 3),
        (["赤い", "。", "犬"], "赤い。", 2, 3),
        (["So", "?!", " What"], "So?!", 2, 3),
    ],
)
def test_a_sentence_ends_once_words_follow(pieces: list[str], text: str, tokens: int, looked_at: int) -> None:
    growing, seen = grown(pieces)
    found = growing.sentence
    assert found is not None
    assert (found.text, found.tokens, found.ended) == (text, tuple(range(tokens)), False)
    assert found.logprob == -sum(range(1, tokens + 1))
    assert seen == looked_at


@pytest.mark.parametrize(
    ("pieces", "text"), [(["It", " is", ".", END, " x"], "It is."), (["It", END], "It"), ([END], "")]
)
def test_an_end_token_ends_the_sentence_and_the_rationale(pieces: list[str], text: str) -> None:
    growing, seen = grown(pieces)
    found = growing.sentence
    assert found is not None
    place = pieces.index(END)
    assert (found.text, found.tokens, found.ended) == (text, tuple(range(place)), True)
    assert found.logprob == -sum(range(1, place + 2))  # the end token with it
    assert seen == place + 1


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_does_not_end_within_the_limit_is_none(limit: int) -> None:
    growing, seen = grown(["It", " is", ".", " So"], limit)
    assert (growing.sentence, seen) == (None, limit)


def test_the_limit_counts_what_shows_that_a_sentence_has_ended() -> None:
    assert grown(["It", ".", " So"], 3)[0].sentence is not None
    assert grown(["It", ".", END], 3)[0].sentence is not None
    assert grown(["It", ".", " So"], 2)[0].sentence is None


def test_a_token_is_decoded_alone_once() -> None:
    pieces = Pieces(["It", "."])
    reader = SentenceReader(pieces, set())
    assert (reader.may_end(0), reader.may_end(1)) == (False, True)
    pieces.pieces = ()
    assert (reader.may_end(0), reader.may_end(1)) == (False, True)
