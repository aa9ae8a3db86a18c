"""The results of a simulation: JSON for programs, a table and a curve for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from backend.simulate.curve import Series, curve
from backend.simulate.record import Iteration
from illume_plugin import __version__
from illume_plugin.gate_policy import GatePolicy
from illume_plugin.training.spec import write_json
from illume_plugin.types import Json, Metric

LIBRARIES = ("torch", "transformers", "peft")
_COLUMNS = (
    "iteration", "serves", "ticked", "accepted rationales", "fit rate, T = 0.7", "fit rate, plan",
    "answer accuracy", "distinct samples", "seconds",
)  # fmt: skip
_DELIVERY = ("annotations", "ticks", "arrived", "lost", "doubled", "sent_again")
_KIND_COLUMNS = ("kind of question", "fit rate, base", "fit rate, last", "answers, base", "answers, last")


def write_results(out: Path, options: Mapping[str, Json], done: Sequence[Iteration]) -> None:
    """Write results.json, results.md and curve.svg of the iterations done so far, each in one go."""
    write_json(out / "results.json", results(options, done))
    _write(out / "results.md", page(options, done))
    ticks = ["base", *(str(one.number) for one in done[1:])]
    lines = [
        Series("fit rate", [one.measured.fit_rate for one in done]),
        Series("answers", [one.measured.answer_accuracy for one in done]),
        Series("distinct", [one.measured.distinct for one in done]),
    ]
    title = (
        f"World of {options['world']}, {options['tasks']} tasks per iteration, held-out figures at T = 0.7"
    )
    note = _sentence(done[-1].ended.partition(". ")[0]) if done[-1].ended else ""
    _write(out / "curve.svg", curve(title, ticks, lines, note=note))


def results(options: Mapping[str, Json], done: Sequence[Iteration]) -> dict[str, Json]:
    """Everything about the simulation as JSON values."""
    return {
        "options": dict(options),
        "seed": options["seed"],
        "versions": {"illume": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        "outcome": outcome(options, done),
        "iterations": [asdict(one) for one in done],
        "seconds": sum(sum(one.seconds.values()) for one in done),
    }


def outcome(options: Mapping[str, Json], done: Sequence[Iteration]) -> str:
    """One sentence: how it ended, or how far it is."""
    if done[-1].ended:
        return done[-1].ended
    wanted, number = options["iterations"], done[-1].number
    far = "" if number == wanted else f" of {wanted}, not finished"
    first, last = done[0].measured, done[-1].measured
    fits = f"fit rate {first.fit_rate.value:.1%} -> {last.fit_rate.value:.1%}"
    answers = f"answer accuracy {first.answer_accuracy.value:.1%} -> {last.answer_accuracy.value:.1%}"
    return f"after {number} iterations{far}: {fits}, {answers}"


def page(options: Mapping[str, Json], done: Sequence[Iteration]) -> str:
    """The results as Markdown."""
    said = [f"{name} `{_brief(value)}`" for name, value in _plain(options) if value not in ("", {})]
    parts = [
        f"# Simulation, seed {options['seed']}",
        _sentence(outcome(options, done)),
        "![learning curve](curve.svg)",
        _table(_COLUMNS, [_row(one) for one in done]),
        *_trials(done),
        *_deliveries(options, done),
        _table(_KIND_COLUMNS, [_kind_row(kind, done) for kind in sorted(done[-1].measured.kinds)]),
        "Brackets hold 95 % intervals over held-out tasks. A run that the gate held back leaves the version "
        "that served before, with its figures.",
        f"Options: {', '.join(said)}.",
    ]
    return "\n\n".join(parts) + "\n"


def on_trial(trial: Mapping[str, Json]) -> str:
    """How far a trial is, in words."""
    far = trial["end"] or "not decided yet, so no run"
    change = f"{100 * trial['difference']:+.1f} points on {trial['tasks']} tasks"
    return f"{trial['challenger']} on trial beside {trial['active']}: {change}, {far}"


def _trials(done: Sequence[Iteration]) -> list[str]:
    """What the annotators, as the people of the blind gate, made of the challengers."""
    tried = [one for one in done if one.trial]
    if not tried:
        return []
    said = (
        "New versions went on trial: the annotators ticked candidates of both without knowing whose. While a "
        "trial is open nothing is trained; it is looked at after each iteration."
    )
    columns = ("iteration", "active", "challenger", "judged tasks", "difference of tick rates", "verdict")
    return [said, _table(columns, [_trial_row(one) for one in tried])]


def _trial_row(one: Iteration) -> tuple[str, ...]:
    trial = one.trial
    change = f"{trial['difference']:+.1%} [{trial['low']:+.1%}, {trial['high']:+.1%}]"
    return (
        str(one.number),
        trial["active"],
        trial["challenger"],
        str(trial["tasks"]),
        change,
        trial["end"] or "open",
    )


def _deliveries(options: Mapping[str, Json], done: Sequence[Iteration]) -> list[str]:
    """What is to be said of the way through Label Studio, if it went there."""
    if "label_studio" not in options:
        return []
    people = options["annotators"]
    said = (
        f"The annotators submitted in Label Studio at {options['label_studio']}, and their ticks came back "
        "by its webhook: compared one by one with what Label Studio holds and with what was meant."
    )
    if people > 1:
        said += (
            f" They share the account of the token, so each task has {people} annotations by one user; "
            "agreement is counted by annotation."
        )
    rows = [
        (str(one.number), *(str(one.delivery[name]) for name in _DELIVERY)) for one in done if one.delivery
    ]
    return [said, _table(("iteration", *(name.replace("_", " ") for name in _DELIVERY)), rows)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def _kind_row(kind: str, done: Sequence[Iteration]) -> tuple[str, ...]:
    first, last = (one.measured.kinds[kind] for one in (done[0], done[-1]))
    return (
        kind,
        *(_metric(each[name]) for name in ("fit_rate", "answer_accuracy") for each in (first, last)),
    )


def _plain(options: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """The options by name; of the gate policy only what is not as usual."""
    usual = asdict(GatePolicy())
    for name, value in options.items():
        if name != "gate":
            yield name, value
            continue
        for limit, chosen in value.items():
            if limit != "blind" and chosen != usual[limit]:
                yield f"gate {limit}", chosen
        for limit, chosen in value.get("blind", {}).items():
            if chosen != usual["blind"][limit]:
                yield f"gate blind {limit}", chosen


def _brief(value: Json) -> str:
    words = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return words if len(words) < 40 else f"{words[:12]}..."


def _row(one: Iteration) -> tuple[str, ...]:
    measured = one.measured
    state, version = one.run.get("state"), one.run.get("version")
    held = {"held": " (run held)", "trial": f" ({version} on trial)"}.get(str(state), "")
    figures = (measured.fit_rate, measured.fit_rate_plan, measured.answer_accuracy, measured.distinct)
    return (
        str(one.number) if one.number else "base",
        f"{one.serves}{held}",
        f"{one.ticked} of {one.shown}" if one.number else "",
        str(one.accepted) if one.number else "",
        *(_metric(figure) for figure in figures),
        f"{sum(one.seconds.values()):.0f}",
    )


def _metric(metric: Metric) -> str:
    return f"{metric.value:.1%} [{metric.low:.1%}, {metric.high:.1%}]"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _write(path: Path, text: str) -> None:
    """Write so that a reader sees all of it or what was there before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
