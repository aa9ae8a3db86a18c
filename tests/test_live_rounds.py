"""A wish, its answer, and what the annotation then says: read back with the reader of annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SELECT, task
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

import label_config
from backend.service import Service
from illume_plugin.errors import UnavailableError
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.label_config import parse_label_config
from illume_plugin.live_rounds import MAX_ROUNDS, LiveRound, answered, failed, live_round, nothing
from illume_plugin.predictions import arrange, check_prediction, render_prediction
from illume_plugin.preferences import preferences_of
from illume_plugin.store import projects
from illume_plugin.types import BASE_VERSION, Annotation, Candidate, CandidateSet, Origin, Preference, Verdict

RECORDED = Path(__file__).parent / "stored" / "full_interactive_request.json"
FULL = label_config.read("full")
CONFIG = parse_label_config(FULL)
F, U = Verdict.FITS, Verdict.UNFIT
FIRST = ("it rains", "the ground is wet", "the sun shines")


def candidates(*texts: str, version: str = "v0002") -> CandidateSet:
    return arrange(
        [Candidate(text, 0.5, 1, logprob_mean=-1.0) for text in texts],
        project_id=2,
        task_id=1,
        version=version,
        plan="plan",
    )


def on_screen(*texts: str, **provenance: Any) -> dict[str, Any]:
    held = {"model_version": "v0001", "texts": list(texts), "round": 1, "kept": 0, **provenance}
    return {"from_name": "cand", "type": "textarea", "value": {"text": list(texts)}, "meta": {"illume": held}}


def choices(name: str, *ticks: str) -> dict[str, Any]:
    return {"from_name": name, "type": "choices", "value": {"choices": list(ticks)}}


def written(name: str, *texts: str) -> dict[str, Any]:
    return {"from_name": name, "type": "textarea", "value": {"text": list(texts)}}


def asked(*regions: dict[str, Any]) -> LiveRound:
    found = live_round(CONFIG, {"result": list(regions)})
    assert found is not None
    return found


def drawn(screen: Sequence[dict[str, Any]], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The screen after Label Studio has drawn an answer: a control's value is replaced."""
    new = {region["from_name"]: region for region in answer["result"]}
    return [each for each in screen if each["from_name"] not in new] + list(new.values())


def read(regions: Sequence[dict[str, Any]]) -> dict[str, Preference]:
    said = Annotation(2, 1, 7, "2026-01-01T00:00:00.000000Z", False, 7, None, tuple(regions))
    return {each.text: each for each in preferences_of(said)}


def value(answer: dict[str, Any], name: str) -> Any:
    (region,) = (each for each in answer["result"] if each["from_name"] == name)
    ((_, held),) = region["value"].items()
    return held


def test_the_recorded_request() -> None:
    context = json.loads(RECORDED.read_text())["params"]["context"]
    found = live_round(CONFIG, context)
    assert found is not None
    assert (found.wish.round, found.wish.text, found.wish.rows) == (
        1,
        "name the umbrellas and the puddles",
        8,
    )
    assert found.wish.before == "it is raining"  # the first that does not fit
    assert [each.text[:10] for each in found.kept] == ["people are", "both pedes"]
    assert found.best == 1
    assert len(found.wish.shown) == 5


def test_what_is_ticked_stays_and_new_ones_follow() -> None:
    screen = [on_screen(*FIRST), choices("fits", "c2"), choices("best", "c2"), written("refine", "say why")]
    answer = answered(CONFIG, asked(*screen), candidates("drops fall", "puddles everywhere"))
    texts = value(answer, "cand")
    assert texts[0] == "the ground is wet"
    assert set(texts[1:]) == {"drops fall", "puddles everywhere"}
    assert value(answer, "fits") == ["c1"]
    assert value(answer, "best") == ["c1"]
    assert value(answer, "state") == []
    assert check_prediction(CONFIG, answer) == []


