"""Which rows make up an optimiser step."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from illume_plugin.training.steps import StepLoader, StepSampler  # noqa: E402

pytestmark = pytest.mark.torch

KEYS = st.lists(st.integers(0, 12), min_size=1, max_size=80)


@given(KEYS, st.integers(1, 20), st.integers(0, 3))
def test_every_row_once_in_as_many_steps_as_single_rows_have(
    keys: list[int], batch_size: int, seed: int
) -> None:
    steps = list(StepSampler(keys, batch_size=batch_size, seed=seed))
    assert sorted(index for step in steps for index in step) == list(range(len(keys)))
    assert len(steps) == len(StepSampler(keys, batch_size=batch_size, seed=seed))
    assert len(steps) == ceil(len(keys) / batch_size)
    assert all(0 < len(step) <= 2 * batch_size for step in steps)


@given(KEYS, st.integers(1, 20))
def test_families_stay_together(keys: list[int], batch_size: int) -> None:
    for step in StepSampler(keys, batch_size=batch_size, seed=0):
        for key in {keys[index] for index in step}:
            mine = [index for index in step if keys[index] == key]
            if keys.count(key) <= batch_size:
                assert len(mine) == keys.count(key)
            places = [step.index(index) for index in mine]
            assert keys.count(key) > batch_size or all(b - a == 1 for a, b in pairwise(places))


def test_single_rows_are_cut_as_ever() -> None:
    sampler = StepSampler(range(10), batch_size=4, seed=0)
    assert [len(step) for step in sampler] == [3, 4, 3]
    assert [len(step) for step in StepSampler(range(12), batch_size=4, seed=0)] == [4, 4, 4]


def test_the_order_follows_from_seed_and_epoch() -> None:
    keys = [index // 3 for index in range(60)]
    one, same, other = (StepSampler(keys, batch_size=7, seed=seed) for seed in (1, 1, 2))
    first = list(one)
    assert first == list(same)
    assert first != list(other)
    one.set_epoch(1)
    assert first != list(one)
    one.set_epoch(0)
    assert first == list(one)


def test_the_loader_gives_row_numbers_and_passes_the_epoch_on() -> None:
    sampler = StepSampler([0, 0, 1, 2], batch_size=2, seed=0)
    loader = StepLoader(4, sampler)
    first = list(loader)
    assert first == list(sampler)
    assert len(loader) == 2
    orders = []
    for epoch in range(4):
        loader.set_epoch(epoch)
        orders.append(list(loader))
    assert orders[0] == first
    assert any(order != first for order in orders)


@given(KEYS, st.integers(1, 20), st.data())
def test_terms_count_by_the_rows_that_they_bring(
    keys: list[int], batch_size: int, data: st.DataObject
) -> None:
    first = {key: place for place, key in reversed(list(enumerate(keys)))}  # brings its rows itself
    rows = [1 if first[key] == place else data.draw(st.integers(0, 2)) for place, key in enumerate(keys)]
    sampler = StepSampler(keys, batch_size=batch_size, seed=0, rows=rows)
    steps = list(sampler)
    assert sorted(index for step in steps for index in step) == list(range(len(keys)))
    assert len(steps) == len(sampler) <= ceil(sum(rows) / batch_size)
    assert all(sum(rows[index] for index in step) <= 2 * batch_size + 2 for step in steps)


def test_an_epoch_has_the_terms_that_are_drawn_for_it() -> None:
    sampler = StepSampler(range(6), batch_size=2, seed=0, drawn=lambda epoch: [0, 1, 2 + epoch, 4])
    assert sorted(index for step in sampler for index in step) == [0, 1, 2, 4]
    sampler.set_epoch(1)
    assert sorted(index for step in sampler for index in step) == [0, 1, 3, 4]
    assert len(sampler) == 2
