"""Rationales weighed by what they owe to the picture: the arithmetic, where i2c comes from, what is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.plan import sentences
from illume_plugin.dataset import build_training_set, content_of, is_held_out
from illume_plugin.training import RunSpec, TrainConfig, read_spec, write_spec
from illume_plugin.training.content_weights import ContentWeights, weighed_by_content
from illume_plugin.training.estimate import work_of
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.training.terms import run_terms
from illume_plugin.types import (
    Candidate,
    CandidateSet,
    Origin,
    Preference,
    Task,
    TrainingRow,
    TrainingSet,
    Verdict,
)

ON = TrainConfig(objectives=ObjectiveSettings(weigh_content=True))
TASKS = [k for k in range(20) if not is_held_out(Task(1, k, f"/{k}.png", "q", "a"))][:3]


def row(
    i2c: float | None, rationale: str | None = "it barks", *, weight: float = 1.0, number: int = 1
) -> TrainingRow:
    return TrainingRow(number, f"/{number}.png", "q", "a", rationale, weight, i2c)


def a_set(*rows: TrainingRow) -> TrainingSet:
    return TrainingSet(1, rows, held_out=(), content_hash="abc")


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        # median of 0.2, 0.4, 0.8, 2.0 is 0.6; 0.2 / 0.6 is below the least, 2.0 / 0.6 above the most
        ([0.2, 0.4, 0.8, 2.0, None], [0.5, 2 / 3, 4 / 3, 2.0, 1.0]),
        ([0.3], [1.0]),
        ([None, None], [1.0, 1.0]),
        ([0.0, 0.0, 5.0], [1.0, 1.0, 1.0]),  # a median of 0 tells nothing
        ([0.1, math.nan, 0.3], [0.5, 1.0, 1.5]),
        ([], []),
    ],
)
def test_a_weight_is_i2c_over_its_median_within_limits(
    given: list[float | None], weights: list[float]
) -> None:
    found = weighed_by_content([row(i2c) for i2c in given])
    assert [each.weight for each in found] == pytest.approx(weights)


def test_it_multiplies_agreement_and_leaves_answers_alone() -> None:
    rows = [row(0.2, weight=1.0), row(0.6, weight=0.5), row(None, None), row(9.9, None)]
    assert [each.weight for each in weighed_by_content(rows)] == pytest.approx([0.5, 0.75, 1.0, 1.0])
    assert ContentWeights.of(rows) == ContentWeights(pytest.approx(0.4), known=2, accepted=2)


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=12), st.randoms())
def test_whatever_the_order_no_rationale_counts_more_than_four_times_another(
    given: list[float | None], chance: object
) -> None:
    rows = [row(i2c, f"text {number}") for number, i2c in enumerate(given)]
    found = {each.rationale: each.weight for each in weighed_by_content(rows)}
    assert all(0.5 <= weight <= 2 for weight in found.values())
    chance.shuffle(rows)  # type: ignore[attr-defined]
    assert {each.rationale: each.weight for each in weighed_by_content(rows)} == found


@pytest.mark.torch
def test_the_loss_by_hand() -> None:
    """Rationales of one token, -log p of 1 and 3, weights 0.5 and 0.75: (0.5 + 2.25) / 1.25 = 2.2."""
    torch = pytest.importorskip("torch")
    from illume_plugin.training.objectives.illume import illume_loss, token_counts

    rows = weighed_by_content([row(0.2, weight=1.0), row(0.6, weight=0.5)])
    weights = torch.tensor([each.weight for each in rows])
    answer = torch.tensor([[True, False], [True, False]])
    totals = token_counts(answer, ~answer, weights)
    logps = torch.tensor([[-0.5, -1.0], [-1.5, -3.0]])
    loss, told = illume_loss(logps, answer, ~answer, weights, totals=totals, w=10.0)
    assert float(told["rationale_ce"]) == pytest.approx(2.2)
    assert float(loss) == pytest.approx(1.0 + 10 * 2.2)


def test_a_run_weighs_only_where_it_is_asked_to() -> None:
    rows = [row(0.2), row(0.6, number=2), row(0.2, "it barks", number=1)]
    on, off = run_terms(a_set(*rows), ON), run_terms(a_set(*rows), TrainConfig())
    assert [term.weight for term in on.terms] == pytest.approx([1.0, 2.0, 1.0])
    assert [term.weight for term in off.terms] == [1.0, 1.0, 1.0]
    assert len(on.texts) == 2, "the same text with another i2c is the same text"


def test_task_balance_comes_on_top() -> None:
    rows = [row(0.1, "one"), row(0.3, "two"), row(0.2, "three", number=2)]
    both = replace(ON, task_balance=1.0)
    assert [term.weight for term in run_terms(a_set(*rows), both).terms] == pytest.approx([0.25, 0.75, 1.0])


def ticked(task_id: int, text: str) -> Preference:
    return Preference(1, task_id, task_id, 7, text, Verdict.FITS, Origin.CANDIDATE, 1, "v0001")


def candidates(task_id: int, i2c: float | None, *texts: str, project_id: int = 1) -> CandidateSet:
    drawn = tuple(Candidate(text, 0.3, 1, i2c=i2c) for text in texts)
    return CandidateSet(project_id, task_id, "v0001", "plan", 1, 0.5, drawn)


def built(*, weigh_content: bool, sets: list[CandidateSet]) -> TrainingSet:
    tasks = [Task(1, k, f"/{k}.png", "q", "a") for k in TASKS]
    said = [ticked(TASKS[0], "It barks."), ticked(TASKS[1], "it sleeps"), ticked(TASKS[2], "it eats")]
    return build_training_set(1, tasks, said, candidate_sets=sets, weigh_content=weigh_content)


def test_i2c_is_that_of_the_candidate_in_whatever_spelling() -> None:
    sets = [
        candidates(TASKS[0], 0.1, "it  BARKS"),
        candidates(TASKS[0], 0.4, "it barks", "it sleeps"),  # made later
        candidates(TASKS[1], 0.9, "it sleeps", project_id=2),
        candidates(TASKS[2], None, "it eats"),
    ]
    found = {each.task_id: each.i2c for each in built(weigh_content=True, sets=sets).rows}
    assert found == {TASKS[0]: 0.4, TASKS[1]: None, TASKS[2]: None}
    assert all(each.i2c is None for each in built(weigh_content=False, sets=sets).rows)


def test_a_set_that_does_not_weigh_has_the_hash_that_it_always_had() -> None:
    sets = [candidates(TASKS[0], 0.4, "it barks")]
    off, on = built(weigh_content=False, sets=sets), built(weigh_content=True, sets=sets)
    assert off.content_hash == built(weigh_content=True, sets=[]).content_hash != on.content_hash
    assert all("i2c" not in each for each in content_of(off)["rows"])
    assert [each.get("i2c") for each in content_of(on)["rows"]] == [0.4, None, None]


def test_a_run_is_given_it(tmp_path: Path) -> None:
    spec = RunSpec("base", None, "v0000", a_set(row(0.3)), {"/1.png": "1.png"}, ON)
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec


@pytest.mark.parametrize(
    ("rows", "config", "told"),
    [
        (
            [row(0.2), row(0.6, number=2), row(None, number=3)],
            ON,
            "Rationales count by what they owe to the picture, i2c over its median 0.4, from 0.5 to 2 times: "
            "2 of 3 have one.",
        ),
        (
            [row(None)],
            ON,
            "Rationales are not weighed by content: none of them has an i2c (ILLUME_SCORE_BLIND).",
        ),
        ([row(0.2)], TrainConfig(), None),
        (
            [row(0.2)],
            TrainConfig(objectives=ObjectiveSettings(illume=0, kto=1, weigh_content=True)),
            None,
        ),
    ],
)
def test_the_dry_run_tells_it(rows: list[TrainingRow], config: TrainConfig, told: str | None) -> None:
    training_set = a_set(*rows)
    lines = list(sentences(training_set, work_of(training_set, config), config))
    assert [line for line in lines if line.startswith("Rationales")] == ([told] if told else [])
