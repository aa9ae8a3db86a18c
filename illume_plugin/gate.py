"""Decides whether a new adapter may serve: not where it is worse than the active one beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from illume_plugin.types import EvaluationReport, GateDecision, GateVerdict, Metric

#: The metric that has a limit of its own besides the sign test.
ANSWER_ACCURACY = "answer_accuracy"

#: Told, but no reason to hold an adapter back: the judged rationales were drawn by the active adapter or by
#: those before it, which find their own words likelier than any other adapter does, however good.
PARTIAL = frozenset({"fit_logprob"})

#: Differences smaller than this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """How much worse is too much.

    Attributes:
        alpha: a metric is worse where chance alone would do this with a probability below `alpha`.
        answer_drop: largest fall of answer accuracy (share, 0.01 = one point) that is let through,
        answer_drop_items: judged from this many held-out tasks on; below, one task is too much of a share.
    """

    alpha: float = 0.05
    answer_drop: float = 0.01
    answer_drop_items: int = 100


@dataclass(frozen=True, slots=True)
class _Pairing:
    """How many items got better and worse under the challenger."""

    better: int
    worse: int

    @property
    def p(self) -> float:
        return sign_test(self.worse, self.better)


def decide(
    active: EvaluationReport, challenger: EvaluationReport, policy: GatePolicy | None = None
) -> GateDecision:
    """Compare a new adapter with the active one, metric by metric; one objection holds it back.

    The metrics in PARTIAL are told and not weighed.

    Per-item outcomes are compared in pairs by a one-sided exact sign test. Where a report has none, the two
    95 % intervals are compared instead: worse means that they do not overlap.
    """
    policy = policy or GatePolicy()
    if active.training_set != challenger.training_set:
        return _hold([_different_sets(active, challenger)])
    objections = [*_unusable(active, challenger)]
    common = [name for name in active.metrics if name in challenger.metrics]
    weighed = [name for name in common if name not in PARTIAL]
    if not weighed:
        objections.append("There is nothing to compare on: the two reports have no metric in common.")
    if objections:
        return _hold(objections)
    objections = [each for name in weighed if (each := _objection(name, active, challenger, policy))]
    if objections:
        return _hold(objections)
    return GateDecision(
        GateVerdict.PROMOTE, tuple(f"{_change(name, active, challenger)}: {_said(name)}." for name in common)
    )


def sign_test(worse: int, better: int) -> float:
    """Probability of at least `worse` of `worse + better` changes for the worse if both were as likely.

    The exact binomial tail at 1/2; 1 where nothing changed.
    """
    changed = worse + better
    term = tail = 1
    for k in range(changed, worse, -1):  # term = C(changed, k), from the far end of the tail
        term = term * k // (changed - k + 1)
        tail += term
    return float(tail / 2**changed)


def _said(name: str) -> str:
    return "told, not weighed" if name in PARTIAL else "not worse"


def _hold(reasons: Sequence[str]) -> GateDecision:
    return GateDecision(GateVerdict.HOLD, tuple(reasons))


def _different_sets(active: EvaluationReport, challenger: EvaluationReport) -> str:
    return (
        f"The reports cannot be compared: {active.version} was evaluated on training set "
        f"{active.training_set[:12]}, {challenger.version} on {challenger.training_set[:12]}."
    )


def _unusable(active: EvaluationReport, challenger: EvaluationReport) -> list[str]:
    missing = [name for name in active.metrics if name not in challenger.metrics]
    broken = [name for name, metric in challenger.metrics.items() if not _finite(challenger, name, metric)]
    unpaired = [
        name
        for name in active.metrics
        if name in challenger.metrics and not _aligned(name, active, challenger)
    ]
    return [
        *(f"{challenger.version} has no {name}, which {active.version} has." for name in missing),
        *(f"{name} of {challenger.version} is not a finite number." for name in broken),
        *(f"{name} was measured on different numbers of items in the two reports." for name in unpaired),
    ]


def _finite(report: EvaluationReport, name: str, metric: Metric) -> bool:
    return math.isfinite(metric.value) and all(map(math.isfinite, report.outcomes.get(name, ())))


def _aligned(name: str, active: EvaluationReport, challenger: EvaluationReport) -> bool:
    a, b = active.outcomes.get(name), challenger.outcomes.get(name)
    return not a or not b or len(a) == len(b)


def _objection(
    name: str, active: EvaluationReport, challenger: EvaluationReport, policy: GatePolicy
) -> str | None:
    before, after = active.metrics[name], challenger.metrics[name]
    pairing = _pair(name, active, challenger)
    change = _change(name, active, challenger)
    if pairing is not None and pairing.worse > pairing.better and pairing.p < policy.alpha:
        return f"{change}: worse beyond chance (sign test p = {pairing.p:.2g}, limit {policy.alpha:g})."
    if pairing is None and _apart(before, after):
        return f"{change}: worse, the 95 % intervals do not overlap."
    drop = before.value - after.value
    counted = min(before.n, after.n) >= policy.answer_drop_items
    if name == ANSWER_ACCURACY and counted and drop > policy.answer_drop + _ROUNDING:
        return f"{change}: a fall of more than {policy.answer_drop:g}."
    return None


def _pair(name: str, active: EvaluationReport, challenger: EvaluationReport) -> _Pairing | None:
    before, after = active.outcomes.get(name), challenger.outcomes.get(name)
    if not before or not after:
        return None
    sign = 1 if active.metrics[name].higher_is_better else -1
    gains = [sign * (b - a) for a, b in zip(before, after, strict=True)]
    return _Pairing(sum(g > _ROUNDING for g in gains), sum(g < -_ROUNDING for g in gains))


def _apart(before: Metric, after: Metric) -> bool:
    return after.high < before.low if before.higher_is_better else after.low > before.high


def _change(name: str, active: EvaluationReport, challenger: EvaluationReport) -> str:
    before, after = active.metrics[name], challenger.metrics[name]
    pairing = _pair(name, active, challenger)
    items = "" if pairing is None else f" ({pairing.better} better, {pairing.worse} worse)"
    return f"{name} went from {before.value:.3f} to {after.value:.3f} on {after.n} held-out items{items}"
