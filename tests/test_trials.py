"""Trials as a pure matter: what is shown, what counts, what it decides; simulated blind tests."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.contrast import build_contrast
from illume_plugin.errors import SettingsError
from illume_plugin.gate import decide
from illume_plugin.gate_policy import BlindPolicy, GatePolicy, parse_policy
from illume_plugin.identity import wording
from illume_plugin.label_config import parse_label_config
from illume_plugin.lineage import said as said_in_all
from illume_plugin.predictions import arrange, check_prediction, render_prediction
from illume_plugin.preferences import preferences_of
from illume_plugin.self_reward import extremes
from illume_plugin.sequential import Comparison, Limits, Outcome
from illume_plugin.trials import (
    JudgedTask,
    Ticks,
    figures,
    in_words,
    judged_tasks,
    mix,
    mixed_plan,
    read_figures,
    verdict,
)
from illume_plugin.types import (
    Annotation,
    Candidate,
    CandidateSet,
    EvaluationReport,
    GateDecision,
    GateVerdict,
    Metric,
    Origin,
    Preference,
    Task,
    Verdict,
)
from label_config import read

ACTIVE, CHALLENGER = "v0003", "v0004"
VERSIONS = (ACTIVE, CHALLENGER)
CONFIG = parse_label_config(read("select"))
SLOTS = 6
REPEATS = 100
WORDS = st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=8)


def written(*texts: str) -> list[Candidate]:
    return [Candidate(f"It is {text}.", 0.7, n, logprob_mean=-1.0 - n / 10) for n, text in enumerate(texts)]


def by_text(shown: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
    return {each.text: each.versions for each in shown}


# -- what is shown --------------------------------------------------------------------------------------


def test_both_give_equally_many_of_their_best() -> None:
    shown = mix(written(*"abcdef"), written(*"ghijkl"), VERSIONS, SLOTS)
    assert by_text(shown) == {f"It is {x}.": (ACTIVE,) for x in "abc"} | {
        f"It is {x}.": (CHALLENGER,) for x in "ghi"
    }


def test_what_both_wrote_is_shown_once_and_counts_for_both() -> None:
    shown = by_text(mix(written(*"abcdef"), written(*"bahijk"), VERSIONS, SLOTS))
    assert shown == {"It is a.": VERSIONS, "It is b.": VERSIONS} | {
        "It is c.": (ACTIVE,),
        "It is d.": (ACTIVE,),
        "It is h.": (CHALLENGER,),
        "It is i.": (CHALLENGER,),
    }


@pytest.mark.parametrize("swapped", [False, True])
def test_spellings_of_one_text_are_one_and_which_is_shown_depends_on_no_version(swapped: bool) -> None:
    one, other = [Candidate("A colour is seen.", 0.7, 1)], [Candidate("the color is seen", 0.7, 2)]
    shown = mix(*((other, one) if swapped else (one, other)), VERSIONS, SLOTS)
    assert by_text(shown) == {"A colour is seen.": VERSIONS}


@given(WORDS, WORDS, st.integers(1, 10))
def test_a_mix_is_fair(ours: list[str], theirs: list[str], slots: int) -> None:
    shown = mix(written(*ours), written(*theirs), VERSIONS, slots)
    counts = [sum(version in each.versions for each in shown) for version in VERSIONS]
    assert len(shown) <= slots
    assert len({wording(each.text) for each in shown}) == len(shown)
    alone = not ours or not theirs or (slots == 1 and ours[0] != theirs[0])
    assert min(counts) == 0 if alone else counts[0] == counts[1] > 0
    for version, texts in zip(VERSIONS, (ours, theirs), strict=True):
        best = {f"It is {text}." for text in texts[: counts[VERSIONS.index(version)]]}
        assert {each.text for each in shown if version in each.versions} == best


@given(WORDS, WORDS)
def test_a_mix_is_as_large_as_the_rows_allow(ours: list[str], theirs: list[str]) -> None:
    shown = mix(written(*ours), written(*theirs), VERSIONS, SLOTS)
    k = sum(ACTIVE in each.versions for each in shown)
    if k and k < min(len(ours), len(theirs)):
        assert len({*ours[: k + 1], *theirs[: k + 1]}) > SLOTS


def shown_set(task_id: int, shown: Sequence[Candidate]) -> CandidateSet:
    plan = mixed_plan("plan", CHALLENGER)
    return arrange(shown, project_id=1, task_id=task_id, version=ACTIVE, plan=plan, limit=SLOTS)


@given(st.integers(1, 10_000))
def test_the_order_owes_nothing_to_who_wrote_what(task_id: int) -> None:
    shown = mix(written(*"abcdef"), written(*"ghijkl"), VERSIONS, SLOTS)
    swapped = [replace(each, versions=(VERSIONS[each.versions == (ACTIVE,)],)) for each in shown]
    assert shown_set(task_id, shown).texts == shown_set(task_id, swapped).texts


def test_over_many_tasks_the_challenger_stands_in_every_row() -> None:
    shown = mix(written(*"abcdef"), written(*"ghijkl"), VERSIONS, SLOTS)
    sets = [shown_set(task_id, shown) for task_id in range(1, 601)]
    for row in range(SLOTS):
        theirs = sum(one.candidates[row].versions == (CHALLENGER,) for one in sets)
        assert 240 < theirs < 360


def test_nothing_on_the_screen_differs_and_the_provenance_travels_along() -> None:
    found = shown_set(7, mix(written(*"abcd"), written(*"aefg"), VERSIONS, SLOTS))
    told = render_prediction(CONFIG, found)
    plain = render_prediction(
        CONFIG, replace(found, candidates=tuple(replace(each, versions=()) for each in found.candidates))
    )
    assert check_prediction(CONFIG, told) == []
    provenance = told["result"][0]["meta"]["illume"]
    assert provenance.pop("versions") == [list(each.versions) for each in found.candidates]
    assert told == plain, "but for this list it is what it would be without a trial"
    assert told["model_version"] == ACTIVE


def ranked(rank: float, *texts: str) -> list[Candidate]:
    """Candidates whose ranks fall from `rank` on; the ones of the other adapter have no common scale."""
    return [replace(each, rank=rank - n / 10) for n, each in enumerate(written(*texts))]


def test_ranks_of_two_adapters_are_not_compared() -> None:
    shown = mix(ranked(0.9, "a", "b", "s"), ranked(1.0, "x", "s", "y"), VERSIONS, SLOTS)
    assert {each.versions for each in shown} == {(ACTIVE,), (CHALLENGER,), VERSIONS}
    mixed = arrange(shown, project_id=1, task_id=1, version=ACTIVE, plan="p")
    assert {each.text for each in mixed.own} == {"It is a.", "It is b."}
    assert extremes(mixed) == ("It is a.", "It is b."), "neither the challenger's best nor what both wrote"
    alone = arrange(ranked(0.9, "a", "b", "s"), project_id=1, task_id=1, version=ACTIVE, plan="p")
    assert alone.own == alone.candidates
    assert extremes(alone) == ("It is a.", "It is s.")
    (contrasted,) = build_contrast(
        [Task(1, 1, "/1.png", "q", "a")],
        [_said("It is x.", Verdict.FITS), _said("It is b.", Verdict.UNFIT)],
        [mixed],
    )
    assert contrasted.anchor == "It is a.", "what the version itself says"


def _said(text: str, verdict: Verdict) -> Preference:
    return Preference(1, 1, 1, 1, text, verdict, Origin.CANDIDATE, 1, ACTIVE)


def test_a_trial_has_sets_of_its_own() -> None:
    assert (
        len({"plan", mixed_plan("plan", "v0004"), mixed_plan("plan", "v0005"), mixed_plan("p", "v0004")}) == 4
    )


# -- what comes back ------------------------------------------------------------------------------------


def annotated(
    task_id: int,
    shown: CandidateSet,
    ticks: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    number: int = 0,
) -> Annotation:
    """As a person submits it: texts as they stand on the screen, ticks by text."""
    region = render_prediction(CONFIG, shown)["result"][0]
    on_screen = list(texts or shown.texts)
    chosen = [f"c{on_screen.index(text) + 1}" for text in ticks] or ["none"]
    result = (
        {**region, "value": {"text": on_screen}},
        {"from_name": "fits", "to_name": "image", "type": "choices", "value": {"choices": chosen}},
    )
    return Annotation(
        1, number or 100 + task_id, task_id, "2026-11-22T00:00:00.000000Z", False, 1, 1.0, result
    )


def test_who_wrote_a_rationale_is_read_from_the_annotation() -> None:
    found = shown_set(1, mix(written(*"ab"), written(*"ac"), VERSIONS, SLOTS))
    read_back = {each.text: each for each in preferences_of(annotated(1, found, ["It is c."]))}
    assert (read_back["It is a."].version, read_back["It is a."].shared_with) == VERSIONS
    assert (read_back["It is b."].version, read_back["It is b."].shared_with) == (ACTIVE, None)
    assert (read_back["It is c."].version, read_back["It is c."].shared_with) == (CHALLENGER, None)
    assert read_back["It is c."].verdict is Verdict.FITS


def test_an_edited_row_keeps_its_writer_and_did_not_fit_as_drawn() -> None:
    found = shown_set(1, mix(written("a"), written("b"), VERSIONS, SLOTS))
    texts = ["It is bright." if text == "It is b." else text for text in found.texts]
    said = preferences_of(annotated(1, found, ["It is bright.", "It is a."], texts=texts))
    (edited,) = (each for each in said if each.origin is Origin.EDITED)
    assert edited.version == CHALLENGER
    assert judged_tasks(said, active=ACTIVE, challenger=CHALLENGER) == [
        JudgedTask(1, 101, Ticks(1, 1), Ticks(1, 0))
    ]


def test_where_a_row_was_taken_away_the_texts_tell() -> None:
    found = shown_set(1, mix(written(*"ab"), written(*"cd"), VERSIONS, SLOTS))
    texts = found.texts[1:]
    said = {each.text: each.version for each in preferences_of(annotated(1, found, [texts[0]], texts=texts))}
    wrote = {each.text: each.versions[0] for each in found.candidates}
    assert said == {text: wrote[text] for text in texts}


@pytest.mark.parametrize("nonsense", ["v0004", [], [["v0004"]], [7] * 4, [[]] * 4, [[None, 3]] * 4, [{}] * 4])
def test_a_provenance_of_unexpected_shape_names_nobody_else(nonsense: object) -> None:
    found = shown_set(1, mix(written(*"ab"), written(*"cd"), VERSIONS, SLOTS))
    annotation = annotated(1, found, [found.texts[0]])
    annotation.result[0]["meta"]["illume"]["versions"] = nonsense
    said = preferences_of(annotation)
    assert len(said) == 4
    assert all(each.shared_with is None and each.version in (None, ACTIVE) for each in said)


# -- what counts ----------------------------------------------------------------------------------------


def said(
    task_id: int, version: str | None, verdict: Verdict, annotation: int = 0, **fields: object
) -> Preference:
    given = {"origin": Origin.CANDIDATE, "position": 1, **fields}
    return Preference(1, task_id, annotation or 100 + task_id, 1, "x", verdict, version=version, **given)  # type: ignore[arg-type]


def counted(*preferences: Preference) -> list[JudgedTask]:
    return judged_tasks(preferences, active=ACTIVE, challenger=CHALLENGER)


FITS, UNFIT = Verdict.FITS, Verdict.UNFIT
PAIR = (said(1, ACTIVE, UNFIT), said(1, CHALLENGER, FITS))


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ((), [JudgedTask(1, 101, Ticks(1, 0), Ticks(1, 1))]),
        ((said(1, ACTIVE, FITS, shared_with=CHALLENGER),), [JudgedTask(1, 101, Ticks(2, 1), Ticks(2, 2))]),
        ((said(1, None, FITS, origin=Origin.OWN),), [JudgedTask(1, 101, Ticks(1, 0), Ticks(1, 1))]),
        ((said(1, ACTIVE, FITS, turn=2),), [JudgedTask(1, 101, Ticks(1, 0), Ticks(1, 1))]),
        ((said(1, "v0001", FITS),), [JudgedTask(1, 101, Ticks(1, 0), Ticks(1, 1))]),
        ((said(1, ACTIVE, FITS, origin=Origin.EDITED),), [JudgedTask(1, 101, Ticks(2, 0), Ticks(1, 1))]),
    ],
    ids=["both", "shared", "own", "a later round", "another version", "edited"],
)
def test_what_counts(others: tuple[Preference, ...], found: list[JudgedTask]) -> None:
    assert counted(*PAIR, *others) == found


def test_a_task_counts_once_by_its_first_annotation_of_both() -> None:
    plain = [said(1, ACTIVE, FITS, annotation=50), said(1, ACTIVE, FITS, annotation=50)]
    second = [said(1, ACTIVE, FITS, annotation=300), said(1, CHALLENGER, UNFIT, annotation=300)]
    other = [said(2, ACTIVE, FITS, annotation=200), said(2, CHALLENGER, UNFIT, annotation=200)]
    assert [one.annotation_id for one in counted(*second, *plain, *PAIR, *other)] == [101, 200]
    assert [one.annotation_id for one in counted(*second, *plain, *other)] == [200, 300], "it was deleted"


TASK = st.tuples(st.integers(0, 3), st.integers(0, 3))
JUDGED = st.lists(st.tuples(TASK, TASK), max_size=40)


def preferences_for(tasks: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> list[Preference]:
    """Of each task (candidates that fit, that do not) of the active and of the challenger."""
    rows = []
    for task_id, sides in enumerate(tasks, start=1):
        for version, (fit, unfit) in zip(VERSIONS, sides, strict=True):
            rows += [said(task_id, version, FITS)] * fit + [said(task_id, version, UNFIT)] * unfit
    return rows


@given(JUDGED, st.randoms(use_true_random=False))
def test_any_order_and_any_loss_and_return_give_the_same_state(
    tasks: list[tuple[tuple[int, int], tuple[int, int]]], rng: random.Random
) -> None:
    rows = preferences_for(tasks)
    shuffled = rng.sample(rows, len(rows))
    assert counted(*shuffled) == counted(*rows)
    assert figures(counted(*shuffled), Limits()) == figures(counted(*rows), Limits())


@given(JUDGED, st.sampled_from([Limits(), Limits(0.4, 12)]))
def test_figures_come_back_from_what_is_kept_of_them(
    tasks: list[tuple[tuple[int, int], tuple[int, int]]], limits: Limits
) -> None:
    found = figures(counted(*preferences_for(tasks)), limits)
    assert read_figures(asdict(found)) == found
    assert found.tasks <= limits.most_tasks
    assert (found.active is None) == (found.tasks == 0)
    assert found.low <= found.difference + 1e-5
    assert in_words(found)


def test_who_else_wrote_a_text_is_no_change_of_what_somebody_said() -> None:
    alone = [said(1, ACTIVE, FITS), said(1, CHALLENGER, UNFIT)]
    shared = [replace(each, shared_with="v0009") for each in alone]
    assert said_in_all(shared) == said_in_all(alone)
    assert said_in_all(alone[:1]) != said_in_all(alone)


# -- what it decides: simulated blind tests ------------------------------------------------------------


def blind_stream(
    active: float, challenger: float, seed: int, *, alike: float = 0.3
) -> Iterator[list[Preference]]:
    """People judge what two adapters wrote, task by task; how easy a task is moves both.

    Args:
        active, challenger: chance that a candidate of each fits.
        alike: share of tasks on which both write one of their candidates in the same words.
    """
    rng = random.Random(seed)
    for task_id in count(1):
        ease = rng.uniform(-0.2, 0.2)
        chances = [rate + ease for rate in (active, challenger)]
        both = rng.random() < alike
        fits = rng.random() < sum(chances) / 2
        rows = [said(task_id, ACTIVE, FITS if fits else UNFIT, shared_with=CHALLENGER)] if both else []
        for version, chance in zip(VERSIONS, chances, strict=True):
            ticks = [rng.random() < chance for _ in range(2 if both else 3)]
            rows += [said(task_id, version, FITS if ticked else UNFIT) for ticked in ticks]
        yield rows


def decided(active: float, challenger: float, seed: int) -> Outcome:
    """The verdict of a trial, people's ticks being all that it sees."""
    known = Comparison()
    for rows in blind_stream(active, challenger, seed):
        (task,) = counted(*rows)
        if known.add(task.difference) is not Outcome.OPEN:
            break
    return known.outcome


