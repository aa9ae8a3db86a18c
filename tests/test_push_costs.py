"""One by one or in one bulk request: the cheaper way, as far as is known."""

import pytest

from illume_plugin.labelstudio.push_costs import ALONE_S, HANDFUL, WITHIN_S, PushCosts


def test_a_handful_goes_one_by_one_while_nothing_is_known() -> None:
    costs = PushCosts()
    assert costs.one_by_one(1, HANDFUL)
    assert not costs.one_by_one(1, HANDFUL + 1)


@pytest.mark.parametrize(
    ("bulk", "alone_up_to"),
    [
        ((1000, 1.2), 0),  # Label Studio is told not to recount
        ((1000, 2.0 + 1.2), 16),  # 10,000 tasks, few predictions
        ((1000, 15.0 + 1.2), 126),  # with more of them
        ((1, 205.0), 1725),  # 100,000 tasks
    ],
)
def test_what_a_recount_took_decides_from_then_on(bulk: tuple[int, float], alone_up_to: int) -> None:
    costs = PushCosts()
    costs.note_bulk(1, *bulk)
    assert costs.one_by_one(1, alone_up_to) or alone_up_to == 0
    assert not costs.one_by_one(1, alone_up_to + 1)


def test_projects_differ_and_the_last_request_counts() -> None:
    costs = PushCosts()
    costs.note_bulk(1, 100, 100.0)
    assert costs.one_by_one(1, 500)
    assert not costs.one_by_one(2, 500)
    costs.note_bulk(1, 100, 100 * WITHIN_S)
    assert not costs.one_by_one(1, 1)


def test_a_slow_label_studio_makes_bulk_worth_it_sooner() -> None:
    costs = PushCosts()
    costs.note_bulk(1, 1, 10 * ALONE_S)
    assert costs.one_by_one(1, 9)
    costs.note_each(9, 9 * 10 * ALONE_S)
    assert not costs.one_by_one(1, 9)


def test_no_time_is_no_negative_recount() -> None:
    costs = PushCosts()
    costs.note_bulk(1, 10**6, 0.1)
    assert not costs.one_by_one(1, 1)
