"""i2c and pmi by hand (C3L, arXiv 2405.12752)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.scoring.content import SMALLEST, i2c, pmi

LOGPROBS = st.lists(st.tuples(st.floats(-40, 0), st.floats(-40, 0)), min_size=1, max_size=8)


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) if p else -math.inf for p in probabilities]


@pytest.mark.parametrize(
    ("seen", "blind", "divergence", "mean"),
    [
        # profiles 1/2, 1/2 against 3/4, 1/4
        (
            [0.4, 0.4],
            [0.3, 0.1],
            0.5 * math.log(2 / 3) + 0.5 * math.log(2),
            (math.log(4 / 3) + math.log(4)) / 2,
        ),
        # twice as likely everywhere: another size, the same shape
        ([0.8, 0.4, 0.2], [0.4, 0.2, 0.1], 0.0, math.log(2)),
        ([0.5, 0.5], [0.5, 0.5], 0.0, 0.0),
        ([0.9], [0.1], 0.0, math.log(9)),  # one token: no shape
        # an impossible token counts as one in a million
        ([0.5], [0.0], 0.0, math.log(0.5e6)),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),
    ],
)
def test_by_hand(seen: list[float], blind: list[float], divergence: float, mean: float) -> None:
    assert i2c(logs(*seen), logs(*blind)) == pytest.approx(divergence, abs=1e-12)
    assert pmi(logs(*seen), logs(*blind)) == pytest.approx(mean)


def test_rounding_above_certainty_is_clamped() -> None:
    assert pmi([1e-7], [0.0]) == 0.0


@given(LOGPROBS)
def test_i2c_is_a_divergence_and_pmi_changes_sign(pairs: list[tuple[float, float]]) -> None:
    seen, blind = [list(side) for side in zip(*pairs, strict=True)]
    assert i2c(seen, blind) >= 0
    assert i2c(seen, seen) == pytest.approx(0, abs=1e-12)
    assert pmi(seen, blind) == pytest.approx(-pmi(blind, seen))
    assert abs(pmi(seen, blind)) <= -math.log(SMALLEST) + 1e-9


@pytest.mark.parametrize("figure", [i2c, pmi])
@pytest.mark.parametrize(("seen", "blind"), [([], []), ([-1.0], []), ([-1.0, -1.0], [-1.0])])
def test_what_cannot_be_compared(figure: object, seen: list[float], blind: list[float]) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match=r"tokens|zip"):
        figure(seen, blind)
