"""The wire contract with Label Studio, on requests it really sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import PAYLOADS, SECRET, SELECT, SayingGenerator, recorded, task
from flask.testing import FlaskClient

from backend.service import Service
from illume_plugin.label_config import parse_label_config
from illume_plugin.predictions import check_prediction
from illume_plugin.store import candidates, projects, runs

RECORDED = sorted(path.name.split("_")[0] for path in PAYLOADS.glob("*.json"))
WHOLE = [number for number in RECORDED if number not in {"50", "51"}]  # a log and a cut-off body


def predict(client: FlaskClient, tasks: list[Any], **more: Any) -> Any:
    return client.post("/predict", json={"tasks": tasks, "project": "2.1", "label_config": SELECT, **more})


@pytest.mark.parametrize("number", WHOLE)
def test_recorded_requests_never_fail_here(client: FlaskClient, connected: int, number: str) -> None:
    request = recorded(number)
    answer = client.open(our_path(request), method=request["method"], json=request["body"])
    assert answer.status_code < 500
    assert answer.is_json


def our_path(request: dict[str, Any]) -> str:
    """The recorder had two more listeners for the same events."""
    return "/webhook" if request["path"] in {"/webhook2", "/nopayload"} else str(request["path"])


@pytest.mark.parametrize("number", WHOLE)
def test_recorded_requests_with_our_configuration(client: FlaskClient, connected: int, number: str) -> None:
    request = recorded(number)
    body = ours(request["body"])
    path = our_path(request)
    answer = client.open(path, method=request["method"], json=body)
    assert answer.status_code in (200, 201), answer.get_data(as_text=True)
    if path == "/predict":
        check_answer(answer.get_json(), body)


def ours(body: Any) -> Any:
    """The recorded body, had the project had our labelling configuration and task data."""
    if not isinstance(body, dict):
        return body
    body = json.loads(json.dumps(body))
    for key in ("label_config", "schema"):
        if key in body:
            body[key] = SELECT
    for one in body.get("tasks") or []:
        if "data" in one:
            one["data"] = task(one["id"])["data"]
    return body


def check_answer(answer: dict[str, Any], body: dict[str, Any]) -> None:
    results = answer["results"]
    assert len(results) == len(body["tasks"])
    if (body.get("params") or {}).get("context"):
        assert [item["result"] for item in results] == [[] for _ in results]
        return
    config = parse_label_config(SELECT)
    for item, one in zip(results, body["tasks"], strict=True):
        assert check_prediction(config, item) == []
        assert item["model_version"] == "v0000"
        (region,) = item["result"]  # the texts alone: nothing is ticked beforehand
        assert sorted(region["value"]["text"]) == [f"a dog reason {k} by None" for k in range(3)], one["id"]


def test_health_needs_no_secret_and_no_model(stranger: FlaskClient, generator: SayingGenerator) -> None:
    assert stranger.get("/health").get_json()["status"] == "UP"
    assert generator.calls == []


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/versions", "/train", "/delete"])
def test_everything_else_needs_the_secret(stranger: FlaskClient, path: str) -> None:
    answer = stranger.post(path, json={})
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert stranger.post(path, json={}, headers={"X-Illume-Secret": "wrong"}).status_code == 401
    assert stranger.post(f"/s/wrong{path}", json={}).status_code == 401
    assert stranger.post(path, json={}, headers={"X-Illume-Secret": SECRET}).status_code != 401
    assert stranger.post(f"/s/{SECRET}{path}", json={}).status_code != 401


def test_a_wrong_secret_in_the_path_stays_out_of_the_answer(stranger: FlaskClient) -> None:
    assert "wr0ng" not in stranger.get("/s/wr0ng/versions").get_data(as_text=True)


def test_setup_gives_the_active_version_as_a_string(client: FlaskClient) -> None:
    answer = client.post("/setup", json={"project": "7.1795", "schema": SELECT, "extra_params": {"a": 1}})
    assert answer.get_json() == {"model_version": "v0000"}


def test_setup_names_the_tags_that_are_missing(client: FlaskClient) -> None:
    answer = client.post(
        "/setup", json={"project": "7.1", "schema": "<View><Image name='i' value='$i'/></View>"}
    )
    assert answer.status_code == 422
    assert "cand" in answer.get_json()["detail"]
    assert "fits" in answer.get_json()["detail"]


def test_predict_keeps_length_and_order(client: FlaskClient, connected: int) -> None:
    order = [5, 3, 9, 1, 7]
    results = predict(client, [task(i, answer=f"answer{i}") for i in order]).get_json()["results"]
    assert [item["result"][0]["value"]["text"][0].split()[0] for item in results] == [
        f"answer{i}" for i in order
    ]


def test_the_same_task_gets_the_same_candidates_in_the_same_order(
    client: FlaskClient, connected: int, generator: SayingGenerator
) -> None:
    first, second = (predict(client, [task(4)]).get_json() for _ in range(2))
    assert first == second
    assert generator.calls == [[4]], "the second answer comes from the store"


def test_one_bad_task_does_not_harm_the_others(client: FlaskClient, connected: int) -> None:
    answer = predict(client, [task(1), task(2, image="/missing.png"), task(3, question=""), task(4)])
    good, missing, blank, last = answer.get_json()["results"]
    assert answer.status_code == 200
    assert good["result"]
    assert last["result"]
    assert "missing" in missing["error"]
    assert "question" in blank["error"]
    # without a result Label Studio stores nothing, so it asks again once the task is mended
    assert "result" not in missing
    assert "result" not in blank


def test_an_answered_task_counts_as_given_to_label_studio(
    client: FlaskClient, connected: int, service: Service
) -> None:
    predict(client, [task(1), task(2, image="/missing.png")])
    with service.store.read() as conn:
        assert candidates.count(conn, 2, version="v0000", plan=service.plan.hash) == (1, 1)


def test_an_empty_context_changes_nothing_on_the_next_task(client: FlaskClient, connected: int) -> None:
    # Label Studio sends this after Submit; an answer with texts would overwrite the task just opened
    answer = predict(client, [task(1)], params={"context": {"result": []}})
    assert answer.get_json()["results"][0]["result"] == []


def test_a_null_context_is_no_context(client: FlaskClient, connected: int) -> None:
    answer = predict(client, [task(1)], params={"login": None, "password": None, "context": None})
    assert answer.get_json()["results"][0]["result"]


BAD_BODIES = [
    ("/predict", b"{", 400),
    ("/predict", b"[1, 2]", 400),
    ("/predict", b"null", 400),
    ("/predict", b"{}", 400),
    ("/predict", b'{"tasks": [], "project": "2.1"}', 400),
    ("/predict", b'{"tasks": "all", "project": "2.1"}', 400),
    ("/predict", b'{"tasks": [{"id": 1}], "project": "x"}', 400),
    ("/predict", b'{"tasks": [{"id": 1}], "project": null}', 400),
    ("/predict", b'{"tasks": [{"id": "1"}], "project": "2.1"}', 400),
    ("/predict", b'{"tasks": [7], "project": "2.1"}', 400),
    ("/predict", b'{"tasks": [{"id": 1}], "project": "99.1"}', 404),
    ("/predict", b'{"tasks": [{"id": 1}], "project": "2.1", "params": {"context": "now"}}', 400),
    ("/predict", b'{"tasks": [{"id": 1}], "project": "2.1", "label_config": "<View"}', 422),
    ("/setup", b"not json", 400),
    ("/setup", b'{"project": "99.1"}', 404),
    ("/setup", b'{"project": "2.1", "schema": 7}', 400),
    ("/setup", b'{"project": "2.1", "schema": "<!DOCTYPE a [<!ENTITY b \'c\'>]><View>&b;</View>"}', 422),
    ("/webhook", b"\xff\xfe", 400),
    ("/webhook", b"{}", 400),
    ("/webhook", b'{"action": 3}', 400),
    ("/webhook", b'{"action": "START_TRAINING", "project": {"id": 99}}', 404),
    ("/webhook", b'{"action": "ANNOTATION_CREATED", "project": {"id": 2}, "annotation": {"id": "x"}}', 400),
    ("/train", b'{"project": "99.1"}', 404),
    ("/job_status", b'{"job": "12345"}', 404),
]


@pytest.mark.parametrize(("path", "body", "status"), BAD_BODIES)
def test_bad_input_gets_a_clear_error_and_changes_nothing(
    client: FlaskClient, connected: int, service: Service, path: str, body: bytes, status: int
) -> None:
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == status
    problem = answer.get_json()
    assert problem["detail"]
    assert problem["request_id"]
    assert "Traceback" not in answer.get_data(as_text=True)
    with service.store.read() as conn:
        assert [project.project_id for project in projects.every(conn)] == [2]
        assert runs.recent(conn) == []


def test_ten_thousand_new_tasks_in_one_call_are_refused_with_the_way_out(
    client: FlaskClient, connected: int, generator: SayingGenerator
) -> None:
    answer = predict(client, [task(i) for i in range(1, 10_001)])
    assert answer.status_code == 413
    assert "illume presample --project 2" in answer.get_json()["todo"]
    assert generator.calls == []


def test_a_body_over_the_limit_is_refused(client: FlaskClient, service: Service) -> None:
    answer = client.post("/webhook", data=b" " * (service.settings.max_body_bytes + 1))
    assert answer.status_code == 413
    assert answer.content_type == "application/problem+json"


def test_an_unknown_path_and_a_wrong_method_are_problems_too(client: FlaskClient) -> None:
    assert client.get("/nothing").get_json()["status"] == 404
    assert client.get("/predict").get_json()["status"] == 405


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_versions(client: FlaskClient, connected: int, method: str) -> None:
    body = {"project": "2.1"} if method == "POST" else None
    assert client.open("/versions", method=method, json=body).get_json() == {"versions": ["v0000"]}


def test_train_and_job_status(client: FlaskClient, connected: int) -> None:
    job = client.post("/train", json={"project": "2.1"}).get_json()["job"]
    assert client.post("/job_status", json={"job": job}).get_json()["job_status"] == "queued"


@pytest.mark.parametrize("path", ["/validate", "/delete", "/duplicate_model", "/job_status"])
def test_calls_that_need_no_answer_get_an_empty_object(client: FlaskClient, path: str) -> None:
    answer = client.post(path, json={"project": "2.1"})
    assert (answer.status_code, answer.get_json()) == (200, {})


def test_validate_names_what_is_missing(client: FlaskClient) -> None:
    assert client.post("/validate", json={"config": SELECT}).status_code == 200
    assert client.post("/validate", json={"config": "<View/>"}).status_code == 422
