"""What the full labelling configuration keeps beside ticks: stars, critique, edits, and earlier rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.preferences import preferences_of, read_annotation
from illume_plugin.types import Annotation, Origin, Preference, Verdict

RECORDED = Path(__file__).parent / "stored" / "full_annotation_interactive.json"
F, U = Verdict.FITS, Verdict.UNFIT
TEXTS = ("it rains", "the ground is wet", "the sun shines")


def annotation_of(*regions: Any) -> Annotation:
    return Annotation(1, 5, 2, "2026-01-01T00:00:00.000000Z", False, 7, None, regions)


def cand(*texts: str, originals: tuple[str, ...] | None = None) -> dict[str, Any]:
    provenance = {"model_version": "v0001", "texts": list(originals or texts)}
    return {"from_name": "cand", "value": {"text": list(texts)}, "meta": {"illume": provenance}}


def choices(name: str, *ticks: str) -> dict[str, Any]:
    return {"from_name": name, "value": {"choices": list(ticks)}}


def written(name: str, *texts: Any) -> dict[str, Any]:
    return {"from_name": name, "value": {"text": list(texts)}}


def rating(name: str, stars: Any) -> dict[str, Any]:
    return {"from_name": name, "value": {"rating": stars}}


def finished(*texts: str, **more: Any) -> str:
    return json.dumps({"round": 1, "model_version": "v0001", "cand": list(texts), **more})


def by_text(*regions: Any) -> Mapping[str, Preference]:
    return {each.text: each for each in preferences_of(annotation_of(*regions))}


SHOWN = cand(*TEXTS)


def test_a_recorded_annotation_with_two_rounds() -> None:
    found = preferences_of(read_annotation(76, json.loads(RECORDED.read_text())))
    told = {each.text[:24]: each for each in found}
    assert [(text, each.verdict, each.turn, each.best) for text, each in told.items()] == [
        ("people are holding umbre", F, 1, False),
        ("both pedestrians keep an", F, 1, False),
        ("people walk under open u", U, 2, False),
        ("puddles cover the ground", F, 2, True),
        ("drops are falling everyw", U, 2, False),
        ("it is raining", U, 1, False),
        ("the people are standing ", U, 1, False),
        ("the sky is blue and the ", U, 1, False),
    ]
    best = told["puddles cover the ground"]
    assert best.origin is Origin.EDITED
    assert best.original == "puddles cover the ground and both people keep their umbrellas open"
    assert (best.before, best.refinement) == ("it is raining", "name the umbrellas and the puddles")
    # recorded with five stars: a fifth is beyond our scale, and so not known
    assert (best.helpful, best.honest, best.harmless) == (4, None, 4)
    # still on screen in the second round, but said of the first
    critique = "3 is true but says nothing about rain; 4 contradicts the picture"
    assert {each.text for each in found if each.critique == critique} == {
        "it is raining",
        "the people are standing on a street in the city",
        "the sky is blue and the sun casts sharp shadows on the ground",
    }
    assert all(each.critique in {"", critique} for each in found)
    assert {each.version for each in found} == {"illume-1"}


@pytest.mark.parametrize(
    ("ticks", "best", "rated"),
    [
        (("c1", "c2"), ("c2",), "the ground is wet"),
        (("c1",), (), "it rains"),
        (("c1", "c2"), (), None),
        (("c1", "c2"), ("c3",), None),
        (("none",), (), None),
    ],
)
def test_stars_belong_to_the_best_or_only_one(ticks: Any, best: Any, rated: str | None) -> None:
    regions = [SHOWN, choices("fits", *ticks), choices("best", *best), rating("helpful", 3)]
    found = preferences_of(annotation_of(*regions))
    assert [each.text for each in found if each.helpful == 3] == ([rated] if rated else [])
    assert all(each.honest is None and each.harmless is None for each in found)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(1, 1), (4, 4), (0, None), (5, None), (-1, None), (2.0, None), ("3", None), (True, None), (None, None)],
)
def test_stars_are_whole_numbers_from_1_to_4(given: Any, kept: int | None) -> None:
    assert by_text(SHOWN, choices("fits", "c1"), rating("honest", given))["it rains"].honest == kept


@pytest.mark.parametrize(
    ("ticks", "criticised"),
    [
        (("c1",), {"the ground is wet", "the sun shines"}),
        (("none",), set(TEXTS)),
        (("c1", "c2", "c3"), set(TEXTS)),
    ],
)
def test_a_critique_is_of_what_does_not_fit(ticks: Any, criticised: set[str]) -> None:
    found = by_text(
        SHOWN, choices("fits", *ticks), written("critique", " too ", "vague"), written("own", "x")
    )
    assert {text for text, each in found.items() if each.critique} == criticised
    assert {each.critique for each in found.values()} <= {"", "too vague"}


@pytest.mark.parametrize(
    ("shown", "originals", "original"),
    [
        (("it pours", *TEXTS[1:]), TEXTS, "it rains"),
        (("it rains", *TEXTS[1:]), TEXTS, ""),
        (("it pours",), TEXTS, ""),  # a row was taken away: nobody knows which it was
    ],
)
def test_what_an_edit_was_made_from(shown: Any, originals: Any, original: str) -> None:
    found = by_text(cand(*shown, originals=originals), choices("fits", "c1"))
    assert found[shown[0]].original == original


# -- rounds ----------------------------------------------------------------------------------------------

ROUND_1 = ("a", "b", "c")
ROUND_2 = cand("a", "d")


@pytest.mark.parametrize(
    ("said", "before"),
    [
        ({"fits": ["c1"]}, "b"),
        ({"fits": ["c1", "c2", "c3"], "best": ["c2"]}, "b"),
        ({"fits": ["c1", "c2", "c3"]}, "a"),
        ({"fits": []}, "a"),
        ({}, "a"),
    ],
)
def test_what_a_refinement_is_about(said: dict[str, Any], before: str) -> None:
    log = written("log", finished(*ROUND_1, refine=" shorter ", **said))
    found = by_text(ROUND_2, choices("fits", "c2"), log)
    assert (found["d"].turn, found["d"].before, found["d"].refinement) == (2, before, "shorter")
    assert (found["a"].turn, found["a"].before, found["a"].refinement) == (1, "", "")


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        ({"fits": ["c1", "c3"]}, {"b": U, "c": F}),
        ({"fits": ["c9"]}, {}),  # without a tick it may never have been read
        ({"fits": []}, {}),
        ({"fits": "c1"}, {}),
    ],
)
def test_verdicts_of_an_earlier_round_count(said: dict[str, Any], judged: dict[str, Verdict]) -> None:
    found = by_text(ROUND_2, choices("fits", "c2"), written("log", finished(*ROUND_1, **said)))
    assert {text: each.verdict for text, each in found.items()} == {"a": U, "d": F, **judged}


def test_the_last_verdict_of_a_wording_counts() -> None:
    log = [finished("a", "b", fits=["c1"]), finished("a", "B.", "c", fits=["c2"])]
    found = by_text(cand("c", "d"), choices("fits", "c1"), written("log", *log))
    assert {text: each.verdict for text, each in found.items()} == {"c": F, "d": U, "a": U, "B.": F}


def test_each_round_has_its_own_critique() -> None:
    log = [finished("a", "b", fits=["c1"], critique=["first"])]
    log.append(finished("a", "c", fits=["c1"], critique=["first", "second"]))
    regions = [cand("a", "d"), choices("fits", "c1"), written("log", *log)]
    found = by_text(*regions, written("critique", "first", "second", "third"))
    assert {text: each.critique for text, each in found.items()} == {
        "a": "",
        "b": "first",
        "c": "second",
        "d": "third",
    }


def test_texts_of_ones_own_have_no_round() -> None:
    log = written("log", finished(*ROUND_1, fits=["c1"], refine="shorter"))
    found = by_text(ROUND_2, choices("fits", "c1"), written("own", "mine"), log)
    assert (found["mine"].turn, found["mine"].before) == (1, "")


@pytest.mark.parametrize(
    "row", ["", "{", "[]", "3", "{}", '{"cand": 3}', '{"cand": []}', '{"cand": [null, " "]}', "[" * 5000]
)
def test_rows_of_the_log_that_cannot_be_read_are_passed_over(row: str) -> None:
    regions = [ROUND_2, choices("fits", "c2")]
    assert by_text(*regions, written("log", row)) == by_text(*regions)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
ROUNDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.lists(st.sampled_from(["a", "b", "c1", "c2"]), max_size=3)
        for name in ("cand", "fits", "best", "critique", "refine", "model_version")
    },
).map(json.dumps)


@settings(deadline=None)
@given(st.lists(ROUNDS | st.text(max_size=5), max_size=4), JSON, JSON)
def test_hostile_feedback_is_ignored_not_raised(rows: list[str], stars: Any, critique: Any) -> None:
    regions = [cand("a", "b"), choices("fits", "c1"), written("log", *rows), rating("helpful", stars)]
    regions.append({"from_name": "critique", "value": {"text": critique}})
    for each in preferences_of(annotation_of(*regions)):
        assert each.text.strip() == each.text != ""
        assert each.helpful in {None, 1, 2, 3, 4}
        assert 1 <= each.turn <= len(rows) + 1
        assert bool(each.before) == bool(each.refinement)
        assert each.turn > 1 or not each.before
