"""DRESS's feedback: the condition's words, hindsight examples, and what is left out by chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.errors import SettingsError
from illume_plugin.examples import Condition, FeedbackExample
from illume_plugin.feedback import build_feedback, condition_text, with_dropout
from illume_plugin.types import Origin, Preference, Task, Verdict

F, U = Verdict.FITS, Verdict.UNFIT


def task(task_id: int = 1) -> Task:
    return Task(1, task_id, f"/{task_id}.png", "What is it?", "a dog")


def said(
    text: str, verdict: Verdict = F, annotation_id: int = 1, task_id: int = 1, **more: Any
) -> Preference:
    made = Preference(1, task_id, annotation_id, 7, text, verdict, Origin.CANDIDATE, 1, "v0001")
    return replace(made, **more)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition(), ""),
        (Condition(helpful=4), "[feedback | helpful 4/4]"),
        (
            Condition(4, 3, 4, "too vague"),
            "[feedback | helpful 4/4 | honest 3/4 | harmless 4/4 | critique: too vague]",
        ),
        (Condition(critique="too vague"), "[feedback | critique: too vague]"),
        (Condition(critique=" \n"), ""),
        (Condition(1, critique="a\n b] [c | d"), "[feedback | helpful 1/4 | critique: a b) (c / d]"),
    ],
)
def test_condition(condition: Condition, text: str) -> None:
    assert condition_text(condition) == text


@given(st.text())
def test_a_critique_never_ends_the_condition(critique: str) -> None:
    text = condition_text(Condition(helpful=2, critique=critique))
    assert text.startswith("[feedback | helpful 2/4")
    assert (text.count("["), text.count("]")) == (1, 1)
    assert text.endswith("]")
    assert text.count("|") <= 2


@pytest.mark.parametrize(
    ("preference", "fits", "condition", "implied"),
    [
        (said("x"), True, Condition(helpful=4), True),
        (said("x", U), False, Condition(helpful=1), True),
        (said("x", helpful=2, honest=4), True, Condition(2, 4), False),
        (said("x", harmless=1), True, Condition(harmless=1), False),
        (said("x", U, critique="no dog"), False, Condition(1, critique="no dog"), True),
    ],
)
def test_what_was_said(preference: Preference, fits: bool, condition: Condition, implied: bool) -> None:
    (example,) = build_feedback([task()], [preference])
    assert example == FeedbackExample(
        1, "/1.png", "What is it?", "a dog", "x", fits, condition, implied=implied
    )


def test_the_turn_before_comes_along() -> None:
    (example,) = build_feedback([task()], [said("x", before="y", refinement="name the dog", turn=2)])
    assert (example.before, example.refinement) == ("y", "name the dog")


@pytest.mark.parametrize(
    ("preferences", "weights"),
    [
        ([said("x"), said("x")], {("x", 4): 1.0}),
        ([said("x"), said("x", F, 2)], {("x", 4): 1.0}),
        ([said("x"), said("X.", U, 2), said("x", F, 3)], {("x", 4): 2 / 3, ("X.", 1): 1 / 3}),
        ([said("x", helpful=3), said("x", F, 2, helpful=2)], {("x", 3): 0.5, ("x", 2): 0.5}),
        ([said("x"), said("x", U, task_id=2)], {("x", 4): 1.0}),
    ],
)
def test_what_is_said_of_one_rationale_shares_one_weight(preferences: Any, weights: Any) -> None:
    found = build_feedback([task()], preferences)
    told = {(each.rationale, each.condition.helpful): each.weight for each in found}
    assert told == pytest.approx(weights)


def test_agreement_can_be_left_out() -> None:
    found = build_feedback([task()], [said("x"), said("x", U, 2)], weigh_agreement=False)
    assert [each.weight for each in found] == [1.0, 1.0]


EXAMPLE = FeedbackExample(1, "/1.png", "q", "a", "x", fits=True, condition=Condition(4, 3, 4, "fine"))


def share_of(example: FeedbackExample, kept: Condition, **settings: Any) -> float:
    drawn = [with_dropout(example, seed=0, epoch=epoch, **settings).condition for epoch in range(2000)]
    return drawn.count(kept) / len(drawn)


@pytest.mark.parametrize(
    ("fits", "kept", "share"),
    [
        (True, Condition(4, 3, 4, "fine"), 0.9 * 0.8),
        (True, Condition(4, 3, 4), 0.9 * 0.2),
        (True, Condition(), 0.1),
        (False, Condition(4, 3, 4, "fine"), 0.8),
        (False, Condition(4, 3, 4), 0.2),
        (False, Condition(), 0.0),  # unasked, the model must not learn what does not fit
    ],
)
def test_how_often_something_is_left_out(fits: bool, kept: Condition, share: float) -> None:
    # 2000 fixed draws: at most 3 standard deviations (0.034) off
    assert share_of(replace(EXAMPLE, fits=fits), kept) == pytest.approx(share, abs=0.034)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"critique": 0, "whole": 0}, Condition(4, 3, 4, "fine")),
        ({"critique": 1, "whole": 0}, Condition(4, 3, 4)),
        ({"critique": 0, "whole": 1}, Condition()),
    ],
)
def test_never_and_always(settings: Any, kept: Condition) -> None:
    assert share_of(EXAMPLE, kept, **settings) == 1.0


def test_the_draw_depends_on_seed_and_epoch_alone() -> None:
    first = [with_dropout(EXAMPLE, seed=1, epoch=epoch) for epoch in range(50)]
    assert first == [with_dropout(EXAMPLE, seed=1, epoch=epoch) for epoch in range(50)]
    assert first != [with_dropout(EXAMPLE, seed=2, epoch=epoch) for epoch in range(50)]


@pytest.mark.parametrize("settings", [{"critique": -0.1}, {"whole": 1.1}])
def test_a_probability_that_is_none(settings: Any) -> None:
    with pytest.raises(SettingsError, match="probability"):
        with_dropout(EXAMPLE, seed=0, **settings)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            said,
            st.sampled_from(["x", "X.", "y"]),
            st.sampled_from([F, U]),
            st.integers(1, 3),
            st.integers(1, 2),
            helpful=st.none() | st.integers(1, 4),
            critique=st.sampled_from(["", "no"]),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_do_not_matter(preferences: list[Preference], random: Any) -> None:
    one = build_feedback([task()], preferences)
    preferences = preferences + preferences[:4]
    random.shuffle(preferences)
    assert build_feedback([task()], preferences) == one
    for key in {each.rationale.casefold().rstrip(".") for each in one}:
        weights = [each.weight for each in one if each.rationale.casefold().rstrip(".") == key]
        assert sum(weights) == pytest.approx(1.0)
