"""The sizing table: hand arithmetic, and the page it is written into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sizing
from click.testing import CliRunner
from sizing import BEGIN, END, Cost, Need

DOCS = Path(__file__).parent.parent / "docs" / "scale-out.md"


def figure(**detail: Any) -> dict[str, Any]:
    given = {
        "shape": "medium",
        "parameters": 221_000_000,
        "tokens": 30,
        "rows": 25,
        "device": "x86_64",
        "threads": 2,
        "load": 2.1,
        "dtype": "bfloat16",
        "our_seconds": [2.0, 2.5, 9.0],
        "peer_seconds": [10.0, 12.5, 11.0],
    }
    return {"median": 4.4, "detail": {**given, **detail}}


def test_a_cost_is_the_median_second_of_one_candidate() -> None:
    ours, theirs = sizing.costs({"P1": figure(), "P1V": figure(), "P3": {}})
    assert ours == Cost("medium (221 M), 30 tokens", "this process, x86_64, 2 threads, bfloat16", 0.1)
    assert theirs.seconds == pytest.approx(0.44)
    assert theirs.where.startswith("vLLM, ")


def test_a_figure_of_a_busy_machine_says_so() -> None:
    quiet, busy = (sizing.costs({"P1": figure(load=load)})[0].where for load in (1.9, 6.04))
    assert busy == quiet.replace("2 threads", "2 threads, shared with others (load 6.0)")


@pytest.mark.parametrize(
    ("seconds", "need", "per_hour", "devices"),
    [
        (0.1, Need(draws=10, hours=10, utilisation=0.5), 1800, {18_000: 1, 18_001: 2, 1_000_000: 56}),
        (0.001, Need(draws=25, hours=24, utilisation=1), 144_000, {1: 1, 1_000_000: 1, 3_456_001: 2}),
    ],
)
def test_devices_by_hand(seconds: float, need: Need, per_hour: float, devices: dict[int, int]) -> None:
    cost = Cost("x", "y", seconds)
    assert cost.tasks_per_hour(need) == pytest.approx(per_hour)
    assert {load: cost.devices(load, need) for load in devices} == devices


@pytest.mark.parametrize(("device", "asks"), [("x86_64", True), ("NVIDIA H100 80GB HBM3", False)])
def test_a_missing_gpu_is_said_to_be_missing(device: str, asks: bool) -> None:
    table = sizing.table(sizing.costs({"P1": figure(device=device)}), Need())
    assert ("not measured yet" in table) is asks
    assert ("threads" in table) is asks
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_it_writes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "sampling.json"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    file.write_text(json.dumps({"P1": figure()}))
    for _ in range(2):
        done = CliRunner().invoke(sizing.main, [str(file), "--write", str(page)])
        assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\nDevices needed at 15 draws")
    assert text.endswith(f"|\n\n{END}\n\nafter\n")
    assert "old" not in text


@pytest.mark.parametrize("content", ["", "{}", '{"P3": {}}', '{"P1": {}}', "[]"])
def test_files_without_a_figure_are_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sampling.json"
    file.write_text(content)
    done = CliRunner().invoke(sizing.main, [str(file)])
    assert done.exit_code == 1
    assert "sampling.json" in done.output


def test_the_page_in_the_docs_has_a_table_of_today() -> None:
    page = DOCS.read_text(encoding="utf-8")
    _, _, rest = page.partition(BEGIN)
    rows = [line for line in rest.partition(END)[0].splitlines() if line.startswith("|")]
    now = sizing.table([Cost("x", "y", 1.0)], Need()).splitlines()
    assert rows[0] == now[2]
    assert len(rows) > 2
