"""Cleaning draws: what goes and why, whatever their order."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.selection import Cleaned, Reason, clean, counts
from illume_plugin.types import Candidate

GOOD = ["It rains.", "The street is wet.", "Many people hold big umbrellas."]

DRAWS = st.lists(
    st.none()
    | st.builds(
        Candidate,
        st.text(alphabet="ab. <>", max_size=14),
        st.sampled_from([0.3, 0.9]),
        st.integers(0, 5),
    ),
    max_size=12,
)


def draws(*texts: str) -> list[Candidate | None]:
    return [Candidate(text, 0.5, seed) for seed, text in enumerate(texts)]


def reasons(*texts: str) -> dict[str, str]:
    """text -> why it went, beside three good ones."""
    return {
        drop.candidate.text: drop.reason.value
        for drop in clean(draws(*GOOD, *texts)).dropped
        if drop.candidate is not None
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY),
        (" \n", Reason.EMPTY),
        ("...", Reason.EMPTY),
        ("<image> It is wet.", Reason.MARKUP),
        ("It is wet.</s>", Reason.MARKUP),
        ("It is wet.<|im_end|>", Reason.MARKUP),
        ("Wet. ASSISTANT: It is wet.", Reason.MARKUP),
        ("Q: why? A: It is wet.", Reason.MARKUP),
        ("[INST] It is wet.", Reason.MARKUP),
        ("[feedback | helpful 4/4] It is wet.", Reason.MARKUP),
        ("It is is is is wet.", Reason.LOOP),
        ("A red car and a red car and a red car and more.", Reason.LOOP),
        ("Hahahahahahaha.", Reason.LOOP),
        ("It is wet!!!!!!!!!!!!!!!", Reason.LOOP),
        ("猫がいる猫がいる猫がいる。", Reason.LOOP),
        ("The street is we-", Reason.CUT),
        ("The street, the cars,", Reason.CUT),
        ("The street is w\N{REPLACEMENT CHARACTER}", Reason.CUT),
        ("The street is shi", Reason.CUT),
        ("it  RAINS", Reason.REPEATED),
        ("A street is wet.", Reason.NEAR),
        ("Many people holds big umbrellas.", Reason.NEAR),
    ],
)
def test_what_goes_and_why(text: str, reason: Reason) -> None:
    assert list(reasons(text).values()) == [reason.value]


@pytest.mark.parametrize(
    "text",
    [
        "Very, very, very wet.",
        "It is 3 < 4 and 5 > 2.",
        "I <3 this street.",
        "The 10000000000th drop.",
        "The street is dry.",
        "Many people hold no umbrellas.",
        "“It is wet.”",
        "It is wet…",
        "It is wet?",
        "道は濡れている。",
    ],
)
def test_what_stays(text: str) -> None:
    assert reasons(text) == {}


def test_where_nobody_writes_a_full_stop_nothing_is_cut() -> None:
    assert len(clean(draws("it rains", "the street is wet", "people hold umbrellas.")).kept) == 3
    assert len(clean(draws("it rains", "the street is wet.")).kept) == 1


def test_of_a_repeated_wording_the_coolest_and_the_ended_stays() -> None:
    warm, cool = Candidate("it rains", 0.9, 1), Candidate("It rains", 0.3, 2)
    assert clean([warm, cool]).kept == (cool,)
    bare, ended = Candidate("It rains", 0.3, 1), Candidate("It rains.", 0.3, 2)
    assert clean([bare, ended]).kept == (ended,)


def test_a_draw_that_did_not_end_is_counted() -> None:
    cleaned = clean([None, *draws("It rains.", "It rains.", ""), None])
    assert [candidate.text for candidate in cleaned.kept] == ["It rains."]
    assert counts(cleaned.dropped) == {"empty": 1, "repeated": 1, "unfinished": 2}


def test_white_space_is_tidied_and_what_cannot_be_stored_is_marked() -> None:
    (kept,) = clean(draws(" The dog\n runs\x00. ")).kept
    assert kept.text == "The dog runs\N{REPLACEMENT CHARACTER}."


def test_no_draws() -> None:
    assert clean([]) == Cleaned((), ())


@given(DRAWS, st.integers(0, 2**31))
def test_every_draw_is_accounted_for_and_order_makes_no_difference(
    found: list[Candidate | None], seed: int
) -> None:
    cleaned = clean(found)
    assert len(cleaned.kept) + len(cleaned.dropped) == len(found)
    shuffled = list(found)
    Random(seed).shuffle(shuffled)
    other = clean(shuffled)
    assert other.kept == cleaned.kept
    assert counts(other.dropped) == counts(cleaned.dropped)


@given(DRAWS)
def test_what_is_clean_stays_clean(found: list[Candidate | None]) -> None:
    kept = clean(found).kept
    assert clean(kept).kept == kept
