"""What a run learns from: every text once, the terms over them, and which of them an epoch has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    ObjectiveName,
    PairSource,
    PreferencePair,
)
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.terms import RunTerms, Term, run_terms, terms_of_rows
from illume_plugin.types import TrainingRow, TrainingSet

DPO, KTO, DRESS, CONTRAST, ILLUME = (
    ObjectiveName.DPO,
    ObjectiveName.KTO,
    ObjectiveName.DRESS,
    ObjectiveName.CONTRAST,
    ObjectiveName.ILLUME,
)
TASK: tuple[Any, ...] = (1, "/1.png", "what ?", "a dog")
OTHER: tuple[Any, ...] = (2, "/2.png", "where ?", "here")
ROWS = (
    TrainingRow(*TASK, "it barks", 0.75),
    TrainingRow(*TASK, "it runs"),
    TrainingRow(*OTHER),
)
PAIRS = (
    PreferencePair(*TASK, "it barks", "it is red", PairSource.FITS, 0.5),
    PreferencePair(*TASK, "it runs", "it is red", PairSource.FITS, 0.25),
)
LABELS = (
    LabelledRationale(*TASK, "it barks", True, 0.9, paired=True),
    LabelledRationale(*OTHER, "so", False),
)
SAID = FeedbackExample(*TASK, "it barks", fits=True, condition=Condition(3, critique="short"))
BAD = FeedbackExample(*TASK, "it is red", fits=False, condition=Condition(1, critique="wrong"), weight=0.5)
EXAMPLE = ContrastExample(*TASK, "a dog it is", ("it barks", "it runs"), ("it is red", "it meows"))
EVERYTHING = TrainingSet(1, ROWS, (), "", PAIRS, LABELS, (SAID, BAD), (EXAMPLE,))


def run(**settings: Any) -> RunTerms:
    wanted: dict[str, Any] = {"illume": 0.0, "dress": 0.0, "dpo": 0.0, **settings}
    return run_terms(EVERYTHING, TrainConfig(objectives=ObjectiveSettings(**wanted)))


def told(found: RunTerms, term: Term) -> list[str | None]:
    return [found.texts[row].rationale for row in term.rows]


def test_illumes_rows_are_themselves() -> None:
    found = run(illume=1.0)
    assert [found.texts[term.rows[0]] for term in found.terms] == list(ROWS)
    assert [term.weight for term in found.terms] == [0.75, 1.0, 1.0]
    assert found.new_rows() == [1, 1, 1]
    assert terms_of_rows(ROWS, TrainConfig()).terms == found.terms


@pytest.mark.parametrize(("balance", "weights"), [(0.0, [0.75, 1, 1]), (1.0, [0.375, 0.5, 1])])
def test_a_tasks_rationales_can_share_its_weight(balance: float, weights: list[float]) -> None:
    found = terms_of_rows(ROWS, TrainConfig(task_balance=balance))
    assert [term.weight for term in found.terms] == weights


def test_pairs_have_their_two_sides_and_share_texts() -> None:
    found = run(dpo=1.0)
    assert [told(found, term) for term in found.terms] == [
        ["it barks", "it is red"],
        ["it runs", "it is red"],
    ]
    assert [term.weight for term in found.terms] == [0.5, 0.25]
    assert len(found.texts) == 3
    assert found.new_rows() == [2, 1]


def test_labels_bring_another_tasks_rationale_for_the_baseline() -> None:
    found = run(kto=1.0)
    assert [(told(found, term), term.desirable) for term in found.terms] == [
        (["it barks"], True),
        (["so"], False),
    ]
    wrong = [found.texts[term.mismatch] for term in found.terms if term.mismatch is not None]
    assert [(text.task_id, text.rationale) for text in wrong] == [(1, "so"), (2, "it barks")]
    one_task = run_terms(
        replace(EVERYTHING, labels=LABELS[:1]),
        TrainConfig(objectives=ObjectiveSettings(illume=0, dress=0, dpo=0, kto=1)),
    )
    assert [term.mismatch for term in one_task.terms] == [None]


def test_contrast_has_a_term_for_each_positive() -> None:
    found = run(contrast=0.1)
    assert [told(found, term) for term in found.terms] == [
        ["a dog it is", "it barks", "it is red", "it meows"],
        ["a dog it is", "it runs", "it is red", "it meows"],
    ]
    assert [term.weight for term in found.terms] == [0.5, 0.5]
    assert found.new_rows() == [4, 1]


def test_a_text_of_several_objectives_is_one_text() -> None:
    found = run(illume=1.0, dpo=1.0, kto=1.0, contrast=0.1)
    texts = [(text.task_id, text.rationale) for text in found.texts]
    assert len(set(texts)) == len(texts)
    everywhere = [term.objective for term in found.terms if "it barks" in told(found, term)]
    assert set(everywhere) == {ILLUME, DPO, CONTRAST}, "KTO leaves what is in a pair to DPO"


def test_weight_zero_switches_off() -> None:
    for name in (ILLUME, DPO, KTO, DRESS, CONTRAST):
        assert {term.objective for term in run(**{name: 1.0}).terms} == {name}


def test_feedback_comes_in_one_form_each_epoch() -> None:
    found = run(dress=1.0, drop_critique=0.5, drop_condition=0.3)
    forms = [found.texts[term.rows[0]] for term in found.terms]
    assert [(text.rationale, text.condition) for text in forms if isinstance(text, FeedbackExample)] == [
        ("it barks", Condition(3, critique="short")),
        ("it barks", Condition(3)),
        ("it barks", Condition()),
        ("it is red", Condition(1, critique="wrong")),
        ("it is red", Condition(1)),
    ]
    seen: Counter[int] = Counter()
    for epoch in range(300):
        drawn = found.in_epoch(epoch)
        assert drawn == found.in_epoch(epoch)
        assert len(drawn) == 2
        assert [number < 3 for number in drawn] == [True, False]
        seen.update(drawn)
    assert seen[2] / 300 == pytest.approx(0.3, abs=0.1)
    assert seen[1] / 300 == pytest.approx(0.7 * 0.5, abs=0.1)
    assert seen[4] / 300 == pytest.approx(0.5, abs=0.1)


@given(st.integers(0, 50), st.fractions(0, 1), st.fractions(0, 1))
def test_every_epoch_has_as_many_rows(epoch: int, critique: Any, whole: Any) -> None:
    found = run(
        illume=1,
        dpo=1,
        kto=1,
        dress=1,
        contrast=1,
        drop_critique=float(critique),
        drop_condition=float(whole),
    )
    sizes = found.new_rows()
    assert sum(sizes[number] for number in found.in_epoch(epoch)) == sum(sizes[n] for n in found.in_epoch(0))
    rows = {row for n in found.in_epoch(epoch) for row in found.terms[n].rows}
    assert sum(sizes[number] for number in found.in_epoch(epoch)) == len(rows)
