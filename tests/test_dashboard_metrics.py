"""/metrics by the rules of Prometheus, and the Grafana dashboard by what /metrics has.

The rules are those of promtool's linter (prometheus.io/docs/practices/naming and its exposition formats).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from labelled_project import PROJECT, QUALITY
from sqlalchemy import insert
from test_dashboard import LOCAL, ROOT, TASKS, Browser, _filled, browser, labelled

from backend.service import Service
from illume_plugin.store import runs
from illume_plugin.store.tables import reconciliations

__all__ = ["_filled", "browser", "labelled"]

_SAMPLE = re.compile(r"([a-z_:]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
_OF_HISTOGRAM = ("_bucket", "_sum", "_count")
#: Units that are not base units, and abbreviations.
_UNITS = {
    "milliseconds", "microseconds", "minutes", "hours", "days", "weeks", "kilobytes", "megabytes", "percent",
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d",
}  # fmt: skip
_KINDS = {"counter", "gauge", "histogram", "summary"}

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """A metric as it was exposed."""

    name: str
    help: str
    kind: str = ""
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)


def families(text: str) -> dict[str, Family]:
    """The families of an exposition; every line must be one of the format's, in the format's order."""
    assert text.endswith("\n")
    found: dict[str, Family] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, told = line.split(" ", 3)
            assert name not in found, f"{name} stands twice"
            found[name] = current = Family(name, told)
        elif line.startswith("# TYPE "):
            _, _, name, current.kind = line.split(" ")
            assert name == current.name
            assert not current.samples
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            labels = tuple(_LABEL.findall(match[2] or ""))
            assert ",".join(f'{name}="{value}"' for name, value in labels) == (match[2] or ""), line
            current.samples.append((match[1], labels, float(match[3])))
    return found


def complaints(family: Family) -> Iterator[str]:
    """What promtool would say."""
    name, words = family.name, set(family.name.split("_"))
    names = {label for _, labels, _ in family.samples for label, _ in labels}
    if not family.help.strip():
        yield "no help"
    if family.kind not in _KINDS:
        yield f"type {family.kind!r}"
    if (family.kind == "counter") != name.endswith("_total"):
        yield "counters and nothing else end in _total"
    if name.endswith(_OF_HISTOGRAM) or (family.kind != "histogram" and names & {"le", "quantile"}):
        yield "ends or is labelled like a part of a histogram"
    if words & _UNITS:
        yield f"no base unit: {words & _UNITS}"
    if words & _KINDS:
        yield "its type is in its name"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or "__" in name:
        yield "not in snake case"
    if not all(re.fullmatch(r"[a-z][a-z_]*", label) for label in names):
        yield f"labels {names}"
    if not name.startswith("illume_"):
        yield "without our prefix"
    if name.endswith("_info") and {value for _, _, value in family.samples} != {1.0}:
        yield "an info that is not 1"
    if name.endswith("_ratio") and not all(0 <= value <= 1 for _, _, value in family.samples):
        yield "a ratio outside [0, 1]"


@pytest.fixture
def exposed(browser: Browser, labelled: Service) -> dict[str, Family]:
    """Everything that there can be: a run is going on, and Label Studio was asked."""
    with labelled.store.write() as conn:
        now = labelled.clock()
        run_id, _ = runs.enqueue(conn, PROJECT, trigger="test", now=now)
        runs.claim(conn, owner="test", now=now)
        told = {"stage": "training", "step": 3, "steps": 12, "loss": 1.25}
        runs.heartbeat(conn, run_id, owner="test", now=now, progress=told)
        row = {"settled": "", "walked": 0, "walk_settles": "", "checked_at": now, "found": 2, "attempts": 0}
        conn.execute(insert(reconciliations).values(project_id=PROJECT, **row))
    browser.get("/metrics")
    return families(browser.get("/metrics"))


def value(exposed: dict[str, Family], name: str, **labels: str) -> float:
    (found,) = (
        value
        for family in exposed.values()
        for sample, given, value in family.samples
        if sample == name and dict(given) == labels
    )
    return found


def test_what_they_say(exposed: dict[str, Family], browser: Browser) -> None:
    assert browser.client.get("/metrics", **LOCAL).content_type.startswith("text/plain; version=0.0.4")
    project = str(PROJECT)
    assert value(exposed, "illume_tasks", project=project) == TASKS
    assert value(exposed, "illume_tasks_unready", project=project) == 0
    assert value(exposed, "illume_active_version_info", project=project, version="v0004") == 1
    ended = len(QUALITY) - 1
    assert value(exposed, "illume_runs_finished_total", project=project, state="promoted") == ended
    assert value(exposed, "illume_runs_finished_total", project=project, state="failed") == 1
    assert value(exposed, "illume_switches_total", project=project) == ended
    assert value(exposed, "illume_run_progress_ratio", project=project, stage="training") == 0.25
    assert value(exposed, "illume_run_loss", project=project) == 1.25
    assert value(exposed, "illume_reconcile_found_total", project=project) == 2
    assert 0 < value(exposed, "illume_fit_ratio", project=project, version="v0001") < 1
    endpoint = "dashboard.metrics.metrics"
    assert value(exposed, "illume_http_requests_total", endpoint=endpoint, status="200") == 1


def test_every_metric_of_the_program_is_exposed_and_described(exposed: dict[str, Family]) -> None:
    folder = ROOT / "backend" / "dashboard"
    source = "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in ("metrics", "traffic"))
    assert set(re.findall(r'"(illume_\w+)"', source)) - {"illume_traffic"} == set(exposed)
    described = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in exposed if f"`{name}`" not in described] == []


def test_promtool_would_have_nothing_to_say(exposed: dict[str, Family]) -> None:
    assert {name: told for name, family in exposed.items() if (told := list(complaints(family)))} == {}
    every = [(name, labels) for family in exposed.values() for name, labels, _ in family.samples]
    assert len(every) == len(set(every)), "no series stands twice"
    for family in exposed.values():
        suffixes = _OF_HISTOGRAM if family.kind == "histogram" else ("",)
        assert {name for name, _, _ in family.samples} == {f"{family.name}{suffix}" for suffix in suffixes}


@pytest.mark.parametrize(
    "wrong",
    [
        Family("illume_runs", "Runs.", "counter"),
        Family("illume_runs_total", "Runs.", "gauge"),
        Family("illume_wait_ms", "Wait.", "gauge"),
        Family("illume_tasks_gauge", "Tasks.", "gauge"),
        Family("illume_tasks_count", "Tasks.", "gauge"),
        Family("illume_Tasks", "Tasks.", "gauge"),
        Family("illume_tasks", "", "gauge"),
        Family("tasks", "Tasks.", "gauge"),
        Family("illume_tasks", "Tasks.", "gauge", [("illume_tasks", (("le", "1"),), 1.0)]),
        Family("illume_fit_ratio", "Share.", "gauge", [("illume_fit_ratio", (), 61.0)]),
        Family("illume_build_info", "Build.", "gauge", [("illume_build_info", (), 2.0)]),
    ],
)
def test_the_rules_can_object(wrong: Family) -> None:
    assert list(complaints(wrong))


def test_histograms_add_up(exposed: dict[str, Family]) -> None:
    samples = exposed["illume_http_request_duration_seconds"].samples
    endpoints = {dict(labels)["endpoint"] for _, labels, _ in samples}
    for endpoint in endpoints:
        own = [(name, dict(labels), v) for name, labels, v in samples if dict(labels)["endpoint"] == endpoint]
        buckets = [(float(labels["le"]), v) for name, labels, v in own if name.endswith("_bucket")]
        (count,) = (v for name, _, v in own if name.endswith("_count"))
        assert buckets[-1] == (float("inf"), count)
        assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(buckets))


# -- Grafana ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One metric that a panel asks for."""

    panel: str
    name: str
    labels: dict[str, str]