@pytest.mark.parametrize("active", [0.3, 0.6])
def test_ten_points_better_is_found_in_95_of_100(active: float) -> None:
    found = [decided(active, active + 0.1, seed) for seed in range(REPEATS)]
    assert found.count(Outcome.BETTER) >= 95


def test_ten_points_worse_is_found_in_95_of_100_and_never_promoted() -> None:
    found = [decided(0.6, 0.5, seed) for seed in range(REPEATS)]
    assert found.count(Outcome.WORSE) >= 95
    assert found.count(Outcome.BETTER) == 0


@pytest.mark.parametrize("challenger", [0.5, 0.48])
def test_what_is_no_better_is_promoted_in_5_of_100_at_most(challenger: float) -> None:
    found = [decided(0.5, challenger, seed) for seed in range(REPEATS)]
    assert found.count(Outcome.BETTER) <= 5


def test_a_verdict_on_the_whole_is_the_one_on_the_way() -> None:
    tasks = [task for rows in islice(blind_stream(0.4, 0.7, seed=1), 200) for task in counted(*rows)]
    known = verdict(tasks, Limits())
    assert known.outcome is Outcome.BETTER
    assert known.tasks < 200, "what was judged after it changes nothing"
    assert verdict(tasks[: known.tasks - 1], Limits()).outcome is Outcome.OPEN
    assert figures(tasks, Limits()).tasks == known.tasks


