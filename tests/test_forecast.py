"""Is more labelling worth it? On curves whose truth is known."""

from __future__ import annotations

import pytest

from illume_plugin.fit_rate import wilson_interval
from illume_plugin.forecast import MIN_JUDGED, CurvePoint, Worth, forecast
from illume_plugin.types import Metric


def point(learnt_from: int, rate: float, judged: int = 600) -> CurvePoint:
    return CurvePoint(learnt_from, Metric(rate, *wilson_interval(rate, judged), judged))


def curve(*rates: float, judged: int = 600, step: int = 200) -> list[CurvePoint]:
    return [point(k * step, rate, judged) for k, rate in enumerate(rates)]


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "0 of the 4 versions"),
        (curve(0.2, 0.4, 0.5), "3 of the 4 versions"),
        (curve(0.2, 0.4, 0.5, 0.55, judged=MIN_JUDGED - 1), "0 of the 4 versions"),
        ([point(500, 0.2), point(500, 0.3), point(500, 0.4), point(500, 0.4)], "1 of the 4 versions"),
        ([point(0, 0.2), point(500, 0.3), point(600, 0.4), point(700, 0.4)], "nearly the same number"),
    ],
)
def test_it_says_when_there_is_too_little_data(points: list[CurvePoint], why: str) -> None:
    found = forecast(points)
    assert found.worth is Worth.TOO_LITTLE
    assert why in found.why
    assert found.gain is None
    assert found.curve == ()


def test_a_curve_that_has_levelled_off_is_hardly_worth_more() -> None:
    found = forecast(curve(0.2, 0.595, 0.6, 0.6, 0.6, 0.6, judged=20_000))
    assert found.worth is Worth.HARDLY
    assert found.gain is not None
    assert found.gain.high < 0.02


def test_a_curve_that_rises_steeply_is() -> None:
    found = forecast(curve(0.10, 0.20, 0.28, 0.35, 0.41, 0.46, judged=20_000))
    assert found.worth is Worth.YES
    assert found.gain is not None
    assert found.gain.low >= 0.02
    assert found.target == 2000


def test_a_rough_one_leaves_it_open() -> None:
    assert forecast(curve(0.30, 0.42, 0.40, 0.46, judged=60)).worth is Worth.UNCLEAR


def test_more_judgements_make_the_interval_narrower() -> None:
    rates = (0.2, 0.4, 0.5, 0.55, 0.58)
    rough, fine = forecast(curve(*rates, judged=100)).gain, forecast(curve(*rates, judged=10_000)).gain
    assert rough is not None
    assert fine is not None
    assert fine.high - fine.low < (rough.high - rough.low) / 2


def test_the_curve_is_one_of_shares_and_never_falls() -> None:
    found = forecast(curve(0.9, 0.95, 0.98, 0.99, judged=200))
    values = [metric.value for _, metric in found.curve]
    assert values == sorted(values)
    assert all(0 <= metric.low <= metric.value <= metric.high <= 1 for _, metric in found.curve)


def test_versions_that_got_worse_give_a_flat_curve_not_a_falling_one() -> None:
    found = forecast(curve(0.6, 0.5, 0.45, 0.4, 0.4, judged=5_000))
    assert found.gain is not None
    assert found.gain.value == pytest.approx(0.0, abs=1e-6)
    assert found.worth is not Worth.YES


def test_the_order_of_the_points_and_a_second_look_change_nothing() -> None:
    points = curve(0.2, 0.4, 0.5, 0.55)
    assert forecast(points) == forecast(points[::-1])
