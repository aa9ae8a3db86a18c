"""BLEU and CIDEr-D: by hand, by properties, and against SacreBLEU; ROUGE-L against rouge-score."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from illume_plugin.metrics import rouge_l
from illume_plugin.ngram_metrics import bleu, bleu_counts, cider, words

WORDS = st.sampled_from(["red", "blue", "circle", "the", "left", "there"])
TEXTS = st.lists(WORDS, min_size=1, max_size=9).map(" ".join)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=3)


def test_words_leave_out_case_and_keep_marks() -> None:
    assert words("The circle's RED, there.") == ["the", "circle", "'", "s", "red", ",", "there", "."]


@given(st.lists(st.tuples(TEXTS, REFERENCES), min_size=1, max_size=5))
def test_bleu_is_sacrebleus(corpus: list[tuple[str, list[str]]]) -> None:
    ours = bleu(bleu_counts(text, some) for text, some in corpus)
    most = max(len(some) for _, some in corpus)
    # references column by column; a text with fewer of them repeats its last one, which changes nothing
    columns = [[some[min(k, len(some) - 1)] for _, some in corpus] for k in range(most)]
    theirs = sacrebleu.corpus_bleu([text for text, _ in corpus], columns, tokenize="none").score / 100
    assert ours == pytest.approx(theirs, abs=1e-9)


@given(TEXTS, TEXTS)
def test_rouge_l_with_beta_one_is_rouge_scores(a: str, b: str) -> None:
    theirs = RougeScorer(["rougeL"]).score(target=b, prediction=a)["rougeL"].fmeasure
    assert rouge_l(a, b, beta=1.0) == pytest.approx(theirs)


def test_cider_by_hand() -> None:
    # two texts of one word each; "red" and "blue" are each in one of two reference sets: idf = ln 2
    # order 1: equal vectors, cosine 1; orders 2 to 4: no n-grams, 0. So 10 * 1 / 4.
    assert cider(["red", "red"], [["red"], ["blue"]]) == pytest.approx([2.5, 0.0])
    # two words for one: "red" twice, clipped to once of twice its norm: cosine 1/2; length differs by one
    assert cider(["red red", "x"], [["red"], ["blue"]])[0] == pytest.approx(10 / 4 * 0.5 * math.exp(-1 / 72))


def test_cider_is_the_mean_over_the_references() -> None:
    both = cider(["a red circle", "y"], [["a red circle", "blue"], ["z"]])[0]
    one = cider(["a red circle", "y"], [["a red circle"], ["z"]])[0]
    assert both == pytest.approx(one / 2)


def test_what_every_reference_says_weighs_nothing() -> None:
    assert cider(["red", "red"], [["red"], ["red"]]) == [0.0, 0.0]
    assert cider(["red"], [["red"]]) == [0.0], "with one text nothing is rare"


@given(st.lists(st.tuples(TEXTS, REFERENCES), min_size=2, max_size=5))
def test_cider_is_in_its_range_and_greatest_for_the_reference_itself(
    corpus: list[tuple[str, list[str]]],
) -> None:
    single = [some[:1] for _, some in corpus]
    found = cider([text for text, _ in corpus], single)
    best = cider([some[0] for some in single], single)
    assert all(-1e-9 <= a <= b + 1e-9 <= 10 + 1e-6 for a, b in zip(found, best, strict=True))