def test_both_rounds_are_read_from_the_annotation() -> None:
    screen = [
        on_screen(*FIRST),
        choices("fits", "c2"),
        written("critique", "too short"),
        written("refine", "say why"),
    ]
    after = drawn(screen, answered(CONFIG, asked(*screen), candidates("drops fall", "puddles everywhere")))
    shown = next(each for each in after if each["from_name"] == "cand")["value"]["text"]
    ticks = ["c1", f"c{shown.index('drops fall') + 1}"]
    told = read([each for each in after if each["from_name"] != "fits"] + [choices("fits", *ticks)])
    assert {text: (each.verdict, each.turn, each.version) for text, each in told.items()} == {
        "the ground is wet": (F, 1, "v0001"),
        "it rains": (U, 1, "v0001"),
        "the sun shines": (U, 1, "v0001"),
        "drops fall": (F, 2, "v0002"),
        "puddles everywhere": (U, 2, "v0002"),
    }
    assert told["drops fall"].before == "it rains"
    assert told["drops fall"].refinement == "say why"
    assert told["it rains"].critique == "too short"
    assert told["puddles everywhere"].critique == ""
    assert told["the ground is wet"].position == 2  # where it stood when it was judged


def test_an_edited_row_stays_edited_through_two_rounds() -> None:
    edited = on_screen("it rains a lot", *FIRST[1:], texts=list(FIRST))
    screen = [edited, choices("fits", "c1"), written("refine", "more")]
    screen = drawn(screen, answered(CONFIG, asked(*screen), candidates("drops fall")))
    screen = [each for each in screen if each["from_name"] != "refine"] + [written("refine", "more", "again")]
    second = asked(*screen)
    assert second.wish.round == 2
    assert {"it rains", "it rains a lot", "drops fall", "the sun shines"} <= second.wish.shown
    screen = drawn(screen, answered(CONFIG, second, candidates("umbrellas are open", version="v0003")))
    told = read(screen)
    assert (told["it rains a lot"].origin, told["it rains a lot"].original) == (Origin.EDITED, "it rains")
    assert (told["it rains a lot"].turn, told["it rains a lot"].version) == (1, "v0001")
    assert "it rains" not in told  # nothing was said of the text as it was sampled
    assert {text: each.version for text, each in told.items()} == {
        "it rains a lot": "v0001",
        "the ground is wet": "v0001",
        "the sun shines": "v0001",
        "drops fall": "v0002",
        "umbrellas are open": "v0003",
    }
    assert told["umbrellas are open"].turn == 3


def test_who_wrote_what_in_a_trial_is_not_forgotten() -> None:
    shared = on_screen(*FIRST, versions=[["v0001", "v0002"], ["v0002"], ["v0001"]])
    screen = [shared, choices("fits", "c1", "c2"), written("refine", "more")]
    told = read(drawn(screen, answered(CONFIG, asked(*screen), candidates("drops fall", version="v0001"))))
    assert {text: (each.version, each.shared_with) for text, each in told.items()} == {
        "it rains": ("v0001", "v0002"),
        "the ground is wet": ("v0002", None),
        "the sun shines": ("v0001", None),
        "drops fall": ("v0001", None),
    }


def test_none_fits_is_remembered_when_others_are_asked_for() -> None:
    screen = [on_screen(*FIRST), choices("fits", "none"), written("refine", "more")]
    after = drawn(screen, answered(CONFIG, asked(*screen), candidates("drops fall")))
    assert value({"result": after}, "fits") == []
    told = read([each for each in after if each["from_name"] != "fits"] + [choices("fits", "c1")])
    assert {text: each.verdict for text, each in told.items()} == {
        "drops fall": F,
        "it rains": U,
        "the ground is wet": U,
        "the sun shines": U,
    }