# -- the policy -----------------------------------------------------------------------------------------

PROMOTE = GateDecision(GateVerdict.PROMOTE, ())
THIN, WORSE = GateDecision(GateVerdict.HOLD, (), thin=True), GateDecision(GateVerdict.HOLD, ())


@pytest.mark.parametrize(
    ("policy", "tried"),
    [
        (BlindPolicy(), []),
        (BlindPolicy(held=True), []),
        (BlindPolicy(enabled=True), [PROMOTE]),
        (BlindPolicy(enabled=True, held=True), [PROMOTE, THIN]),
    ],
)
def test_what_goes_on_trial(policy: BlindPolicy, tried: list[GateDecision]) -> None:
    assert [each for each in (PROMOTE, THIN, WORSE) if policy.tries(each)] == tried


def measured(version: str, right: int, n: int) -> EvaluationReport:
    """A report on n held-out tasks; of the others' answers as many as of its own rationales are right."""
    outcomes = tuple([1.0] * right + [0.0] * (n - right))
    metric = Metric(right / n, 0.0, 1.0, n)
    names = ("preference_accuracy", "answer_accuracy")
    return EvaluationReport(version, "hash", dict.fromkeys(names, metric), dict.fromkeys(names, outcomes))


@pytest.mark.parametrize(
    ("active", "challenger", "verdict", "thin"),
    [
        (measured(ACTIVE, 20, 30), measured(CHALLENGER, 28, 30), GateVerdict.PROMOTE, False),
        (measured(ACTIVE, 3, 4), measured(CHALLENGER, 4, 4), GateVerdict.HOLD, True),
        (measured(ACTIVE, 16, 30), measured(CHALLENGER, 16, 30), GateVerdict.HOLD, True),
        (measured(ACTIVE, 29, 30), measured(CHALLENGER, 16, 30), GateVerdict.HOLD, False),
    ],
    ids=["better", "four tasks", "no better than a coin", "worse"],
)
def test_the_gate_tells_when_evidence_is_all_that_lacks(
    active: EvaluationReport, challenger: EvaluationReport, verdict: GateVerdict, thin: bool
) -> None:
    found = decide(active, challenger)
    assert (found.verdict, found.thin) == (verdict, thin)


def test_the_blind_gate_is_a_table_of_the_policy() -> None:
    text = "alpha = 0.1\n[blind]\nenabled = true\nmost_tasks = 300\n"
    assert parse_policy(text) == GatePolicy(alpha=0.1, blind=BlindPolicy(enabled=True, most_tasks=300))
    assert parse_policy("") == GatePolicy()
    assert BlindPolicy(most_tasks=300).limits == Limits(0.05, 300)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("blind = true", r"must be a table"),
        ("[blind]\nenabled = 1", "enabled of the gate policy is 1; it must be true or false"),
        ("[blind]\nalpha = 0", r"alpha must be in \(0, 1\)"),
        ("[blind]\nmost_tasks = 0", "most_tasks at least 1"),
        ("[blind]\nsides = 2", "no limit 'sides'"),
        ("sides = 2\n[blind]\nenabled = 1", "no limit 'sides'.*enabled"),
    ],
)
def test_a_blind_gate_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        parse_policy(text)
