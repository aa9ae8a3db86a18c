"""Predictions: the choice and order of candidates, the JSON, and the check before it leaves."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.identity import wording
from illume_plugin.label_config import parse_label_config
from illume_plugin.predictions import arrange, check_prediction, render_prediction
from illume_plugin.preferences import preferences_of, read_annotation
from illume_plugin.types import Candidate, CandidateSet, Origin, Searched, Side, Verdict

CONFIG = parse_label_config((Path(__file__).parents[1] / "label_config" / "select.xml").read_text())
IDENTITY: dict[str, Any] = {"project_id": 1, "task_id": 2, "version": "v0003", "plan": "abcd"}
LOGPROBS = st.none() | st.floats()
CANDIDATES = st.lists(
    st.builds(Candidate, st.text(max_size=12), st.just(0.5), st.integers(0, 9), st.just(""), LOGPROBS)
)


def candidates(*texts: str, logprob: float | None = -1.0) -> list[Candidate]:
    return [Candidate(text, 0.6, seed, logprob_mean=logprob) for seed, text in enumerate(texts)]


def arranged(*texts: str) -> CandidateSet:
    return arrange(candidates(*texts), **IDENTITY)


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([], []),
        (["", "  ", "\n", "..."], []),
        (["a  dog\nruns "], ["a dog runs"]),
        (["It rains.", "it rains", "IT  RAINS"], ["IT RAINS"]),
        (["b", "a"], ["a", "b"]),
    ],
)
def test_empty_and_repeated_texts_go(texts: list[str], kept: list[str]) -> None:
    assert sorted(arranged(*texts).texts) == kept


def test_the_likeliest_stay_and_the_unscored_go_first() -> None:
    scored = [Candidate(f"text {k}", 0.6, k, logprob_mean=-float(k)) for k in range(4)]
    unscored = [Candidate("unscored", 0.6, 9), Candidate("broken", 0.6, 10, logprob_mean=math.nan)]
    kept = arrange([*unscored, *scored], **IDENTITY, limit=3)
    assert sorted(kept.texts) == ["text 0", "text 1", "text 2"]
    assert sorted(arrange([*unscored, *scored[:1]], **IDENTITY).texts) == ["broken", "text 0", "unscored"]


def test_of_a_repeated_wording_the_likelier_stays() -> None:
    twice = [
        Candidate("it rains", 0.3, 1, logprob_mean=-2.0),
        Candidate("It rains.", 0.9, 2, logprob_mean=-1.0),
    ]
    assert arrange(twice, **IDENTITY).texts == ["It rains."]


@pytest.mark.parametrize(
    ("logprobs", "score"),
    [
        ([], 0.0),
        ([None], 0.0),
        ([math.nan, None], 0.0),
        ([math.inf], 0.0),
        ([-math.inf], 0.0),
        ([0.0], 1.0),
        ([3.0], 1.0),
        ([-1e6], 0.0),
        ([-2.0, math.log(0.25), None], 0.25),
    ],
)
def test_score(logprobs: list[float | None], score: float) -> None:
    given_ = [Candidate(f"text {k}", 0.6, k, logprob_mean=value) for k, value in enumerate(logprobs)]
    assert arrange(given_, **IDENTITY).score == pytest.approx(score)


def test_the_order_is_pinned() -> None:
    # the seed is stored in annotations; the same seed must give the same order for ever
    shown = arranged("a", "b", "c", "d", "e")
    assert (shown.order_seed, shown.texts) == (2681916706581378, ["c", "d", "b", "a", "e"])


def test_the_order_depends_on_the_identity() -> None:
    letters = [chr(ord("a") + k) for k in range(8)]
    orders = {tuple(arrange(candidates(*letters), **{**IDENTITY, "task_id": k}).texts) for k in range(20)}
    assert len(orders) > 15


def test_every_place_is_as_likely() -> None:
    first = [
        arrange(candidates("a", "b", "c", "d"), **{**IDENTITY, "task_id": k}).texts[0] for k in range(400)
    ]
    # 400 draws of probability 1/4: mean 100, standard deviation 8.7; the draws are fixed, so no chance here
    assert all(70 < first.count(letter) < 130 for letter in "abcd")


@settings(deadline=None)
@given(CANDIDATES, st.randoms(use_true_random=False), st.integers(-1, 12))
def test_arranging_depends_on_the_set_alone(found: list[Candidate], random: Any, limit: int) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = arrange(found, **IDENTITY, limit=limit), arrange(shuffled, **IDENTITY, limit=limit)
    assert one == other
    assert len(one.texts) <= max(0, min(limit, 10))
    assert len({wording(text) for text in one.texts}) == len(one.texts)
    assert all(text.strip() for text in one.texts)
    assert 0.0 <= one.score <= 1.0
    assert 0 <= one.order_seed < 2**53


def test_render() -> None:
    shown = arranged("it rains", "the ground is wet")
    prediction = render_prediction(CONFIG, shown)
    assert prediction == {
        "model_version": "v0003",
        "score": pytest.approx(math.exp(-1)),
        "result": [
            {
                "id": "illume-cand",
                "from_name": "cand",
                "to_name": "image",
                "type": "textarea",
                "value": {"text": shown.texts},
                "meta": {
                    "illume": {
                        "round": 1,
                        "kept": 0,
                        "model_version": "v0003",
                        "plan": "abcd",
                        "order_seed": shown.order_seed,
                        "texts": shown.texts,
                        "scores": [-1.0, -1.0],
                    }
                },
            }
        ],
    }
    assert check_prediction(CONFIG, prediction) == []


def test_figures_travel_with_the_texts_where_there_are_any() -> None:
    scored = Candidate("it rains", 0.6, 1, logprob_mean=-1.0, i2c=0.123456, pmi=math.nan, rank=1.0)
    shown = arrange([scored, *candidates("the ground is wet")], **IDENTITY, dropped={"loop": 1})
    region = render_prediction(CONFIG, shown)["result"][0]
    found = dict(zip(region["value"]["text"], region["meta"]["illume"]["i2c"], strict=True))
    assert found == {"it rains": 0.1235, "the ground is wet": None}
    assert sorted(region["meta"]["illume"]["rank"], key=str) == [1.0, None]
    assert not {"pmi", "relevance"} & set(region["meta"]["illume"])
    assert shown.dropped == {"loop": 1}
    assert check_prediction(CONFIG, render_prediction(CONFIG, shown)) == []


def test_the_side_of_a_search_travels_with_the_texts() -> None:
    best = Candidate("it rains", 0.6, 1, searched=Searched(1.0, (1.0,), (-1.0,), side=Side.BEST))
    middle = Candidate("it is wet", 0.6, 2, searched=Searched(0.5, (0.5,), (-2.0,)))
    region = render_prediction(CONFIG, arrange([best, middle], **IDENTITY))["result"][0]
    found = dict(zip(region["value"]["text"], region["meta"]["illume"]["sides"], strict=True))
    assert found == {"it rains": "best", "it is wet": None}
    plain = render_prediction(CONFIG, arrange(candidates("it rains"), **IDENTITY))
    assert "sides" not in plain["result"][0]["meta"]["illume"]
    assert check_prediction(CONFIG, render_prediction(CONFIG, arrange([best, middle], **IDENTITY))) == []


def test_numbers_that_json_cannot_hold_go() -> None:
    broken = Candidate(
        "it rains",
        0.6,
        1,
        i2c=math.inf,
        pmi=math.nan,
        relevance=-math.inf,
        rank=math.nan,
        sentence_logprobs=(-math.inf,),
        sentence_relevances=(1.0, math.nan),
    )
    (kept,) = arrange([broken], **IDENTITY).candidates
    assert kept == Candidate("it rains", 0.6, 1)


def test_an_empty_set_renders_an_empty_result() -> None:
    prediction = render_prediction(CONFIG, arranged())
    assert prediction == {"model_version": "v0003", "score": 0.0, "result": []}
    assert check_prediction(CONFIG, prediction) == []


def test_no_more_rows_than_the_configuration_has() -> None:
    narrow = replace(CONFIG, slots=2)
    region = render_prediction(narrow, arranged("a", "b", "c"))["result"][0]
    assert len(region["value"]["text"]) == len(region["meta"]["illume"]["scores"]) == 2


@settings(deadline=None, max_examples=50)
@given(CANDIDATES)
def test_whatever_is_rendered_may_leave(found: list[Candidate]) -> None:
    prediction = render_prediction(CONFIG, arrange(found, **IDENTITY))
    assert check_prediction(CONFIG, prediction) == []
    assert json.loads(json.dumps(prediction, allow_nan=False)) == prediction


@settings(deadline=None)
@given(CANDIDATES, st.sets(st.integers(1, 10)))
def test_what_is_rendered_and_ticked_is_read_back(found: list[Candidate], ticks: set[int]) -> None:
    shown = arrange(found, **IDENTITY)
    region = render_prediction(CONFIG, shown)["result"]
    fits = {"from_name": "fits", "value": {"choices": [f"c{k}" for k in sorted(ticks)] or ["none"]}}
    payload = {"id": 5, "task": 2, "updated_at": "2026-01-01T00:00:00Z", "result": [*region, fits]}
    read = preferences_of(read_annotation(1, payload))
    seen_ticks = {k for k in ticks if k <= len(shown.texts)}
    if ticks and not seen_ticks:
        assert read == []
        return
    assert [p.text for p in read] == shown.texts
    assert {p.position for p in read if p.verdict is Verdict.FITS} == seen_ticks
    assert all(p.origin is Origin.CANDIDATE and p.version == "v0003" for p in read)


def spoil(path: list[str | int], value: object) -> dict[str, Any]:
    prediction: Any = copy.deepcopy(render_prediction(CONFIG, arranged("it rains", "the ground is wet")))
    inner = prediction
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return prediction  # type: ignore[no-any-return]


TEXT: list[str | int] = ["result", 0, "value", "text"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["score"], math.nan, "score"),
        (["score"], math.inf, "score"),
        (["score"], 1.7, "score"),
        (["score"], -0.1, "score"),
        (["score"], 10**400, "score"),
        (["score"], "high", "score"),
        (["score"], True, "score"),
        (["score"], None, "score"),
        (["model_version"], None, "model_version"),
        (["model_version"], "", "model_version"),
        (["model_version"], " ", "model_version"),
        (["model_version"], 3, "model_version"),
        (["result"], None, "result"),
        (["result"], {}, "result"),
        (["result"], ["x"], "region"),
        (["result"], [{}], "from_name"),
        (["result", 0, "from_name"], "nobody", "nobody"),
        (["result", 0, "to_name"], "nothing", "nothing"),
        (["result", 0, "type"], "choices", "choices"),
        (["result", 0, "value"], None, "cand"),
        (TEXT, "one text", "no list of texts"),
        (TEXT, [], "no list of texts"),
        (TEXT, ["good", " "], "text 2"),
        (TEXT, [3], "text 1"),
        (TEXT, [f"text {k}" for k in range(11)], "11 texts"),
        (["result", 0, "meta", "illume", "scores"], [math.nan], "strict JSON"),
        (["result", 0, "meta", "illume", "texts"], {"a", "b"}, "strict JSON"),
        (TEXT, ["\ud800"], "text 1"),
        (TEXT, ["a\x00b"], "text 1"),
        (["model_version"], "v\ud800", "strict JSON"),
    ],
)
def test_the_check_finds(path: list[str | int], value: object, named: str) -> None:
    problems = check_prediction(CONFIG, spoil(path, value))
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize("prediction", [None, [], "x", 3])
def test_the_check_takes_anything(prediction: object) -> None:
    assert check_prediction(CONFIG, prediction) != []


def test_missing_keys_are_found() -> None:
    assert len(check_prediction(CONFIG, {})) == 3