def test_what_was_not_read_is_not_judged() -> None:
    screen = [on_screen(*FIRST), written("refine", "more")]
    after = drawn(screen, answered(CONFIG, asked(*screen), candidates("drops fall")))
    told = read([each for each in after if each["from_name"] != "fits"] + [choices("fits", "c1")])
    assert list(told) == ["drops fall"]


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"result": []},
        {"result": "x"},
        {"result": [None, 3, {"from_name": "cand"}]},
        {"result": [on_screen(*FIRST)]},
        {"result": [written("refine", "more")]},
        {"result": [on_screen(*FIRST), written("refine", "more"), written("log", "{}")]},
        {"result": [on_screen(" "), written("refine", "more")]},
    ],
)
def test_what_asks_for_nothing_changes_nothing(context: dict[str, Any]) -> None:
    assert live_round(CONFIG, context) is None


def test_a_configuration_without_a_log_has_no_live_rounds() -> None:
    context = {"result": [on_screen(*FIRST), written("refine", "more")]}
    assert live_round(parse_label_config(SELECT), context) is None
    without = FULL.replace('<TextArea name="log" toName="image" smart="false"/>', "")
    assert live_round(parse_label_config(without), context) is None


def test_a_failure_is_told_and_the_next_wish_is_answered() -> None:
    screen = [on_screen(*FIRST), choices("fits", "c1"), written("refine", "more")]
    answer = failed(CONFIG, asked(*screen), "v0001")
    assert value(answer, "state") == ["failed"]
    assert {each["from_name"] for each in answer["result"]} == {"log", "state"}
    screen = drawn(screen, answer)
    assert live_round(CONFIG, {"result": screen}) is None
    again = [each for each in screen if each["from_name"] != "refine"] + [written("refine", "more", "again")]
    found = asked(*again)
    assert (found.wish.round, found.wish.text) == (1, "again")
    told = read(drawn(again, answered(CONFIG, found, candidates("drops fall"))))
    assert told["drops fall"].refinement == "again"


def test_a_wish_that_nobody_answered_does_not_stop_the_next_one() -> None:
    screen = [on_screen(*FIRST), choices("fits", "c1"), written("refine", "lost", "more")]
    found = asked(*screen)
    assert (found.unanswered, found.wish.text) == (("lost",), "more")
    screen = drawn(screen, answered(CONFIG, found, candidates("drops fall")))
    assert len(value({"result": screen}, "log")) == 2
    assert live_round(CONFIG, {"result": screen}) is None


def test_nothing_new_leaves_everything_as_it_is() -> None:
    screen = [on_screen(*FIRST), choices("fits", "c1"), written("refine", "more")]
    answer = answered(CONFIG, asked(*screen), replace(candidates("x"), candidates=()))
    assert value(answer, "state") == ["nothing new"]
    assert {each["from_name"] for each in answer["result"]} == {"log", "state"}


def test_no_row_is_free() -> None:
    texts = [f"reason {n}" for n in range(10)]
    screen = [on_screen(*texts), choices("fits", *(f"c{n}" for n in range(1, 11))), written("refine", "more")]
    assert asked(*screen).wish.rows == 0


def test_rounds_come_to_an_end() -> None:
    log = [
        json.dumps({"round": n, "cand": [f"text {n}"], "refine": "more"}) for n in range(1, MAX_ROUNDS + 1)
    ]
    wishes = ["more"] * (MAX_ROUNDS + 1)
    screen = [on_screen(*FIRST), written("refine", *wishes), written("log", *log)]
    assert asked(*screen).wish.rows == 0


def test_a_long_wish_is_cut() -> None:
    assert len(asked(on_screen(*FIRST), written("refine", "x" * 5000)).wish.text) == 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
REGION = st.fixed_dictionaries(
    {"from_name": st.sampled_from(["cand", "fits", "best", "refine", "log", "critique", "state"])},
    optional={
        "value": st.fixed_dictionaries({}, optional={"text": JSON, "choices": JSON}),
        "meta": st.fixed_dictionaries(
            {},
            optional={
                "illume": st.fixed_dictionaries(
                    {}, optional={"texts": JSON, "versions": JSON, "model_version": JSON, "round": JSON}
                )
            },
        ),
    },
)


