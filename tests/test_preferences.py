"""From webhook bodies to preferences: recorded requests, reading rules, and independence of order."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.errors import BadRequestError
from illume_plugin.preferences import (
    AnnotationDeleted,
    AnnotationSeen,
    ConfigSeen,
    Ledger,
    TaskDeleted,
    TaskSeen,
    TrainingRequested,
    fold,
    newer,
    observe,
    preferences_of,
    read_annotation,
    strip_secrets,
)
from illume_plugin.types import Annotation, Origin, Preference, Verdict

PAYLOADS = Path(__file__).parent / "payloads"
WEBHOOKS = sorted(path.name for path in PAYLOADS.glob("*_webhook_*.json"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def recorded(name: str) -> dict[str, Any]:
    body = json.loads((PAYLOADS / name).read_text())["body"]
    assert isinstance(body, dict)
    return body


# -- secrets ---------------------------------------------------------------------------------------------


def test_secrets_go_wherever_they_stand() -> None:
    body = {
        "access_token": "s",
        "project": {"id": 1, "token": "s", "task_data_login": "s", "task_data_password": "s"},
        "params": {"login": "s", "password": "s", "context": {"access_token": "s", "result": [1]}},
        "many": [{"project": {"token": "s", "id": 2}}],
    }
    assert strip_secrets(body) == {
        "project": {"id": 1},
        "params": {"context": {"result": [1]}},
        "many": [{"project": {"id": 2}}],
    }


def test_a_login_outside_params_is_no_secret_of_ours() -> None:
    assert strip_secrets({"task": {"data": {"login": "shown on the picture"}}})["task"]["data"]["login"]


def test_the_copy_shares_nothing() -> None:
    body = {"a": [{"b": {"c": [1]}}], "token": "s"}
    before = copy.deepcopy(body)
    stripped = strip_secrets(body)
    stripped["a"][0]["b"]["c"].append(2)
    assert body == before


def test_what_databases_refuse_is_replaced() -> None:
    stripped = strip_secrets({"n": [float("nan"), float("-inf"), 1.5], "t": "a\x00b\ud800", "\x00": 1})
    assert stripped == {"n": [None, None, 1.5], "t": "a\ufffdb?", "\ufffd": 1}


def nested(depth: int) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for _ in range(depth):
        body = {"a": body}
    return body


def test_depth_has_a_limit() -> None:
    assert strip_secrets(nested(100)) == nested(100)
    with pytest.raises(BadRequestError, match="100 levels"):
        strip_secrets(nested(101))


@pytest.mark.parametrize("body", [None, [], "x", 3, {"a": object()}, {"a": {1, 2}}])
def test_a_body_that_is_no_json_object_is_refused(body: Any) -> None:
    with pytest.raises(BadRequestError):
        strip_secrets(body)


@pytest.mark.parametrize("name", WEBHOOKS)
def test_no_recorded_webhook_keeps_its_invite_token(name: str) -> None:
    body = recorded(name)
    text = json.dumps(strip_secrets(body))
    assert '"token"' not in text
    assert "task_data_" not in text


# -- observing -------------------------------------------------------------------------------------------

A, D, T, C, R = AnnotationSeen, AnnotationDeleted, TaskSeen, ConfigSeen, TrainingRequested


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("20_webhook_START_TRAINING.json", [R]),
        ("21_webhook_TASKS_CREATED_upload.json", [T, T]),
        ("22_webhook_TASKS_CREATED_storage_sync.json", [T] * 4),
        ("23_webhook_TASKS_CREATED_import_with_annotations.json", [T]),
        ("24_webhook_ANNOTATION_CREATED.json", [T, A]),
        ("25_webhook_ANNOTATION_CREATED_custom_header.json", [T, A]),
        ("26_webhook_ANNOTATION_CREATED_skipped.json", [T, A]),
        ("27_webhook_ANNOTATION_CREATED_parent_prediction.json", [T, A]),
        ("28_webhook_ANNOTATION_UPDATED_patch.json", [T, A]),
        ("29_webhook_ANNOTATION_UPDATED_put.json", [T, A]),
        ("30_webhook_ANNOTATION_UPDATED_ground_truth.json", [T, A]),
        ("31_webhook_ANNOTATIONS_CREATED_from_predictions.json", [T, T, T, A, A, A]),
        ("32_webhook_ANNOTATIONS_DELETED_single.json", [D]),
        ("33_webhook_ANNOTATIONS_DELETED_bulk.json", [D, D]),
        ("34_webhook_TASKS_DELETED_api.json", [TaskDeleted]),
        ("35_webhook_TASKS_DELETED_dm.json", [TaskDeleted]),
        ("36_webhook_PROJECT_UPDATED_label_config.json", [C]),
        ("37_webhook_PROJECT_UPDATED_model_version.json", [C]),
        ("38_webhook_START_TRAINING_on_submit.json", [R]),
        ("39_webhook_ANNOTATION_CREATED_on_submit.json", [T, A]),
        ("40_webhook_slow_listener_client_gone.json", [T, A]),
        ("41_webhook_listener_500.json", [T, A]),
        ("42_webhook_send_payload_false.json", []),
        ("43_webhook_s3_annotation.json", [T, A]),
    ],
)
def test_every_recorded_webhook(name: str, kinds: list[type]) -> None:
    assert [type(observation) for observation in observe(recorded(name))] == kinds


def test_the_table_above_is_complete() -> None:
    (mark,) = [m for m in test_every_recorded_webhook.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    assert [row[0] for row in mark.args[1]] == WEBHOOKS


def test_a_recorded_annotation_in_full() -> None:
    task, seen = observe(recorded("24_webhook_ANNOTATION_CREATED.json"))
    assert task == TaskSeen(2, 1, {"image": "/data/upload/2/b81e7ce0-u0.png"}, "2026-11-21T23:48:54.183154Z")
    assert isinstance(seen, AnnotationSeen)
    annotation = seen.annotation
    assert (annotation.project_id, annotation.annotation_id, annotation.task_id) == (2, 2, 1)
    assert (annotation.annotator, annotation.lead_time, annotation.was_cancelled) == (1, 3.2, False)
    assert annotation.updated_at == "2026-11-21T23:48:53.984943Z"
    assert [region["value"] for region in annotation.result] == [{"choices": ["dog"]}]


def test_recorded_deletions_and_changes_in_full() -> None:
    assert observe(recorded("33_webhook_ANNOTATIONS_DELETED_bulk.json")) == [D(2, 4), D(2, 5)]
    assert observe(recorded("34_webhook_TASKS_DELETED_api.json")) == [TaskDeleted(2, 10)]
    (config,) = observe(recorded("36_webhook_PROJECT_UPDATED_label_config.json"))
    assert isinstance(config, ConfigSeen)
    assert (config.project_id, config.title) == (2, "contract")
    assert config.label_config.startswith("<View>")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("2026-11-21T23:48:53.984943Z", "2026-11-21T23:48:53.984943Z"),
        ("2026-11-21T23:48:53Z", "2026-11-21T23:48:53.000000Z"),
        ("2026-11-22T01:48:53.5+02:00", "2026-11-21T23:48:53.500000Z"),
        ("2026-11-21T23:48:53.984943", "2026-11-21T23:48:53.984943Z"),
    ],
)
def test_times_get_one_form(written: str, kept: str) -> None:
    assert read_annotation(1, {"id": 1, "task": 1, "updated_at": written}).updated_at == kept


@settings(deadline=None)
@given(
    st.lists(
        st.datetimes(timezones=st.timezones()).filter(lambda moment: 2 < moment.year < 9998),
        min_size=2,
        max_size=2,
    )
)
def test_comparing_texts_compares_times(moments: list[Any]) -> None:
    texts = [
        read_annotation(1, {"id": 1, "task": 1, "updated_at": moment.isoformat()}).updated_at
        for moment in moments
    ]
    seconds = [moment.timestamp() for moment in moments]
    assert (texts[0] < texts[1], texts[0] == texts[1]) == (seconds[0] < seconds[1], seconds[0] == seconds[1])


@pytest.mark.parametrize(
    ("lead_time", "kept"),
    [(3, 3.0), (0.5, 0.5), (-1, None), ("3", None), (True, None), (float("nan"), None), (10**400, None)],
)
def test_lead_time(lead_time: object, kept: float | None) -> None:
    payload = {"id": 1, "task": 1, "updated_at": "2026-01-01T00:00:00Z", "lead_time": lead_time}
    assert read_annotation(1, payload).lead_time == kept


@pytest.mark.parametrize("by", [7, {"id": 7, "email": "a@example.com"}])
def test_the_annotator_as_number_or_object(by: object) -> None:
    payload = {"id": 1, "task": {"id": 3}, "updated_at": "2026-01-01T00:00:00Z", "completed_by": by}
    assert (read_annotation(1, payload).annotator, read_annotation(1, payload).task_id) == (7, 3)


def created(**changes: Any) -> dict[str, Any]:
    annotation = {"id": 1, "task": 1, "updated_at": "2026-01-01T00:00:00Z", "result": []}
    return {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": annotation | changes}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, '"action"'),
        ({"action": None}, '"action"'),
        ({"action": 3, "project": {"id": 1}}, '"action"'),
        ({"action": "START_TRAINING", "project": None}, '"project.id"'),
        ({"action": "START_TRAINING", "project": {"id": "2"}}, '"project.id"'),
        ({"action": "ANNOTATION_CREATED", "project": {"id": 1}}, '"annotation"'),
        ({"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": 3}, '"annotation"'),
        ({"action": "ANNOTATIONS_CREATED", "project": {"id": 1}, "annotation": []}, '"annotation"'),
        ({"action": "ANNOTATIONS_CREATED", "project": {"id": 1}, "annotation": [3]}, '"annotation"'),
        ({"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": {"id": 1}}, '"annotations"'),
        ({"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": [{}]}, '"annotations[].id"'),
        ({"action": "TASKS_DELETED", "project": {"id": 1}}, '"tasks"'),
        ({"action": "TASKS_CREATED", "project": {"id": 1}, "tasks": [{"id": 1}]}, '"task.data"'),
        ({"action": "PROJECT_UPDATED", "project": {"id": 1}}, '"project.label_config"'),
        (created(id=0), '"annotation.id"'),
        (created(id=-4), '"annotation.id"'),
        (created(id=True), '"annotation.id"'),
        (created(id=1.0), '"annotation.id"'),
        (created(id=2**63), '"annotation.id"'),
        (created(task=None), '"annotation.task"'),
        (created(updated_at=None), '"annotation.updated_at"'),
        (created(updated_at="yesterday"), '"annotation.updated_at"'),
        (created(updated_at="0001-01-01T00:00:00+09:00"), '"annotation.updated_at"'),
        (created(result={"choices": []}), '"annotation.result"'),
        (created() | {"task": "x"}, '"task"'),
        (created() | {"task": {"id": 1, "data": []}}, '"task.data"'),
    ],
)
def test_malformed_bodies_name_the_key(body: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        observe(body)
    assert refused.value.what.startswith(named)


@pytest.mark.parametrize("action", ["PROJECT_DELETED", "LABEL_LINK_CREATED", "", "annotation_created"])
def test_unknown_actions_say_nothing(action: str) -> None:
    assert observe({"action": action, "project": "x"}) == []


ACTIONS = [
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
    "START_TRAINING",
]
HALF_GOOD = st.fixed_dictionaries(
    {
        "id": st.just(1) | JSON,
        "task": st.just(1) | JSON,
        "updated_at": st.just("2026-01-01T00:00:00Z") | JSON,
    },
    optional={"data": JSON, "result": JSON, "completed_by": JSON, "label_config": JSON, "lead_time": JSON},
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["annotation", "annotations", "task", "tasks", "project"]),
        JSON | HALF_GOOD | st.lists(HALF_GOOD, max_size=2),
    ),
    st.sampled_from(ACTIONS),
)
def test_any_body_is_read_or_refused(body: dict[str, Any], action: str) -> None:
    try:
        observations = observe(body | {"action": action})
    except BadRequestError:
        return
    ledger = Ledger()
    for observation in observations:
        ledger.add(observation)
    for annotation in ledger.annotations:
        preferences_of(annotation)


# -- the ledger ------------------------------------------------------------------------------------------


def tick_body(
    annotation_id: int, task_id: int, second: int, ticks: tuple[int, ...], skipped: bool
) -> dict[str, Any]:
    texts = ["it rains", "the ground is wet", "the sun shines"]
    result = [
        {
            "from_name": "cand",
            "value": {"text": texts},
            "meta": {"illume": {"model_version": "v0001", "texts": texts}},
        },
        {"from_name": "fits", "value": {"choices": [f"c{k}" for k in ticks] or ["none"]}},
    ]
    return {
        "action": "ANNOTATION_UPDATED",
        "project": {"id": 1},
        "task": {
            "id": task_id,
            "data": {"question": f"as of {second}"},
            "updated_at": f"2026-01-01T00:00:{second:02}Z",
        },
        "annotation": {
            "id": annotation_id,
            "task": task_id,
            "updated_at": f"2026-01-01T00:00:{second:02}Z",
            "was_cancelled": skipped,
            "result": result,
        },
    }


def deleted_body(action: str, key: str, deleted_id: int) -> dict[str, Any]:
    return {"action": action, "project": {"id": 1}, key: [{"id": deleted_id}]}


def config_body(second: int) -> dict[str, Any]:
    project = {
        "id": 1,
        "label_config": f"<View>{second}</View>",
        "updated_at": f"2026-01-01T00:00:{second:02}Z",
    }
    return {"action": "PROJECT_UPDATED", "project": project}


# annotation k stands on task k // 2; few ids and few seconds, so that events collide often
SECONDS = st.integers(0, 3)
UPDATES = st.builds(
    lambda annotation, second, ticks, skipped: tick_body(
        annotation, 1 + annotation // 2, second, ticks, skipped
    ),
    st.integers(1, 5),
    SECONDS,
    st.sampled_from([(), (1,), (2, 3)]),
    st.booleans(),
)
EVENTS = st.lists(
    st.one_of(
        UPDATES,
        UPDATES,
        UPDATES,
        st.builds(lambda k: deleted_body("ANNOTATIONS_DELETED", "annotations", k), st.integers(1, 5)),
        st.builds(lambda k: deleted_body("TASKS_DELETED", "tasks", k), st.integers(1, 3)),
        st.builds(config_body, SECONDS),
        st.just({"action": "START_TRAINING", "project": {"id": 1}}),
    ),
    max_size=12,
)


def read_all(ledger: Ledger) -> list[Preference]:
    return [preference for annotation in ledger.annotations for preference in preferences_of(annotation)]


@settings(deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_the_same_state(events: list[dict[str, Any]], random: Any) -> None:
    again = [*events, *random.choices(events, k=len(events))] if events else []
    random.shuffle(again)
    assert fold(again) == fold(events)
    assert read_all(fold(again)) == read_all(fold(events))


@settings(deadline=None)
@given(EVENTS, st.data())
def test_any_splitting_merges_to_the_same_state(events: list[dict[str, Any]], data: st.DataObject) -> None:
    parts: list[list[dict[str, Any]]] = [[], [], []]
    for event in events:
        for k in data.draw(st.sets(st.integers(0, 2), min_size=1)):
            parts[k].append(event)
    merged = Ledger()
    for part in data.draw(st.permutations(parts)):
        merged.merge(fold(part))
    assert merged == fold(events)
    merged.merge(merged)
    assert merged == fold(events)


@settings(deadline=None)
@given(EVENTS)
def test_the_state_is_what_a_plain_reading_of_all_events_gives(events: list[dict[str, Any]]) -> None:
    gone = {e["annotations"][0]["id"] for e in events if e["action"] == "ANNOTATIONS_DELETED"}
    tasks_gone = {e["tasks"][0]["id"] for e in events if e["action"] == "TASKS_DELETED"}
    latest: dict[int, str] = {}
    for event in events:
        if event["action"] == "ANNOTATION_UPDATED" and event["task"]["id"] not in tasks_gone:
            seen = event["annotation"]
            latest[seen["id"]] = max(seen["updated_at"], latest.get(seen["id"], ""))
    expected = {k: second.replace("Z", ".000000Z") for k, second in latest.items() if k not in gone}
    assert {a.annotation_id: a.updated_at for a in fold(events).annotations} == expected


def test_recorded_concurrent_updates_settle_on_the_last() -> None:
    events = json.loads((PAYLOADS / "50_concurrent_updates_order.json").read_text())["events"]
    ledger = Ledger()
    for event in events:
        result = [{"from_name": "c", "value": {"choices": event["value"]}}]
        payload = {
            "id": event["annotation_id"],
            "task": 1,
            "updated_at": event["updated_at"],
            "result": result,
        }
        ledger.add(AnnotationSeen(read_annotation(2, payload)))
    (annotation,) = ledger.annotations
    assert annotation.updated_at == max(event["updated_at"] for event in events)


def test_all_recorded_webhooks_in_any_order() -> None:
    bodies = [recorded(name) for name in WEBHOOKS]
    ledger = fold(bodies)
    assert ledger == fold(reversed(bodies)) == fold(bodies + bodies)
    deleted = {2, 4, 5}
    assert deleted.isdisjoint({annotation.annotation_id for annotation in ledger.annotations})
    assert {10, 11}.isdisjoint({task.task_id for task in ledger.tasks})
    assert [config.project_id for config in ledger.configs] == [2]


@settings(deadline=None)
@given(UPDATES, UPDATES)
def test_newer_is_a_strict_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = (read_annotation(1, body["annotation"] | {"id": 1, "task": 1}) for body in (one, other))
    assert newer(a, b) + newer(b, a) == (a != b)


def test_the_annotations_of_other_projects_are_apart() -> None:
    other = tick_body(1, 1, 0, (1,), False) | {"project": {"id": 2}}
    ledger = fold([tick_body(1, 1, 0, (1,), False), other, deleted_body("TASKS_DELETED", "tasks", 1)])
    assert [annotation.project_id for annotation in ledger.annotations] == [2]


# -- reading the ticks -----------------------------------------------------------------------------------

TEXTS = ("it rains", "the ground is wet", "the sun shines")
F, U = Verdict.FITS, Verdict.UNFIT


def annotation_of(*regions: Any, was_cancelled: bool = False) -> Annotation:
    return Annotation(1, 5, 2, "2026-01-01T00:00:00.000000Z", was_cancelled, 7, None, regions)


def cand(*texts: Any, originals: Any = TEXTS, version: Any = "v0001") -> dict[str, Any]:
    provenance = {"round": 1, "kept": 0, "model_version": version, "texts": list(originals)}
    return {
        "from_name": "cand",
        "type": "textarea",
        "value": {"text": list(texts)},
        "meta": {"illume": provenance},
    }


def choices(name: str, *values: Any) -> dict[str, Any]:
    return {"from_name": name, "type": "choices", "value": {"choices": list(values)}}


def own(*texts: Any) -> dict[str, Any]:
    return {"from_name": "own", "type": "textarea", "value": {"text": list(texts)}}


def fits(*values: Any) -> dict[str, Any]:
    return choices("fits", *values)


SHOWN = cand(*TEXTS)


def test_a_preference_in_full() -> None:
    first, *_ = preferences_of(annotation_of(SHOWN, fits("c1"), choices("best", "c1")))
    assert first == Preference(1, 2, 5, 7, "it rains", F, Origin.CANDIDATE, 1, "v0001", best=True)


@pytest.mark.parametrize(
    ("regions", "verdicts"),
    [
        ([SHOWN, fits("c1", "c3")], [F, U, F]),
        ([fits("c1", "c3"), SHOWN], [F, U, F]),
        ([SHOWN, fits("none")], [U, U, U]),
        ([SHOWN, fits("c2", "none")], [U, F, U]),
        ([SHOWN, fits("c2", "c7")], [U, F, U]),
        (
            [SHOWN, fits("c2", "c0", "c", "cc1", "C1", "c01", " c1", "c1 ", "c¹", "1", 1, None, ["c1"])],
            [U, F, U],
        ),
        ([SHOWN, fits("c7")], []),
        ([SHOWN, fits("c7", "none")], [U, U, U]),
        ([SHOWN, fits()], []),
        ([SHOWN], []),
        ([fits("c1")], []),
        ([fits("none")], []),
        ([SHOWN, {"from_name": "fits", "value": {"choices": "c1"}}], [F, U, U]),
        ([SHOWN, {"from_name": "fits", "value": {"choices": {"c1": 1}}}], []),
        ([SHOWN, {"from_name": "fits", "value": {"rating": 4}}], []),
        ([SHOWN, {"from_name": "fits", "value": None}, fits("c1")], [F, U, U]),
        ([SHOWN, fits("c1"), fits("c2")], [F, U, U]),
        ([cand("it rains", "", 5, "the sun shines"), fits("c1", "c2", "c3")], [F, U]),
        ([cand("it rains", "", 5, "the sun shines"), fits("c2", "c3")], []),
        ([cand(), fits("none")], []),
        ([], []),
    ],
)
def test_verdicts(regions: list[Any], verdicts: list[Verdict]) -> None:
    assert [p.verdict for p in preferences_of(annotation_of(*regions))] == verdicts


def test_a_skipped_annotation_says_nothing() -> None:
    assert preferences_of(annotation_of(SHOWN, fits("c1"), was_cancelled=True)) == []


@pytest.mark.parametrize(
    ("stars", "best"),
    [(("c1",), [1]), (("c2",), []), (("c9",), []), ((), []), (("c3", "c1"), [1]), ((None,), [])],
)
def test_best_counts_only_if_it_fits(stars: tuple[Any, ...], best: list[int]) -> None:
    read = preferences_of(annotation_of(SHOWN, fits("c1", "c3"), choices("best", *stars)))
    assert [p.position for p in read if p.best] == best


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        (
            cand("it rains hard", "the ground is wet", "the sun shines"),
            [("it rains hard", F, Origin.EDITED), ("the ground is wet", U, Origin.CANDIDATE)],
        ),
        (
            cand("it rains", "the ground is dry", "the sun shines"),
            [("it rains", F, Origin.CANDIDATE), ("the ground is dry", U, Origin.EDITED)],
        ),
        (
            cand(" it rains\n", "the ground is wet", "the sun shines"),
            [("it rains", F, Origin.CANDIDATE), ("the ground is wet", U, Origin.CANDIDATE)],
        ),
        # one row taken away: positions moved up, so the texts themselves are looked up
        (
            cand("the ground is wet", "the sun shines"),
            [("the ground is wet", F, Origin.CANDIDATE), ("the sun shines", U, Origin.CANDIDATE)],
        ),
        (
            cand("it rains", "new", originals=()),
            [("it rains", F, Origin.CANDIDATE), ("new", U, Origin.CANDIDATE)],
        ),
        (
            cand("it rains", "new", originals=(None, 4)),
            [("it rains", F, Origin.CANDIDATE), ("new", U, Origin.CANDIDATE)],
        ),
    ],
)
def test_edited_texts(shown: dict[str, Any], read: list[tuple[str, Verdict, Origin]]) -> None:
    found = preferences_of(annotation_of(shown, fits("c1")))
    assert [(p.text, p.verdict, p.origin) for p in found][:2] == read
    assert {p.version for p in found} == {"v0001"}


def test_an_edit_says_nothing_of_the_original() -> None:
    found = preferences_of(annotation_of(cand("it pours", *TEXTS[1:]), fits("c1")))
    assert "it rains" not in {p.text for p in found}


def test_own_texts_fit() -> None:
    found = preferences_of(annotation_of(SHOWN, fits("none"), own(" puddles show it ", "", 3)))
    assert [(p.text, p.verdict) for p in found][:3] == [(text, U) for text in TEXTS]
    assert found[3:] == [Preference(1, 2, 5, 7, "puddles show it", F, Origin.OWN, 0, None)]


def test_own_texts_of_an_annotation_without_ticks_say_nothing() -> None:
    assert preferences_of(annotation_of(SHOWN, own("puddles show it"))) == []
    assert preferences_of(annotation_of(SHOWN, fits(), own("puddles show it"))) == []


@pytest.mark.parametrize(
    ("texts", "ticks", "owned", "read"),
    [
        (("it rains", "It rains."), ("c2",), (), [("It rains.", F, 2)]),
        (("it rains", "It rains."), ("c1",), (), [("it rains", F, 1)]),
        (("it rains", "It rains."), ("none",), (), [("it rains", U, 1)]),
        (("it rains",), ("none",), ("It rains",), [("It rains", F, 0)]),
        (("it rains",), ("c1",), ("It rains",), [("it rains", F, 1)]),
    ],
)
def test_one_wording_gets_one_verdict(
    texts: tuple[str, ...],
    ticks: tuple[str, ...],
    owned: tuple[str, ...],
    read: list[tuple[str, Verdict, int]],
) -> None:
    found = preferences_of(annotation_of(cand(*texts, originals=texts), fits(*ticks), own(*owned)))
    assert [(p.text, p.verdict, p.position) for p in found] == read


def test_the_star_of_a_repeated_wording_is_kept() -> None:
    shown = cand("it rains", "It rains.", originals=())
    found = preferences_of(annotation_of(shown, fits("c1", "c2"), choices("best", "c2")))
    assert [(p.text, p.best) for p in found] == [("it rains", True)]


@pytest.mark.parametrize("version", [None, "", 3, ["v1"]])
def test_an_unknown_version(version: object) -> None:
    found = preferences_of(annotation_of(cand(*TEXTS, version=version), fits("c1")))
    assert {p.version for p in found} == {None}


@pytest.mark.parametrize("meta", [None, "x", {}, {"illume": None}, {"illume": []}])
def test_candidates_of_another_origin_are_read_too(meta: object) -> None:
    found = preferences_of(annotation_of(SHOWN | {"meta": meta}, fits("c1")))
    assert [(p.verdict, p.origin, p.version) for p in found] == [
        (v, Origin.CANDIDATE, None) for v in (F, U, U)
    ]


NAMES = st.sampled_from(["cand", "fits", "own", "best"])
HOSTILE_VALUE = JSON | st.dictionaries(
    st.sampled_from(["text", "choices"]),
    JSON | st.lists(JSON | st.sampled_from(["c1", "c2", "none", "c9999999999999"]), max_size=4),
)
HOSTILE_META = JSON | st.fixed_dictionaries(
    {"illume": JSON | st.dictionaries(st.sampled_from(["texts", "model_version"]), JSON)}
)
HOSTILE_REGION = st.fixed_dictionaries(
    {"from_name": NAMES | JSON, "value": HOSTILE_VALUE}, optional={"meta": HOSTILE_META}
)


@settings(deadline=None, max_examples=200)
@given(st.lists(HOSTILE_REGION | st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=5))
def test_hostile_results_are_ignored_not_raised(result: list[Mapping[str, Any]]) -> None:
    for preference in preferences_of(annotation_of(*result)):
        assert preference.text.strip() == preference.text != ""
        assert preference.position >= 0
        assert preference.verdict is F or not preference.best
