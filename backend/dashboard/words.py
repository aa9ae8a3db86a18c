"""How figures are written on the page."""

from __future__ import annotations

import time

from flask import Blueprint
from markupsafe import Markup

from illume_plugin.types import Metric

#: What people call the metrics of the gate.
METRICS = {
    "preference_accuracy": "fitting scored above unfitting",
    "fit_logprob": "log-probability of fitting ones, nats",
    "answer_accuracy": "own answer right",
    "diversity": "different draws of a task",
    "grounding": "what the picture adds, nats",
    "fit_rate": "ticked by people",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "cider": "CIDEr",
}
#: Metrics that are shares of something.
SHARES = frozenset({"preference_accuracy", "answer_accuracy", "diversity", "fit_rate"})
_NONE = "–"


def number(value: float | None, digits: int = 0) -> str:
    """12 345 with a narrow space between thousands, or a dash."""
    return _NONE if value is None else f"{value:,.{digits}f}".replace(",", "\u202f")


def percent(value: float | None) -> str:
    """61 %, or a dash."""
    return _NONE if value is None else f"{100 * value:.0f}\u00a0%"


def share(metric: Metric | None) -> str:
    """A share with its 95 % interval."""
    if metric is None:
        return _NONE
    return f"{percent(metric.value)} ({100 * metric.low:.0f}\u00a0to\u00a0{100 * metric.high:.0f})"


def figure(metric: Metric | None, name: str = "") -> str:
    """The metric of a name with its 95 % interval and its n."""
    if metric is None:
        return _NONE
    interval = f"({metric.low:.3f}\u00a0to\u00a0{metric.high:.3f})"
    told = share(metric) if name in SHARES else f"{metric.value:.3f} {interval}"
    return f"{told}, n\u00a0=\u00a0{number(metric.n)}"


def duration(seconds: float | None) -> str:
    """5.2 s, 3 min 10 s, 2 h 5 min."""
    if seconds is None:
        return _NONE
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s" if seconds < 10 else f"{seconds:.0f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s" if rest else f"{minutes}\u00a0min"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def moment(seconds: float | None) -> Markup:
    """A point in time, UTC; the script writes it in the viewer's zone."""
    if seconds is None:
        return Markup(_NONE)  # noqa: S704 - a dash of our own
    at = time.gmtime(seconds)
    iso, told = time.strftime("%Y-%m-%dT%H:%M:%SZ", at), time.strftime("%Y-%m-%d %H:%M UTC", at)
    return Markup('<time datetime="{}">{}</time>').format(iso, told)


def metric_name(name: str) -> str:
    """What people call a metric."""
    return METRICS.get(name, name.replace("_", " "))


def chance(p: float | None) -> str:
    """A probability as one writes it beside a test."""
    if p is None:
        return _NONE
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def plural(count: int, one: str, many: str = "") -> str:
    """1 task, 2 tasks."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def install(blueprint: Blueprint) -> None:
    """Make them filters of the blueprint's templates (which all templates of the app share)."""
    for each in (number, percent, share, figure, duration, moment, metric_name, chance, plural):
        blueprint.add_app_template_filter(each, each.__name__)
