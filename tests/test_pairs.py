"""Preference pairs: each source, their order of trust, weights, caps; and single labelled rationales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.errors import SettingsError
from illume_plugin.examples import PairSource, PreferencePair
from illume_plugin.identity import wording
from illume_plugin.pairs import PairRules, build_labels, build_pairs
from illume_plugin.self_reward import Agreement, agreement, extremes
from illume_plugin.types import Candidate, CandidateSet, Origin, Preference, Task, Verdict
from illume_plugin.votes import count_votes

F, U = Verdict.FITS, Verdict.UNFIT


def task(task_id: int) -> Task:
    return Task(1, task_id, f"/{task_id}.png", "What is it?", "a dog")


def said(
    text: str, verdict: Verdict = F, annotation_id: int = 1, task_id: int = 1, **more: Any
) -> Preference:
    made = Preference(1, task_id, annotation_id, 7, text, verdict, Origin.CANDIDATE, 1, "v0001")
    return replace(made, **more)


def edited(text: str, original: str, verdict: Verdict = F, annotation_id: int = 1) -> Preference:
    return said(text, verdict, annotation_id, origin=Origin.EDITED, original=original)


def ranked(task_id: int, **ranks: float | None) -> CandidateSet:
    candidates = tuple(Candidate(text, 0.3, 0, rank=rank) for text, rank in ranks.items())
    return CandidateSet(1, task_id, "v0001", "plan", 0, 0.5, candidates)


def short(pairs: tuple[PreferencePair, ...]) -> list[tuple[str, str, str, Any]]:
    return [(pair.chosen, pair.rejected, pair.source.value, pytest.approx(pair.weight)) for pair in pairs]


# -- sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferences", "pairs"),
    [
        ([], []),
        ([said("x")], []),
        ([said("x"), said("y")], []),
        ([said("x", U), said("y", U)], []),
        ([said("x"), said("y", U)], [("x", "y", "fits", 1.0)]),
        # the verdict of the majority, and how large it is on both sides
        (
            [said("x"), said("x", F, 2), said("x", U, 3), said("y", U), said("y", U, 2), said("y", F, 3)],
            [("x", "y", "fits", 4 / 9)],
        ),
        ([said("x"), said("x", U, 2), said("y", U)], []),
        # a star among those that fit
        ([said("x", best=True), said("y")], [("x", "y", "best", 1.0)]),
        (
            [said("x", best=True), said("y"), said("x", F, 2), said("y", F, 2, best=True)],
            [],
        ),
        (
            [said("x", F, k, best=k < 3) for k in (1, 2, 3)]
            + [said("y", F, k, best=k == 3) for k in (1, 2, 3)],
            [("x", "y", "best", 2 / 3)],
        ),
        # two stars more, where both have stars
        ([said("x", helpful=4), said("y", helpful=2)], [("x", "y", "score", 1.0)]),
        ([said("x", helpful=4), said("y", helpful=3)], []),
        ([said("x", helpful=4), said("y")], []),
        ([said("x", helpful=4, honest=2), said("y", helpful=1)], [("x", "y", "score", 1.0)]),
        ([said("x", helpful=3), said("x", F, 2, helpful=4), said("y", F, 3, helpful=2)], []),
        # a change that a person asked for raised the score
        ([said("x", before="y", helpful=3), said("y", helpful=2)], [("x", "y", "refined", 1.0)]),
        ([said("x", before="y", helpful=2), said("y", helpful=2)], []),
        ([said("x", before="y", helpful=1), said("y", helpful=2)], []),
        ([said("x", before="y")], []),
        # a person made one out of the other
        ([edited("x", "y")], [("x", "y", "edited", 1.0)]),
        ([edited("x", "y"), said("y", F, 2), said("y", U, 3)], [("x", "y", "edited", 0.5)]),
        ([edited("x", "y", U)], []),
        ([edited("x", "y"), said("y", F, 2)], []),
        ([edited("Y.", "y")], []),
        ([edited("x", "y"), edited("x", "y", F, 2)], [("x", "y", "edited", 1.0)]),
    ],
)
def test_what_makes_a_pair(preferences: list[Preference], pairs: list[Any]) -> None:
    assert short(build_pairs([task(1)], preferences)) == pairs


def test_a_pair_in_full() -> None:
    (pair,) = build_pairs([task(1)], [said("x"), said("y", U)])
    assert pair == PreferencePair(1, "/1.png", "What is it?", "a dog", "x", "y", PairSource.FITS, 1.0)


@pytest.mark.parametrize(
    ("preferences", "source"),
    [
        # stars say otherwise than ticks: the ticks count
        ([said("x", helpful=1), said("y", U, helpful=4)], "fits"),
        ([said("x", best=True, helpful=1), said("y", helpful=4)], "best"),
        ([said("x", before="y", helpful=4), said("y", helpful=1)], "score"),
        ([edited("x", "y"), said("y", U, 2)], "fits"),
        ([replace(edited("x", "y"), before="y", helpful=3), said("y", F, 2, helpful=2)], "refined"),
    ],
)
def test_of_two_sources_the_more_trusted_one_counts(preferences: list[Preference], source: str) -> None:
    assert [each[:3] for each in short(build_pairs([task(1)], preferences))] == [("x", "y", source)]


def test_all_pairs_of_a_task_share_one_weight() -> None:
    preferences = [said(text) for text in "abcd"] + [said(text, U) for text in "wxyz"]
    pairs = build_pairs([task(1)], preferences)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(g, b) for g in "abcd" for b in "wxyz"}
    assert {pair.weight for pair in pairs} == {1 / 16}


def test_the_most_trusted_pairs_of_a_task_stay_under_the_cap() -> None:
    preferences = [said("a", best=True), said("b"), said("c"), said("z", U)]
    pairs = build_pairs([task(1)], preferences, rules=PairRules(per_task=4))
    assert [pair.source.value for pair in pairs] == ["fits"] * 3 + ["best"]
    assert sum(pair.weight for pair in pairs) == pytest.approx(1.0)


def test_agreement_can_be_left_out() -> None:
    preferences = [said("x"), said("x", F, 2), said("x", U, 3), said("y", U)]
    assert [pair.weight for pair in build_pairs([task(1)], preferences, weigh_agreement=False)] == [1.0]


def test_other_tasks_are_left_out() -> None:
    preferences = [said("x", task_id=2), said("y", U, task_id=2)]
    sets = [ranked(2, x=1.0, y=0.0)]
    assert build_pairs([task(1)], preferences, candidate_sets=sets, negatives={2: ["z"]}) == ()


# -- automatic pairs -------------------------------------------------------------------------------------


def judged(task_id: int, best: Verdict | None, worst: Verdict | None) -> list[Preference]:
    verdicts = (("good", best), ("bad", worst))
    return [said(text, verdict, task_id=task_id) for text, verdict in verdicts if verdict is not None]


@pytest.mark.parametrize(
    ("best", "worst", "agreeing", "compared"),
    [(F, U, 1, 1), (U, F, 0, 1), (F, F, 0, 0), (U, U, 0, 0), (F, None, 0, 0), (None, None, 0, 0)],
)
def test_agreement_of_one_task(best: Any, worst: Any, agreeing: int, compared: int) -> None:
    sets = [ranked(1, Good=1.0, middle=0.5, bad=0.0)]
    assert agreement(sets, count_votes(judged(1, best, worst))) == Agreement(agreeing, compared)


@pytest.mark.parametrize(
    ("ranks", "ends"),
    [
        ({"a": 0.2, "b": 1.0, "c": 0.0}, ("b", "c")),
        ({"a": 1.0, "b": 1.0, "c": 0.5, "d": 0.5}, ("a", "c")),
        ({"a": 0.5, "b": 0.5}, None),
        ({"a": 0.5}, None),
        ({"a": None, "b": 0.5}, None),
        ({}, None),
    ],
)
def test_extremes(ranks: dict[str, float | None], ends: tuple[str, str] | None) -> None:
    assert extremes(ranked(1, **ranks)) == ends


@pytest.mark.parametrize(
    ("agreeing", "compared", "passes"),
    [(13, 20, True), (12, 20, False), (19, 19, False), (65, 100, True), (64, 100, False), (0, 0, False)],
)
def test_the_gate(agreeing: int, compared: int, passes: bool) -> None:
    assert Agreement(agreeing, compared).passes() is passes


@pytest.mark.parametrize(("agreeing", "weight"), [(20, 1.0), (13, 0.65), (12, None), (0, None)])
def test_unjudged_tasks_get_automatic_pairs_while_the_gate_is_open(
    agreeing: int, weight: float | None
) -> None:
    tasks = [task(k) for k in range(21)]
    preferences = [each for k in range(20) for each in judged(k, *((F, U) if k < agreeing else (U, F)))]
    sets = [ranked(k, good=1.0, bad=0.0) for k in range(21)]
    pairs = [p for p in build_pairs(tasks, preferences, candidate_sets=sets) if p.task_id == 20]
    assert short(tuple(pairs)) == ([] if weight is None else [("good", "bad", "csr", weight)])


def test_automatic_pairs_can_be_switched_off() -> None:
    tasks = [task(k) for k in range(21)]
    preferences = [each for k in range(20) for each in judged(k, F, U)]
    sets = [ranked(k, good=1.0, bad=0.0) for k in range(21)]
    pairs = build_pairs(tasks, preferences, candidate_sets=sets, rules=PairRules(automatic=False))
    assert {pair.source for pair in pairs} == {PairSource.FITS}


def test_a_judged_task_gets_no_automatic_pair() -> None:
    tasks = [task(k) for k in range(22)]
    preferences = [each for k in range(20) for each in judged(k, F, U)] + [said("other", task_id=20)]
    sets = [ranked(k, good=1.0, bad=0.0) for k in range(22)]
    pairs = build_pairs(tasks, preferences, candidate_sets=sets)
    assert [pair.task_id for pair in pairs if pair.source is PairSource.CSR] == [21]


# -- negatives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("human", "made"), [(0, 0), (1, 0), (2, 0), (3, 1), (5, 1), (6, 2), (30, 10)])
def test_at_most_a_quarter_of_the_pairs_has_a_negative(human: int, made: int) -> None:
    ids = range(1, human + 1)
    preferences = [each for k in ids for each in (said("x", task_id=k), said("y", U, task_id=k))]
    negatives = {k: ["wrong", "WRONG.", "worse"] for k in ids}
    pairs = build_pairs([task(k) for k in ids], preferences, negatives=negatives)
    found = [pair for pair in pairs if pair.source is PairSource.NEGATIVE]
    assert len(found) == made
    assert all(pair.chosen == "x" and wording(pair.rejected) in {"wrong", "worse"} for pair in found)


def test_a_negative_that_people_judged_is_none() -> None:
    preferences = [each for k in (1, 2, 3) for each in (said("x", task_id=k), said("y", U, task_id=k))]
    negatives = {1: ["Y", "x", " "]}
    pairs = build_pairs([task(k) for k in (1, 2, 3)], preferences, negatives=negatives)
    assert [pair.source for pair in pairs] == [PairSource.FITS] * 3


# -- labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferences", "labels"),
    [
        ([said("x"), said("y")], [("x", True, 1.0, False), ("y", True, 1.0, False)]),
        ([said("x", U)], [("x", False, 1.0, False)]),
        ([said("x"), said("x", U, 2)], []),
        ([said("x"), said("x", U, 2), said("x", U, 3)], [("x", False, pytest.approx(2 / 3), False)]),
        ([said("x"), said("Y.", U)], [("Y.", False, 1.0, True), ("x", True, 1.0, True)]),
    ],
)
def test_labels(preferences: list[Preference], labels: list[Any]) -> None:
    found = build_labels([task(1)], preferences, pairs=build_pairs([task(1)], preferences))
    assert [(each.rationale, each.desirable, each.weight, each.paired) for each in found] == labels


# -- rules and properties --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"negative_share": 1.0},
        {"agreement_gate": 1.1},
        {"score_gap": 0},
        {"per_task": 0},
        {"gate_minimum": 0},
    ],
)
def test_rules_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        PairRules(**wrong)


TEXTS = st.sampled_from(["v", "w", "x", "X.", "y", "z"])
STARS = st.none() | st.integers(1, 4)
PREFERENCES = st.lists(
    st.builds(
        said,
        TEXTS,
        st.sampled_from([F, U]),
        st.integers(1, 4),
        st.integers(1, 4),
        helpful=STARS,
        best=st.booleans(),
        before=TEXTS | st.just(""),
        original=TEXTS | st.just(""),
        origin=st.sampled_from([Origin.CANDIDATE, Origin.EDITED]),
    ),
    max_size=30,
)
SETS = st.lists(st.builds(ranked, st.integers(1, 4), w=st.floats(0, 1), x=st.floats(0, 1)), max_size=5)
EASY = PairRules(gate_minimum=1, per_task=3)


@settings(deadline=None)
@given(PREFERENCES, SETS, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(
    preferences: list[Preference], sets: list[CandidateSet], random: Any
) -> None:
    tasks = [task(k) for k in (1, 2, 3)]
    negatives = {k: ["wrong", "worse"] for k in (1, 2, 3)}
    one = build_pairs(tasks, preferences, candidate_sets=sets, negatives=negatives, rules=EASY)
    preferences, turned = preferences + preferences[:5], dict(reversed(negatives.items()))
    for each in (tasks, preferences):
        random.shuffle(each)
    assert build_pairs(tasks, preferences, candidate_sets=sets, negatives=turned, rules=EASY) == one


@settings(deadline=None)
@given(PREFERENCES, SETS)
def test_what_holds_for_all_pairs(preferences: list[Preference], sets: list[CandidateSet]) -> None:
    tasks = [task(k) for k in (1, 2, 3)]
    pairs = build_pairs(
        tasks, preferences, candidate_sets=sets, negatives={1: ["wrong", "worse"]}, rules=EASY
    )
    keys = [(pair.task_id, frozenset({wording(pair.chosen), wording(pair.rejected)})) for pair in pairs]
    assert len(set(keys)) == len(keys)
    assert all(len(both) == 2 for _, both in keys)
    made = [pair for pair in pairs if pair.source is PairSource.NEGATIVE]
    assert len(made) <= 0.25 * len(pairs)
    for task_id in (1, 2, 3):
        of_task = [pair for pair in pairs if pair.task_id == task_id]
        assert len([pair for pair in of_task if pair not in made]) <= 3
        assert sum(pair.weight for pair in of_task) <= 1 + 1e-9
    assert all(pair.task_id in {1, 2, 3} and pair.weight > 0 for pair in pairs)
