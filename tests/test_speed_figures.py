"""Arithmetic of the benchmarks of speed: figures, the line through the memory, the page written from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import figures
import memory_line
import pytest
import soak_plot
import speed_page
from click.testing import CliRunner
from figures import Times
from hypothesis import given
from hypothesis import strategies as st
from memory_line import Line, Verdict, line_through


def times(*seconds: float) -> list[Times]:
    return [{"seconds": one, "cpu_seconds": 2 * one} for one in seconds]


# figures


def test_a_ratio_is_taken_repeat_by_repeat() -> None:
    one = figures.ratio(times(10, 12, 9), times(2, 6, 1), goal=5, detail={"mode": "fast"})
    assert [one[key] for key in ("median", "min", "max", "n")] == [5, 2, 9, 3]
    assert one["detail"]["our_cpu_seconds"] == [4, 12, 2]
    assert " ".join(figures.line("P1", one).split()) == (
        "P1 5.00 2.00 9.00 n = 3 goal >= 5 seconds 10.00 / 2.00 cpu_seconds 20.00 / 4.00 fast"
    )


def test_a_figure_without_a_peer_is_told_too() -> None:
    one = figures.figure([3, 1, 2], goal=100, detail={"told": "ms added"}, higher_is_better=False)
    assert " ".join(figures.line("P8", one).split()) == "P8 2.00 1.00 3.00 n = 3 goal <= 100 ms added"


@pytest.mark.parametrize(
    ("value", "goal", "higher", "reached"),
    [(5, 5, True, True), (4.99, 5, True, False), (0, 0, False, True), (101, 100, False, False)],
)
def test_the_median_is_held_against_the_goal(value: float, goal: float, higher: bool, reached: bool) -> None:
    one = figures.figure([value], goal=goal, detail={}, higher_is_better=higher)
    assert figures.reached(one) is reached


def test_repeats_take_turns_and_the_first_counts_for_nothing() -> None:
    order: list[str] = []

    def work(name: str) -> figures.Timed:
        def timed() -> Times:
            order.append(name)
            return {"seconds": len(order)}

        return timed

    peers, own = figures.in_turns(work("peer"), work("ours"), 2)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert peers == [{"seconds": 3}, {"seconds": 6}]
    assert own == [{"seconds": 4}, {"seconds": 5}]


# the line through the memory


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(3, 50))
def test_points_on_a_line_give_it_back(slope: float, start: float, n: int) -> None:
    x = [0.1 * i for i in range(n)]
    line = line_through(x, [start + slope * one for one in x])
    for found in (line.slope, line.low, line.high):
        assert found == pytest.approx(slope, abs=1e-6)
    assert line.at(2.0) == pytest.approx(start + 2 * slope, abs=1e-6)


def test_the_interval_of_independent_values_by_hand() -> None:
    # residuals -0.4, 0.6, ...: their squares sum to 1.2, over 3 degrees; the x spread is 10; t is 3.182
    line = line_through(range(5), [0, 1, 0, 1, 0])
    assert (line.slope, line.high, line.low) == pytest.approx((0, 3.182 * 0.2, -3.182 * 0.2))


def test_values_that_depend_on_their_neighbours_say_less() -> None:
    x = range(40)
    hasty = line_through(x, [float(i % 2) for i in x])
    slow = line_through(x, [float(i // 10 % 2) for i in x])
    assert slow.high - slow.low > 2 * (hasty.high - hasty.low)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
def test_too_few_places_make_no_line(x: list[float]) -> None:
    with pytest.raises(ValueError, match="make no line"):
        line_through(x, [1.0] * len(x))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-50, 16, Verdict.FLAT),
        (1, 15, Verdict.FLAT),
        (-50, 17, Verdict.OPEN),
        (16, 17, Verdict.OPEN),
        (17, 18, Verdict.GROWS),
    ],
)
def test_the_verdict_looks_at_the_whole_interval(low: float, high: float, said: Verdict) -> None:
    assert memory_line.verdict(Line(0, (low + high) / 2, low, high)) is said


def test_the_first_third_is_warm_up() -> None:
    assert memory_line.after_warm_up(range(9)) == range(3, 9)


def test_the_plot_holds_every_point_and_escapes_its_title() -> None:
    svg = soak_plot.plot([(m, 500.0) for m in range(12)], Line(500, 0, 0, 0), "a <b>")
    assert svg.startswith("<svg")
    assert "a &lt;b&gt;" in svg
    assert max(line.count(",") for line in svg.splitlines() if "polyline" in line) == 12


# the page


def measured(**more: Any) -> dict[str, Any]:
    detail = {"device": "x86_64", "threads": 2, "dtype": "float32", "date": "2026-01-02", "load": 0.4}
    one = figures.ratio(times(10.0), times(2.0), goal=5, detail={**detail, "versions": {"torch": "2.13"}})
    return {**one, **more}


def page(tmp_path: Path, *files: dict[str, Any]) -> str:
    paths = []
    for number, file in enumerate(files):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(file, allow_nan=False))
    out = tmp_path / "RESULTS.md"
    done = CliRunner().invoke(speed_page.main, [*map(str, paths), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out.read_text()


def test_the_page_says_what_was_not_reached(tmp_path: Path) -> None:
    text = page(tmp_path, {"P1": measured(), "P3": measured(median=4.0)})
    assert "| 5.00 (5.00 to 5.00, 1) | ≥ 5 | yes | 10.00 / 2.00 |" in text
    assert "Not reached: P3." in text
    assert (
        "* P1 (load 0.4), P3 (load 0.4): x86_64, no AMX, float32, 2026-01-02, 2 threads, torch 2.13" in text
    )


def test_later_files_win_and_figures_may_describe_themselves(tmp_path: Path) -> None:
    other = measured()
    other["detail"]["what"] = "another thing"
    text = page(tmp_path, {"P1": measured(median=1.0)}, {"P1": measured(), "X": other})
    assert "All goals are reached." in text
    assert "| X | another thing |" in text


def test_the_page_tells_of_the_load(tmp_path: Path) -> None:
    soak = {
        "slope_mib_per_hour": 1.25, "low": -2.0, "high": 4.5, "limit": 16.0, "verdict": "flat",
        "grew": ["threads from 40 to 41"], "minutes": 30.0, "memory_mib": [500.0, 612.0], "calls": 12345,
        "problems": 0, "switches": 90, "ahead": 4000,
    }  # fmt: skip
    text = page(tmp_path, {"soak": soak})
    assert "+1.2 MiB/h (95 %: -2.0 to +4.5), at most 16 allowed: flat." in text
    assert "12,345 live calls" in text
    assert "threads from 40 to 41" in text
