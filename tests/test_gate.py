"""The gate, against hand arithmetic: sign tests of small counts are powers of two."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.gate import decide, sign_test
from illume_plugin.gate_policy import GatePolicy
from illume_plugin.types import EvaluationReport, GateVerdict, Metric

PROMOTE, HOLD = GateVerdict.PROMOTE, GateVerdict.HOLD

#: Compares and asks for nothing else: what evidence is asked for has tests of its own below.
COMPARE = GatePolicy(least_items=0, above_chance=False)


def report(
    version: str, outcomes: dict[str, list[float]], training_set: str = "t", **flags: Any
) -> EvaluationReport:
    """A report whose metrics are the means of its outcomes."""
    metrics = {
        name: Metric(sum(items) / len(items), 0.0, 1.0, len(items), **flags)
        for name, items in outcomes.items()
    }
    return EvaluationReport(version, training_set, metrics, {name: tuple(x) for name, x in outcomes.items()})


def bare(version: str, **metrics: Metric) -> EvaluationReport:
    """A report without outcomes."""
    return EvaluationReport(version, "t", metrics)


def flips(better: int, worse: int, same: int = 0) -> tuple[list[float], list[float]]:
    """0/1 outcomes before and after, with so many changes for the better and the worse."""
    before = [0.0] * better + [1.0] * worse + [1.0] * same
    after = [1.0] * better + [0.0] * worse + [1.0] * same
    return before, after


@pytest.mark.parametrize(
    ("worse", "better", "p"),
    [
        (0, 0, 1.0),
        (0, 5, 1.0),
        (1, 0, 1 / 2),
        (4, 0, 1 / 16),
        (5, 0, 1 / 32),
        (4, 1, 6 / 32),
        (3, 3, 42 / 64),
        (7, 1, 9 / 256),
        (8, 2, 56 / 1024),
        (9, 2, 67 / 2048),
    ],
)
def test_sign_test(worse: int, better: int, p: float) -> None:
    assert sign_test(worse, better) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_test_agrees_with_the_plain_sum(worse: int, better: int) -> None:
    n = worse + better
    plain = sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n
    assert sign_test(worse, better) == pytest.approx(plain, rel=1e-12)


def test_sign_test_of_many_items() -> None:
    assert sign_test(1500, 1500) == pytest.approx(0.507, abs=1e-3)
    assert sign_test(3000, 0) == pytest.approx(0.0, abs=1e-300)


@pytest.mark.parametrize(
    ("better", "worse", "same", "verdict"),
    [
        (0, 0, 30, PROMOTE),
        (5, 0, 0, PROMOTE),
        (0, 4, 30, PROMOTE),  # p = 1/16
        (0, 5, 30, HOLD),  # p = 1/32
        (1, 6, 0, PROMOTE),  # p = 8/128
        (1, 7, 0, HOLD),  # p = 9/256
        (2, 8, 0, PROMOTE),  # p = 56/1024
        (2, 9, 0, HOLD),  # p = 67/2048
        (7, 1, 0, PROMOTE),
    ],
)
@pytest.mark.parametrize("name", ["preference_accuracy", "answer_accuracy"])
def test_paired_outcomes(name: str, better: int, worse: int, same: int, verdict: GateVerdict) -> None:
    before, after = flips(better, worse, same)
    decision = decide(report("v0001", {name: before}), report("v0002", {name: after}), COMPARE)
    assert decision.verdict is verdict
    assert f"({better} better, {worse} worse)" in decision.reasons[0]


@pytest.mark.parametrize(("loss", "verdict"), [(-0.01, HOLD), (0.0, PROMOTE), (0.01, PROMOTE)])
def test_continuous_outcomes(loss: float, verdict: GateVerdict) -> None:
    before = [-1.0, -2.0, -1.5, -3.0, -0.5, -1.1]
    after = [value + loss for value in before]
    decision = decide(
        report("v0001", {"preference_accuracy": before}),
        report("v0002", {"preference_accuracy": after}),
        COMPARE,
    )
    assert decision.verdict is verdict


@pytest.mark.parametrize(("change", "verdict"), [(0.1, HOLD), (-0.1, PROMOTE)])
def test_where_lower_is_better(change: float, verdict: GateVerdict) -> None:
    before = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    after = [value + change for value in before]
    a, b = (
        report(version, {"perplexity": items}, higher_is_better=False)
        for version, items in (("v0001", before), ("v0002", after))
    )
    assert decide(a, b, COMPARE).verdict is verdict


@pytest.mark.parametrize(
    ("n", "before", "after", "verdict"),
    [
        (100, 0.90, 0.89, PROMOTE),  # one point exactly is let through
        (100, 0.90, 0.88, HOLD),
        (99, 0.90, 0.70, PROMOTE),  # too few items for the share to count
        (1000, 0.90, 0.889, HOLD),
        (1000, 0.90, 0.95, PROMOTE),
    ],
)
def test_the_limit_on_answer_accuracy(n: int, before: float, after: float, verdict: GateVerdict) -> None:
    a, b = (
        bare(version, answer_accuracy=Metric(value, 0.0, 1.0, n))
        for version, value in (("v0001", before), ("v0002", after))
    )
    decision = decide(a, b, COMPARE)
    assert decision.verdict is verdict
    if verdict is HOLD:
        assert decision.reasons[0].endswith("a fall of more than 0.01.")


def test_only_answer_accuracy_has_that_limit() -> None:
    a, b = (
        bare(version, preference_accuracy=Metric(value, 0.0, 1.0, 500))
        for version, value in (("v0001", 0.9), ("v0002", 0.8))
    )
    assert decide(a, b, COMPARE).verdict is PROMOTE


@pytest.mark.parametrize(
    ("after", "lower_is_better", "verdict"),
    [
        (Metric(0.5, 0.45, 0.59, 80), False, HOLD),
        (Metric(0.5, 0.45, 0.61, 80), False, PROMOTE),
        (Metric(0.9, 0.85, 0.95, 80), False, PROMOTE),
        (Metric(0.9, 0.81, 0.95, 80), True, HOLD),
        (Metric(0.5, 0.45, 0.59, 80), True, PROMOTE),
    ],
)
def test_without_outcomes_the_intervals_are_compared(
    after: Metric, lower_is_better: bool, verdict: GateVerdict
) -> None:
    before = Metric(0.7, 0.6, 0.8, 80, higher_is_better=not lower_is_better)
    assert decide(bare("v0001", m=before), bare("v0002", m=after), COMPARE).verdict is verdict


def test_where_there_are_outcomes_the_intervals_do_not_count() -> None:
    before, after = flips(0, 2)
    a = EvaluationReport("v0001", "t", {"m": Metric(1.0, 0.9, 1.0, 2)}, {"m": tuple(before)})
    b = EvaluationReport("v0002", "t", {"m": Metric(0.0, 0.0, 0.1, 2)}, {"m": tuple(after)})
    assert decide(a, b, COMPARE).verdict is PROMOTE


GOOD = {"preference_accuracy": [1.0, 0.0, 1.0], "answer_accuracy": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("challenger", "reason"),
    [
        (report("v0002", GOOD, training_set="u"), "cannot be compared"),
        (report("v0002", {"answer_accuracy": [1.0] * 3}), "v0002 has no preference_accuracy"),
        (
            report("v0002", {**GOOD, "answer_accuracy": [1.0, math.nan, 1.0]}),
            "answer_accuracy of v0002 is not",
        ),
        (report("v0002", {**GOOD, "fit_logprob": [-math.inf]}), "fit_logprob of v0002 is not"),
        (report("v0002", {**GOOD, "answer_accuracy": [1.0] * 4}), "different numbers of items"),
        (bare("v0002"), "no metric in common"),
    ],
)
def test_a_report_that_cannot_be_used_holds(challenger: EvaluationReport, reason: str) -> None:
    decision = decide(report("v0001", GOOD), challenger, COMPARE)
    assert decision.verdict is HOLD
    assert any(reason in each for each in decision.reasons), decision.reasons


def test_nothing_to_compare_on() -> None:
    decision = decide(bare("v0000"), bare("v0001"), COMPARE)
    assert decision.verdict is HOLD
    assert decision.reasons == ("There is nothing to compare on: the two reports have no metric in common.",)


def test_a_hold_names_every_objection_and_nothing_else() -> None:
    before, after = flips(0, 6)
    a = report("v0001", {"preference_accuracy": before, "answer_accuracy": before, "fit_logprob": [-1.0]})
    b = report("v0002", {"preference_accuracy": after, "answer_accuracy": after, "fit_logprob": [-0.5]})
    decision = decide(a, b, COMPARE)
    assert decision.reasons == (
        "preference_accuracy went from 1.000 to 0.000 on 6 held-out items (0 better, 6 worse): "
        "worse beyond chance (sign test p = 0.016, limit 0.05).",
        "answer_accuracy went from 1.000 to 0.000 on 6 held-out items (0 better, 6 worse): "
        "worse beyond chance (sign test p = 0.016, limit 0.05).",
    )


def test_a_promotion_gives_its_figures() -> None:
    before, after = flips(2, 1, 1)
    decision = decide(
        report("v0001", {"answer_accuracy": before}), report("v0002", {"answer_accuracy": after}), COMPARE
    )
    assert decision.reasons == (
        "answer_accuracy went from 0.500 to 0.750 on 4 held-out items (2 better, 1 worse): not worse.",
    )


def test_a_metric_only_the_challenger_has_is_no_objection() -> None:
    assert decide(report("v0001", GOOD), report("v0002", {**GOOD, "new": [0.5]}), COMPARE).verdict is PROMOTE


@pytest.mark.parametrize(("alpha", "verdict"), [(0.01, PROMOTE), (0.02, HOLD)])
def test_the_policy_sets_the_limit(alpha: float, verdict: GateVerdict) -> None:
    before, after = flips(0, 6)  # p = 1/64 = 0.0156
    a, b = report("v0001", {"m": before}), report("v0002", {"m": after})
    assert decide(a, b, GatePolicy(alpha=alpha, least_items=0, above_chance=False)).verdict is verdict


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_an_adapter_is_never_worse_than_itself_nor_both_ways(items: list[tuple[bool, bool]]) -> None:
    one, other = ([float(pair[k]) for pair in items] for k in (0, 1))
    a, b = report("v0001", {"m": one}), report("v0002", {"m": other})
    assert decide(a, report("v0002", {"m": one}), COMPARE).verdict is PROMOTE
    assert PROMOTE in {decide(a, b, COMPARE).verdict, decide(b, a, COMPARE).verdict}


def test_likelihood_is_told_and_never_holds_back() -> None:
    # the active adapter drew what was judged: to it, its own words are likelier
    before, after = [-0.1] * 40, [-0.3] * 40
    a = report("v0001", {"preference_accuracy": [1.0] * 40, "fit_logprob": before})
    b = report("v0002", {"preference_accuracy": [1.0] * 40, "fit_logprob": after})
    decision = decide(a, b, COMPARE)
    assert decision.verdict is GateVerdict.PROMOTE
    assert any("fit_logprob" in reason and "told, not weighed" in reason for reason in decision.reasons)


def judged(version: str, above: int, below: int, even: int = 0) -> EvaluationReport:
    return report(version, {"preference_accuracy": [0.8] * above + [0.2] * below + [0.5] * even})


@pytest.mark.parametrize(
    ("above", "below", "even", "verdict", "reason"),
    [
        (4, 0, 0, HOLD, "on 4 held-out tasks"),
        (5, 0, 0, PROMOTE, "not worse"),  # p = 1/32
        (5, 1, 0, HOLD, "above_chance"),  # p = 7/64
        (7, 1, 0, PROMOTE, "not worse"),  # p = 9/256
        (8, 2, 0, HOLD, "above_chance"),  # p = 56/1024
        (9, 2, 20, PROMOTE, "not worse"),  # p = 67/2048; a tie is no evidence
        (0, 0, 30, HOLD, "above_chance"),
        (10, 10, 0, HOLD, "10 above a coin's, 10 below"),
    ],
)
def test_the_least_evidence(above: int, below: int, even: int, verdict: GateVerdict, reason: str) -> None:
    active, challenger = (judged(version, above, below, even) for version in ("v0001", "v0002"))
    decision = decide(active, challenger)
    assert decision.verdict is verdict
    assert any(reason in each for each in decision.reasons), decision.reasons


def test_without_judged_held_out_tasks_nothing_is_promoted() -> None:
    active, challenger = (report(version, {"answer_accuracy": [1.0] * 50}) for version in ("v0001", "v0002"))
    assert decide(active, challenger).verdict is HOLD
    assert decide(active, challenger, GatePolicy(least_items=0)).verdict is PROMOTE


@pytest.mark.parametrize(("low", "verdict"), [(0.51, PROMOTE), (0.5, HOLD), (0.4, HOLD)])
def test_chance_without_outcomes_is_judged_by_the_interval(low: float, verdict: GateVerdict) -> None:
    metric = Metric(0.6, low, 0.7, 40)
    a, b = (bare(version, preference_accuracy=metric) for version in ("v0001", "v0002"))
    assert decide(a, b).verdict is verdict


def test_an_adapter_that_learnt_from_noise_is_mostly_held() -> None:
    # ticks without a meaning: in each held-out task the order of the scores is a coin's
    rng = random.Random(3)
    verdicts = [
        decide(
            report("v0000", {"preference_accuracy": [float(rng.random() < 0.5) for _ in range(20)]}),
            report("v0001", {"preference_accuracy": [float(rng.random() < 0.5) for _ in range(20)]}),
        ).verdict
        for _ in range(400)
    ]
    assert verdicts.count(PROMOTE) <= 0.05 * len(verdicts)


@pytest.mark.parametrize(
    ("before", "after", "n", "verdict"),
    [
        (0.9, 0.4, 20, HOLD),  # under half of it
        (0.9, 0.5, 20, PROMOTE),  # less, but no collapse
        (0.9, 0.2, 4, PROMOTE),  # too few items to say so: p = 1/16
        (0.3, 0.9, 20, PROMOTE),
    ],
)
def test_only_a_collapse_of_diversity_holds_back(
    before: float, after: float, n: int, verdict: GateVerdict
) -> None:
    a, b = (
        report(version, {"diversity": [value] * n})
        for version, value in (("v0001", before), ("v0002", after))
    )
    decision = decide(a, b, COMPARE)
    assert decision.verdict is verdict
    assert ("collapsed" in decision.reasons[0]) == (verdict is HOLD)