def board() -> list[dict[str, object]]:
    path: Path = ROOT / "docs" / "grafana.json"
    panels: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))["panels"]
    return panels


def asked() -> list[Asked]:
    return [
        Asked(str(panel["title"]), name, dict(re.findall(r'(\w+)(?:=~?|!=)"([^"]*)"', labels or "")))
        for panel in board()
        for target in panel["targets"]  # type: ignore[attr-defined]
        for name, labels in re.findall(r"(illume_\w+)(?:\{([^}]*)\})?", target["expr"])
    ]


def test_the_dashboard_asks_for_what_there_is(exposed: dict[str, Family], labelled: Service) -> None:
    sampled = {name: dict(labels) for one in exposed.values() for name, labels, _ in one.samples}
    assert len(asked()) > 12
    for one in asked():
        assert one.name in sampled, one
        assert set(one.labels) <= set(sampled[one.name]), one


def test_its_legends_and_groups_are_labels(exposed: dict[str, Family]) -> None:
    labels = {name for one in exposed.values() for _, given, _ in one.samples for name, _ in given}
    for panel in board():
        for target in panel["targets"]:  # type: ignore[attr-defined]
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            named = re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat") or "")
            assert {word for some in grouped for word in some.split(", ")} | set(named) <= labels, panel[
                "title"
            ]


def test_its_endpoints_are_ours(labelled: Service) -> None:
    from backend.app import create_app

    known = set(create_app(labelled.settings, service=labelled).view_functions)
    named = {word for one in asked() for word in one.labels.get("endpoint", "").split("|") if word}
    assert named
    assert named <= known


def test_processes_that_tell_the_same_are_not_added_up() -> None:
    for panel in board():
        for target in panel["targets"]:  # type: ignore[attr-defined]
            if "illume_http_" not in target["expr"]:
                assert "max" in target["expr"], panel["title"]
