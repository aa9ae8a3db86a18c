"""The test of position bias: against Cochran's Q, the chi-squared tables, and its own promise."""

from __future__ import annotations

import random

import pytest

from illume_plugin.position_bias import Blocks, chi_squared_tail, position_test


@pytest.mark.parametrize(
    ("statistic", "degrees", "tail"),
    [
        # the usual table of critical values
        (3.841, 1, 0.05),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (9.488, 4, 0.05),
        (11.070, 5, 0.05),
        (16.919, 9, 0.05),
        (6.635, 1, 0.01),
        (15.086, 5, 0.01),
        (0.554, 5, 0.99),
        (0.0, 3, 1.0),
    ],
)
def test_the_chi_squared_tail(statistic: float, degrees: int, tail: float) -> None:
    assert chi_squared_tail(statistic, degrees) == pytest.approx(tail, abs=2e-4)


def cochran_q(table: list[list[int]]) -> float:
    """Cochran's formula of 1950, term by term."""
    k = len(table[0])
    columns = [sum(row[j] for row in table) for j in range(k)]
    rows = [sum(row) for row in table]
    total = sum(rows)
    above = (k - 1) * (k * sum(c * c for c in columns) - total**2)
    return above / (k * total - sum(r * r for r in rows))


def as_blocks(table: list[list[int]]) -> list[Blocks]:
    return [Blocks(len(row), sum(row), 1, tuple(row)) for row in table]


TABLE = [[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_equal_blocks_give_cochrans_q() -> None:
    found = position_test(as_blocks(TABLE))
    assert found.statistic == pytest.approx(cochran_q(TABLE))
    assert found.degrees == 2
    assert [(row.shown, row.ticked) for row in found.rows] == [(7, 5), (7, 4), (7, 1)]
    assert found.rows[0].rate == pytest.approx(5 / 7)
    assert found.annotations == 7


def test_blocks_of_a_kind_can_be_added_up() -> None:
    together = Blocks(3, 1, 3, (2, 1, 0))
    apart = as_blocks([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert position_test([together]).statistic == pytest.approx(position_test(apart).statistic)


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [Blocks(1, 1, 9, (9,))],  # one row: nothing to compare
        [Blocks(4, 0, 5, (0, 0, 0, 0)), Blocks(4, 4, 5, (5, 5, 5, 5))],  # all or none says nothing of rows
    ],
)
def test_where_nothing_can_be_tested(blocks: list[Blocks]) -> None:
    assert position_test(blocks).p is None


def test_a_row_that_few_tasks_have_costs_one_degree_of_freedom() -> None:
    blocks = [Blocks(3, 1, 30, (10, 10, 10)), Blocks(4, 2, 8, (4, 4, 4, 4))]
    found = position_test(blocks)
    assert found.degrees == 3
    assert found.statistic == pytest.approx(0.0, abs=1e-9)
    assert [row.shown for row in found.rows] == [38, 38, 38, 8]


def drawn(rng: random.Random, bias: float) -> list[Blocks]:
    table = []
    for _ in range(60):
        rows = rng.randint(3, 6)
        chances = [0.4 + bias * (row == 0) for row in range(rows)]
        table.append([int(rng.random() < chance) for chance in chances])
    return as_blocks(table)


def test_it_keeps_its_promise_on_random_ticks_and_sees_a_real_bias() -> None:
    rng = random.Random(3)
    fair = [position_test(drawn(rng, 0.0)).p or 1.0 for _ in range(200)]
    biased = [position_test(drawn(rng, 0.4)).p or 1.0 for _ in range(40)]
    assert sum(p < 0.05 for p in fair) <= 20  # 10 expected
    assert sum(p < 0.05 for p in biased) >= 36
