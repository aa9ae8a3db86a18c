"""The usual event goes past Flask; all others, and all that goes wrong, are answered by the app as ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import SECRET, SELECT, recorded, task
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import Client, TestResponse

from backend.app import create_app
from backend.dashboard.traffic import traffic_of
from backend.service import Service
from backend.settings import SECRET_HEADER, Settings
from illume_plugin.errors import UnavailableError
from illume_plugin.store import Store
from illume_plugin.store.tables import events

SECRET_IN_ENVIRON = "HTTP_" + SECRET_HEADER.upper().replace("-", "_")
EVENT: dict[str, Any] = recorded("24")["body"]


@pytest.fixture
def app(settings: Settings, service: Service) -> Flask:
    return create_app(settings, service=service)


@pytest.fixture
def through_flask(app: Flask) -> list[str]:
    """The paths of the calls that Flask has seen."""
    seen: list[str] = []
    dispatch = app.full_dispatch_request

    def noting(*given: Any) -> Any:
        from flask import request

        seen.append(request.path)
        return dispatch(*given)

    app.full_dispatch_request = noting  # type: ignore[method-assign]
    return seen


def send(app: Flask, body: Any = EVENT, *, secret: str = SECRET, path: str = "/webhook") -> TestResponse:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client(app).post(path, data=sent, headers={SECRET_HEADER: secret})


def kept(store: Store) -> list[Any]:
    with store.read() as conn:
        return list(conn.execute(select(events.c.body).order_by(events.c.event_id)).scalars())


def requests(app: Flask) -> Mapping[tuple[str, int], int]:
    return traffic_of(app)._requests


@pytest.mark.parametrize("path", ["/webhook", f"/s/{SECRET}/webhook"])
def test_a_usual_event_is_kept_past_flask(
    app: Flask, service: Service, connected: int, through_flask: list[str], path: str
) -> None:
    secret = SECRET if path == "/webhook" else ""
    first, again = (send(app, secret=secret, path=path) for _ in range(2))
    assert (first.status_code, first.get_json()) == (201, {"stored": True})
    assert (again.status_code, again.get_json()) == (201, {"stored": False})
    assert [one["annotation"] for one in kept(service.store)] == [EVENT["annotation"]]
    assert through_flask == []
    assert requests(app) == {("webhook.receive", 201): 2}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/webhook", EVENT),
        ("/predict", {"tasks": [task(1), task(2)], "project": "2.1", "label_config": SELECT}),
    ],
)
def test_both_ways_answer_the_same(
    app: Flask, connected: int, through_flask: list[str], path: str, body: dict[str, Any]
) -> None:
    known = ("illume", SECRET)
    send(app, body, path=path)  # now it is here already
    usual = Client(app).post(path, json=body, auth=known)
    assert through_flask == []
    counted = dict(requests(app))
    app.wsgi_app.app._calls = {}  # type: ignore[attr-defined]
    by_flask = Client(app).post(path, json=body, auth=known)
    assert through_flask == [path]
    assert by_flask.status_code == usual.status_code
    assert by_flask.data == usual.data
    assert dict(by_flask.headers) == dict(usual.headers)
    assert requests(app) == {key: count + 1 for key, count in counted.items()}
    assert len(counted) == 1


def test_start_training_says_which_run(app: Flask, connected: int, through_flask: list[str]) -> None:
    answer = send(app, {"action": "START_TRAINING", "project": {"id": connected}})
    assert answer.status_code == 201
    assert answer.get_json() == {"job": "1", "new": True}
    assert through_flask == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"[1]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"action": ' + b'{"a": ' * 200 + b"1" + b"}" * 200 + b"}", 400),
        (b'{"action": 5}', 400),
        (b'{"action": "ANNOTATION_CREATED", "project": {"id": 1}}', 400),
    ],
)
def test_what_is_no_event_is_refused_by_the_app(
    app: Flask, service: Service, through_flask: list[str], body: bytes, status: int
) -> None:
    answer = send(app, body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["request_id"]
    assert through_flask == ["/webhook"]
    assert kept(service.store) == []


@pytest.mark.parametrize("secret", ["", SECRET[:-1] + "x", "\N{SNOWMAN}".encode().decode("latin-1")])
def test_nobody_gets_in_this_way(app: Flask, service: Service, through_flask: list[str], secret: str) -> None:
    assert send(app, secret=secret).status_code == 401
    assert through_flask == ["/webhook"]
    assert kept(service.store) == []


def test_wrong_secrets_are_counted_as_ever(app: Flask) -> None:
    assert [send(app, secret="wrong").status_code for _ in range(12)] == [401] * 10 + [429] * 2
    assert send(app).status_code == 201, "who has the right one is not shut out"


def test_other_methods_and_paths_are_the_apps(app: Flask, through_flask: list[str]) -> None:
    assert Client(app).get("/webhook", headers={SECRET_HEADER: SECRET}).status_code == 405
    assert send(app, path="/webhook/").status_code == 404
    assert send(app, path="//webhook").status_code in (308, 404)
    assert len(through_flask) == 3


def test_a_body_that_is_too_large_is_not_read(settings: Settings, service: Service) -> None:
    app = create_app(settings.model_copy(update={"max_body_bytes": 100}), service=service)
    assert send(app).status_code == 413


@pytest.mark.parametrize("length", ["", "-1", "+5", "1_0", "\N{SUPERSCRIPT TWO}", "9" * 30, "9" * 5000])
def test_lengths_that_are_none_are_for_the_app(app: Flask, through_flask: list[str], length: str) -> None:
    told = {"CONTENT_LENGTH": length, SECRET_IN_ENVIRON: SECRET}
    answer = Client(app).open("/webhook", method="POST", data=b"{}", environ_overrides=told)
    assert answer.status_code in (400, 413)
    assert through_flask == ["/webhook"]


def test_what_could_not_be_kept_is_tried_once(
    app: Flask, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def away(row: Any) -> bool:
        tried.append(row)
        raise UnavailableError("The database did not do what was asked: disk full")

    monkeypatch.setattr(service.inbox, "keep", away)
    answer = send(app)
    assert answer.status_code == 503
    assert "disk full" in answer.get_json()["detail"]
    assert len(tried) == 1


def test_our_own_faults_are_logged_and_not_told(
    app: Flask, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(row: Any) -> bool:
        raise ZeroDivisionError("a detail of ours")

    monkeypatch.setattr(service.inbox, "keep", broken)
    answer = send(app)
    assert answer.status_code == 500
    assert "a detail of ours" not in answer.get_data(as_text=True)
    assert "a detail of ours" in caplog.text


def test_the_text_that_was_hashed_is_the_text_that_is_stored(
    app: Flask, client: FlaskClient, service: Service
) -> None:
    body = {
        "action": "SOMETHING",
        "words": "caf\u00e9 \u4e2d \U0001f600 \\u0000",
        "n": [1.5, None, True, 2**70],
    }
    assert send(app, body).status_code == 201
    assert kept(service.store) == [body]
    odd = b'{"action": "ODD", "n": NaN, "s": "a\\u0000b\\ud800c"}'
    assert send(app, odd).status_code == 201
    with service.store.read() as conn:
        assert conn.execute(select(func.count()).select_from(events)).scalar_one() == 2
    assert kept(service.store)[1]["n"] is None
