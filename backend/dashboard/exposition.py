"""Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Family:
    """One metric with its samples.

    Attributes:
        samples: (suffix of the name, labels, value).
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    says: str
    samples: list[tuple[str, Mapping[str, object], float]] = field(default_factory=list)

    def add(self, value: float, *, suffix: str = "", **labels: object) -> None:
        """One more sample."""
        self.samples.append((suffix, labels, value))


def render(families: Iterable[Family]) -> str:
    """The families as text; one without samples is left out."""
    lines = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {_help(family.says)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [
                _sample(family.name + suffix, labels, value) for suffix, labels, value in family.samples
            ]
    return "\n".join([*lines, ""])


def _sample(name: str, labels: Mapping[str, object], value: float) -> str:
    told = ",".join(f'{label}="{_label(str(of))}"' for label, of in labels.items())
    return f"{name}{{{told}}} {_value(value)}" if told else f"{name} {_value(value)}"


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _label(text: str) -> str:
    return _help(text).replace('"', r"\"")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if isinstance(value, float) and not value.is_integer() else str(int(value))
