"""The losses of a run, thinned as it goes on."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backend.loss_curve import POINTS, LossCurve


def test_a_short_run_is_kept_in_full() -> None:
    curve = LossCurve()
    for step in range(1, 101):
        curve.note(step, 1 / step)
    assert [step for step, _ in curve.points()] == list(range(1, 101))


@given(st.integers(1, 5000))
def test_a_long_one_is_thinned_evenly_and_ends_at_its_last_step(steps: int) -> None:
    curve = LossCurve()
    for step in range(1, steps + 1):
        curve.note(step, float(step))
    points = curve.points()
    assert len(points) <= POINTS + 1
    assert points[0] == [1, 1.0]
    assert points[-1] == [steps, float(steps)]
    gaps = {after[0] - before[0] for before, after in pairwise(points[:-1])}
    assert len(gaps) <= 1, "evenly, but for the last one"
    assert len(points) >= min(steps, POINTS // 2)


def test_what_is_no_loss_is_passed_over() -> None:
    curve = LossCurve()
    for step, loss in [(None, 1.0), (1, None), ("1", 2.0), (1, 3.0), (1, 4.0)]:
        curve.note(step, loss)
    assert curve.points() == [[1, 3.0]]
