"""Charts are well-formed, say in words what they show, and let no label break out."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.dashboard import charts
from illume_plugin.types import Metric

SHARE = Metric(0.5, 0.4, 0.6, 30)


def parsed(svg: str) -> Element:
    found = fromstring(svg)
    assert found.tag == "svg"
    return found


def test_intervals_stand_where_they_belong() -> None:
    svg = parsed(charts.intervals("fit", "Fit rate", [("v0000", Metric(0.0, 0.0, 0.2, 9)), ("v0001", SHARE)]))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in svg.iter("circle")]
    floor, ceiling = charts.HEIGHT - charts.BOTTOM, charts.TOP
    assert dots[0][1] == pytest.approx(floor)
    assert dots[1][1] == pytest.approx((floor + ceiling) / 2)
    assert dots[0][0] < dots[1][0]
    whisker = [line for line in svg.iter("line") if line.get("class") == "whisker"][1]
    high, low = float(whisker.get("y2", "")), float(whisker.get("y1", ""))
    assert (low - high) / (floor - ceiling) == pytest.approx(0.2, abs=0.01)


def test_title_and_description_are_named() -> None:
    svg = parsed(charts.intervals("fit", "Fit rate", [("v0001", SHARE)]))
    named = (svg.get("aria-labelledby") or "").split()
    texts = {child.get("id"): child.text for child in svg if child.tag in ("title", "desc")}
    assert [texts[name] for name in named] == ["Fit rate", "v0001 50 % (40 to 60, n = 30)"]


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_labels_are_escaped(label: str) -> None:
    if "\ufffe" in label or "\uffff" in label:
        return  # no XML holds these two
    svg = parsed(charts.intervals("fit", f"<b>{label}", [(f"</svg><script>{label}", SHARE)]))
    assert not list(svg.iter("script"))
    assert any(text.text == f"</svg><script>{label}" for text in svg.iter("text"))


@pytest.mark.parametrize(
    "values",
    [[], [0.0], [3.0], [-2.0], [0.001, 0.0011], [1.0, 2.0, 3.7], [12345.0, 98765.0], [float("nan"), 1.0]],
)
def test_axes_hold_their_values(values: list[float]) -> None:
    found = charts.axis(values)
    assert found.low < found.high
    assert all(found.low - 1e-9 <= value <= found.high + 1e-9 for value in values if value == value)
    assert 2 <= len(found.ticks) <= 7
    assert found.ticks[0] == pytest.approx(found.low)
    assert found.ticks[-1] == pytest.approx(found.high)


def test_a_curve_and_its_band() -> None:
    fitted = [(0, SHARE), (100, SHARE)]
    svg = parsed(charts.learning_curve("learning", "t", [(0, SHARE), (50, SHARE)], fitted, x_title="ticked"))
    (band,) = svg.iter("polygon")
    assert len((band.get("points") or "").split()) == 4
    assert len(list(svg.iter("circle"))) == 2
    plain = parsed(charts.learning_curve("learning", "t", [(0, SHARE), (50, SHARE)], [], x_title="ticked"))
    assert not list(plain.iter("polygon"))


def test_a_line_ends_at_its_last_value() -> None:
    svg = parsed(charts.line("loss", "Loss", [(1, 2.5), (2, 1.5), (3, 0.5)], x_title="step"))
    (drawn,) = svg.iter("polyline")
    (dot,) = svg.iter("circle")
    assert (drawn.get("points") or "").split()[-1] == f"{dot.get('cx')},{dot.get('cy')}"
    assert [child.text for child in svg if child.tag == "desc"] == ["from 2.500 at 1 to 0.500 at 3"]
    parsed(charts.line("loss", "Loss", [], x_title="step"))


def test_many_versions_share_the_axis() -> None:
    svg = parsed(charts.intervals("fit", "t", [(f"v{k:04d}", SHARE) for k in range(40)]))
    assert sum(text.get("class") == "x" for text in svg.iter("text")) <= charts.LABELS