@given(st.lists(REGION, max_size=6))
def test_no_context_breaks_it(regions: list[dict[str, Any]]) -> None:
    found = live_round(CONFIG, {"result": regions})
    if found is not None:
        answer = answered(CONFIG, found, candidates("drops fall"))
        assert json.dumps(answer, allow_nan=False)
        assert live_round(CONFIG, {"result": drawn(regions, answer)}) is None


# -- through the app ------------------------------------------------------------------------------------


@pytest.fixture
def full(service: Service) -> int:
    """Project 2, connected with full.xml."""
    with service.store.write() as conn:
        projects.put(conn, 2, title="test", label_config=FULL, now=1.0)
    return 2


def ask(client: FlaskClient, regions: Sequence[dict[str, Any]], label_config: str = FULL) -> dict[str, Any]:
    body = {
        "tasks": [task(1)],
        "project": "2.1",
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": {"result": list(regions)}},
    }
    got = client.post("/predict", json=body)
    assert got.status_code == 200, got.text
    (answer,) = got.get_json()["results"]
    return dict(answer)


def test_a_wish_over_http(client: FlaskClient, full: int, service: Service) -> None:
    first = render_prediction(CONFIG, candidates("a dog reason 0 by None", "it has fur"))
    screen = [*first["result"], written("refine", "more")]  # type: ignore[misc]
    answer = ask(client, screen)
    texts = value(answer, "cand")
    assert sorted(texts) == ["a dog reason 1 by None", "a dog reason 2 by None"]  # reason 0 was shown
    assert ask(client, screen) == answer  # the same wish, the same answer
    with service.store.read() as conn:
        assert projects.get(conn, 2).active_version == answer["model_version"]


def test_the_call_after_a_submit_over_http(client: FlaskClient, full: int) -> None:
    assert ask(client, []) == nothing(BASE_VERSION)


def test_more_tasks_than_one_ask_for_nothing(client: FlaskClient, full: int) -> None:
    context = {"result": [on_screen(*FIRST), written("refine", "more")]}
    body = {
        "tasks": [task(1), task(2)],
        "project": "2.1",
        "label_config": FULL,
        "params": {"context": context},
    }
    assert client.post("/predict", json=body).get_json()["results"] == [nothing(BASE_VERSION)] * 2


def test_select_answers_with_nothing(client: FlaskClient, connected: int) -> None:
    assert ask(client, [on_screen(*FIRST), written("refine", "more")], SELECT) == nothing(BASE_VERSION)


def test_a_model_that_fails_is_told(
    client: FlaskClient, full: int, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise UnavailableError("The server is away.", todo="Start it.")

    monkeypatch.setattr(service.engine.generator(), "draw", fail)
    answer = ask(client, [on_screen(*FIRST), written("refine", "more")])
    assert value(answer, "state") == ["failed"]


def test_a_task_that_cannot_be_sampled_is_told(client: FlaskClient, full: int) -> None:
    body = {
        "tasks": [task(1, image="/missing.png")],
        "project": "2.1",
        "label_config": FULL,
        "params": {"context": {"result": [on_screen(*FIRST), written("refine", "more")]}},
    }
    (answer,) = client.post("/predict", json=body).get_json()["results"]
    assert value(answer, "state") == ["failed"]


def test_the_draws_know_the_wish(client: FlaskClient, full: int, service: Service) -> None:
    seen: list[SampleRequest] = []
    generator: Any = service.engine.generator()
    draw = generator.draw

    def note(requests: Sequence[SampleRequest], *args: Any, **more: Any) -> Any:
        seen.extend(requests)
        return draw(requests, *args, **more)

    generator.draw = note
    ask(client, [on_screen(*FIRST), choices("fits", "c1"), written("refine", "say why")])
    assert [(each.wish.text, each.wish.before) for each in seen if each.wish] == [
        ("say why", "the ground is wet"),
        ("", "the ground is wet"),
    ]
