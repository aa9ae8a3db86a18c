"""Decides whether a new adapter may serve: with enough evidence, and not worse than the active one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from illume_plugin.gate_policy import GatePolicy
from illume_plugin.types import EvaluationReport, GateDecision, GateVerdict, Metric

#: The metrics that have limits of their own.
PREFERENCE_ACCURACY = "preference_accuracy"
ANSWER_ACCURACY = "answer_accuracy"
DIVERSITY = "diversity"

#: Told, but no reason to hold an adapter back. The judged rationales were drawn by the active adapter or by
#: those before it, which find their own words likelier than any other adapter does, however good, and whose
#: texts are more like them (ROUGE-L, BLEU, CIDEr). Grounding has no direction in which it must not go.
PARTIAL = frozenset({"fit_logprob", "rouge_l", "bleu", "cider", "grounding"})

#: What a coin reaches in preference accuracy.
CHANCE = 0.5

#: Differences smaller than this are rounding.
_ROUNDING = 1e-9


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

    The metrics in PARTIAL are told and not weighed. A fall of diversity is no objection in itself (an
    adapter that is surer of the right rationale repeats it), only a collapse is.

    Per-item outcomes are compared in pairs by a one-sided exact sign test. Where a report has none, the two
    95 % intervals are compared instead: worse means that they do not overlap, better than chance that the
    whole interval is.
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
    lacking = _lacking(challenger, policy)
    objections = [each for name in weighed if (each := _objection(name, active, challenger, policy))]
    if lacking or objections:
        return _hold([*lacking, *objections], thin=not objections)
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


def _hold(reasons: Sequence[str], *, thin: bool = False) -> GateDecision:
    return GateDecision(GateVerdict.HOLD, tuple(reasons), thin)


def _different_sets(active: EvaluationReport, challenger: EvaluationReport) -> str:
    return (
        f"The reports cannot be compared: {active.version} was evaluated on training set "
        f"{active.training_set[:12]}, {challenger.version} on {challenger.training_set[:12]}."
    )


def _unusable(active: EvaluationReport, challenger: EvaluationReport) -> list[str]:
    weighed = [name for name in active.metrics if name not in PARTIAL]
    missing = [name for name in weighed if name not in challenger.metrics]
    broken = [name for name, metric in challenger.metrics.items() if not _finite(challenger, name, metric)]
    unpaired = [
        name for name in weighed if name in challenger.metrics and not _aligned(name, active, challenger)
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


def _lacking(challenger: EvaluationReport, policy: GatePolicy) -> list[str]:
    """What the evidence on what people said lacks."""
    metric = challenger.metrics.get(PREFERENCE_ACCURACY)
    items = metric.n if metric else 0
    if items < policy.least_items:
        return [
            f"{PREFERENCE_ACCURACY} was measured on {items} held-out tasks, those with rationales that fit "
            f"and others that do not; the policy asks for {policy.least_items} (least_items): label more."
        ]
    if metric is None or not policy.above_chance:
        return []
    told = _not_above_chance(metric, challenger.outcomes.get(PREFERENCE_ACCURACY, ()), policy)
    return [told] if told else []


def _not_above_chance(metric: Metric, outcomes: Sequence[float], policy: GatePolicy) -> str:
    head = f"{PREFERENCE_ACCURACY} is {metric.value:.3f} on {metric.n} held-out items"
    tail = "the adapter has not learnt to tell what people tick (above_chance)."
    if not outcomes:
        return "" if metric.low > CHANCE else f"{head}, its interval begins at {metric.low:.3f}: {tail}"
    above = sum(outcome > CHANCE + _ROUNDING for outcome in outcomes)
    below = sum(outcome < CHANCE - _ROUNDING for outcome in outcomes)
    p = sign_test(above, below)
    if p < policy.alpha:
        return ""
    told = f"{above} above a coin's, {below} below; sign test p = {p:.2g}, limit {policy.alpha:g}"
    return f"{head} ({told}): {tail}"


def _objection(
    name: str, active: EvaluationReport, challenger: EvaluationReport, policy: GatePolicy
) -> str | None:
    before, after = active.metrics[name], challenger.metrics[name]
    change = _change(name, active, challenger)
    worse = _worse(name, active, challenger, policy)
    if name == DIVERSITY:
        collapsed = worse and after.value < policy.diversity_kept * before.value
        limit = f"collapsed, less than {policy.diversity_kept:g} of it is left (diversity_kept)"
        return f"{change}: {limit}, {worse}." if collapsed else None
    if worse:
        return f"{change}: worse {worse}."
    counted = min(before.n, after.n) >= policy.answer_drop_items
    if name == ANSWER_ACCURACY and counted and before.value - after.value > policy.answer_drop + _ROUNDING:
        return f"{change}: a fall of more than {policy.answer_drop:g}."
    return None


def _worse(
    name: str, active: EvaluationReport, challenger: EvaluationReport, policy: GatePolicy
) -> str | None:
    """How the metric is known to be worse; None where it may be as good."""
    pairing = _pair(name, active, challenger)
    if pairing is None:
        apart = _apart(active.metrics[name], challenger.metrics[name])
        return "as the 95 % intervals do not overlap" if apart else None
    if pairing.worse > pairing.better and pairing.p < policy.alpha:
        return f"beyond chance (sign test p = {pairing.p:.2g}, limit {policy.alpha:g})"
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
