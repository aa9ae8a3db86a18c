import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded.scene import FEWEST, MOST, NOVEL_PAIRS, Scene, Thing, sample_scene
from illume_plugin.errors import TaskError

SEEDS = st.integers(0, 2**32)
RED_CIRCLE: dict[str, Any] = {"place": 4, "size": "large", "color": "red", "shape": "circle"}


@given(SEEDS)
def test_a_sampled_scene_survives_json(seed: int) -> None:
    scene = sample_scene(random.Random(seed))
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


@given(SEEDS)
def test_a_sampled_scene_has_a_few_things_in_distinct_places_in_order(seed: int) -> None:
    places = [thing.place for thing in sample_scene(random.Random(seed)).things]
    assert FEWEST <= len(places) <= MOST
    assert places == sorted(set(places))


@given(SEEDS, st.booleans())
def test_a_scene_shows_a_held_back_pair_exactly_where_that_is_asked_for(seed: int, novel: bool) -> None:
    scene = sample_scene(random.Random(seed), novel=novel)
    assert scene.is_novel == novel
    assert novel == any((thing.color, thing.shape) in NOVEL_PAIRS for thing in scene.things)


def test_a_place_holds_its_thing_or_nothing() -> None:
    thing = Thing(**RED_CIRCLE)
    scene = Scene((thing,))
    assert [scene.at(place) for place in range(9)] == [thing if place == 4 else None for place in range(9)]


def test_layout_ignores_jitter_and_nothing_else() -> None:
    still = Scene((Thing(**RED_CIRCLE),))
    assert Scene((Thing(**RED_CIRCLE, dx=5.0, dy=-9.0),)).layout == still.layout
    for other in ({"place": 5}, {"size": "small"}, {"color": "blue"}, {"shape": "square"}):
        assert Scene((Thing(**(RED_CIRCLE | other)),)).layout != still.layout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"place": 9}, "9"),
        ({"place": -1}, "-1"),
        ({"color": "pink"}, "'pink'"),
        ({"shape": "red"}, "'red'"),
        ({"size": ""}, "''"),
        ({"dx": 9.5}, "9.5"),
        ({"dy": float("nan")}, "nan"),
    ],
)
def test_a_thing_outside_the_world_is_refused_with_its_value(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        Thing(**(RED_CIRCLE | wrong))


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        [3],
        [{}],
        [RED_CIRCLE | {"weight": 1}],
        [RED_CIRCLE | {"dx": "far"}],
        [RED_CIRCLE, RED_CIRCLE],
    ],
)
def test_json_that_is_no_scene_is_refused(data: Any) -> None:
    with pytest.raises(TaskError):
        Scene.from_json(data)
