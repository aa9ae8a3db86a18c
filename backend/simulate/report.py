"""The results of a simulation: JSON for programs, a table and a curve for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from backend.simulate.curve import Series, curve
from backend.simulate.record import Iteration
from illume_plugin import __version__
from illume_plugin.training.spec import write_json
from illume_plugin.types import Json, Metric

LIBRARIES = ("torch", "transformers", "peft")
_HEADER = (
    "iteration", "serves", "ticked", "accepted rationales", "fit rate, T = 0.7", "fit rate, plan",
    "answer accuracy", "distinct samples", "seconds",
)  # fmt: skip


def write_results(out: Path, options: Mapping[str, Json], done: Sequence[Iteration]) -> None:
    """Write results.json, results.md and curve.svg of the iterations done so far, each in one go."""
    write_json(out / "results.json", results(options, done))
    _write(out / "results.md", table(options, done))
    ticks = ["base", *(str(one.number) for one in done[1:])]
    lines = [
        Series("fit rate", [one.measured.fit_rate for one in done]),
        Series("answers", [one.measured.answer_accuracy for one in done]),
        Series("distinct", [one.measured.distinct for one in done]),
    ]
    title = f"{options['tasks']} tasks per iteration, held-out figures at T = 0.7"
    _write(out / "curve.svg", curve(title, ticks, lines))


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
    first, last = done[0].measured, done[-1].measured
    far = "" if done[-1].number == options["iterations"] else f" (of {options['iterations']}; not finished)"
    return (
        f"after {done[-1].number} iterations{far}: fit rate {first.fit_rate.value:.1%} -> {last.fit_rate.value:.1%},"
        f" answer accuracy {first.answer_accuracy.value:.1%} -> {last.answer_accuracy.value:.1%}"
    )


def table(options: Mapping[str, Json], done: Sequence[Iteration]) -> str:
    """The results as Markdown."""
    rows = [_HEADER, ("---",) * len(_HEADER), *(_row(one) for one in done)]
    kinds = sorted(done[-1].measured.kinds)
    by_kind = [
        ("kind of question", "fit rate, base", "fit rate, last", "answers, base", "answers, last"),
        ("---",) * 5,
    ]
    for kind in kinds:
        figures = [one.measured.kinds[kind] for one in (done[0], done[-1])]
        shown = [_metric(each[name]) for name in ("fit_rate", "answer_accuracy") for each in figures]
        by_kind.append((kind, *shown))
    lines = [
        f"# Simulation, seed {options['seed']}",
        "",
        _sentence(outcome(options, done)),
        "",
        "![learning curve](curve.svg)",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"| {' | '.join(row)} |" for row in by_kind),
        "",
        "Brackets hold 95 % intervals over held-out tasks. A run that the gate held back leaves the version"
        " that served before, and its figures.",
        "",
        "Options: "
        + ", ".join(f"{name} `{value}`" for name, value in options.items() if value not in ("", {})),
        "",
    ]
    return "\n".join(lines)


def _row(one: Iteration) -> tuple[str, ...]:
    measured = one.measured
    held = " (run held)" if one.run.get("state") == "held" else ""
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
