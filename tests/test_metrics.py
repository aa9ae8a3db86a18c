"""ROUGE-L and distinct share against tables, properties and a slow reference."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.metrics import distinct_share, rouge_l

SENTENCES = st.lists(st.sampled_from(["red", "blue", "the", "circle", "is"]), min_size=1, max_size=6).map(
    " ".join
)


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        ("the circle is red", "the circle is red", 1.0),
        ("  The CIRCLE is\tred ", "the circle is red", 1.0),
        ("a dog", "the circle is red", 0.0),
        ("", "the circle is red", 0.0),
        ("no", "no", 0.0),  # under three characters
        ("the circle is red", "", 0.0),
        # 3 words shared; P = 3/3, R = 3/4: 2.44 * 0.75 / (0.75 + 1.44)
        ("the circle red", "the circle is red", 2.44 * 0.75 / 2.19),
        # order counts: only one of two words is in order; P = R = 1/2
        ("red circle", "circle red", 0.5),
        ("red.", "red", 0.0),  # punctuation is part of a word, as in the authors' code
    ],
)
def test_rouge_l_by_hand(candidate: str, reference: str, expected: float) -> None:
    assert rouge_l(candidate, reference) == pytest.approx(expected)


def longest_shared(a: list[str], b: list[str]) -> int:
    """Tries every selection of words: obviously right."""
    shared = (
        size for size in range(len(a), 0, -1) if set(combinations(a, size)) & set(combinations(b, size))
    )
    return next(shared, 0)


@given(SENTENCES, SENTENCES)
def test_rouge_l_is_the_formula_over_the_longest_shared_selection(a: str, b: str) -> None:
    said, wanted = a.split(), b.split()
    shared = longest_shared(said, wanted)
    p, r = shared / len(said), shared / len(wanted)
    short = min(len(a), len(b)) < 3
    expected = 0.0 if not shared or short else 2.44 * p * r / (r + 1.44 * p)
    assert rouge_l(a, b) == pytest.approx(expected)


@given(SENTENCES, SENTENCES)
def test_recall_weighs_more_than_precision(a: str, b: str) -> None:
    assert (len(a.split()) > len(b.split())) or rouge_l(a, b) <= rouge_l(b, a) + 1e-9


@pytest.mark.parametrize(
    ("texts", "draws", "expected"),
    [
        (["a red one", "a blue one"], None, 1.0),
        (["a red one", "A red  one.", "a blue one"], None, 2 / 3),
        (["a red one"], 4, 0.25),
        ([], 4, 0.0),
    ],
)
def test_distinct_share(texts: list[str], draws: int | None, expected: float) -> None:
    assert distinct_share(texts, draws=draws) == pytest.approx(expected)


def test_no_draws_have_no_share() -> None:
    with pytest.raises(ValueError, match="0 draws"):
        distinct_share([])
