"""The short run: some named points and random kills on a real Label Studio; `make faults` is the long one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.conftest import LiveLabelStudio, label_studio  # noqa: F401 - a fixture

from faults.campaign import CHAPTER, plans
from faults.page import text_of
from faults.rounds import OF_A_COMMAND, OF_THE_BACKEND, OF_THE_CHILD, OF_THE_WORKER, WORLD, Round
from faults.world import World
from illume_plugin.fault_points import POINTS


@pytest.fixture
def world(label_studio: LiveLabelStudio, tmp_path: Path) -> Iterator[World]:  # noqa: F811 - the fixture
    made = World(label_studio, tmp_path / "world", seed=7, light=True)
    yield made
    made.end()


def test_every_point_is_armed_before_any_is_armed_again() -> None:
    known = [*OF_THE_BACKEND, *OF_A_COMMAND, *OF_THE_WORKER, *OF_THE_CHILD]
    assert sorted(known) == sorted(POINTS)
    made = plans(3, light=9, true=2)
    assert {point for plan in made for point in plan.points} == set(POINTS)
    assert {plan.broke for plan in made[: len(WORLD)]} == set(WORLD)
    assert made == plans(3, light=9, true=2) != plans(4, light=9, true=2)
    assert all(len({plan.light for plan in made if plan.number // CHAPTER == c}) < 2 for c in range(4))


def test_the_page_names_every_point_and_tells_what_did_not_heal() -> None:
    figures = {"annotations": 5, "lost": 1, "doubled": 0, "predictions": 4, "predictions_twice": 1}
    found = {**figures, "healed_in_s": 3.2, "problems": ["1 annotations lost, 0 doubled"]}
    one = {
        "number": 4, "light": True, "points": {"push.sent": 2}, "random": {"worker": 1}, "kills": 3,
        "broke": "disk full", "not_allowed": ["disk full"], "found": found,
    }  # fmt: skip
    text = text_of({"seed": 1, "machine": "m", "date": "d", "rounds": [one]})
    assert all(f"`{name}`" in text for name in POINTS)
    assert "| annotations lost | **1** |" in text
    assert "round 4: 1 annotations lost" in text
    assert "| disk full | 1 | not allowed on this machine |" in text
    assert "1 rounds with something wrong" in text


@pytest.mark.live
@pytest.mark.timeout(900)
def test_all_heals_by_itself(world: World) -> None:
    points = ("fold.before_commit", "push.sent", "publish.before_rename", "switch.before_commit")
    record = Round(world, 0, points, "studio answers garbage", random.Random(1)).play(random_kills=2)
    assert record.found.problems == []
    assert record.missed == []
    assert record.found.annotations > 0
    assert record.kills >= 2 * len(points)
