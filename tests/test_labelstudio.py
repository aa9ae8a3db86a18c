"""The door to Label Studio, against a loopback server that answers like it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, Asked, Loopback

from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio, TokenRefusedError
from illume_plugin.labelstudio.push_costs import HANDFUL
from illume_plugin.labelstudio.tokens import RENEW_BEFORE_S, AccessTokens

FAR = 4_000_000_000


def jwt(kind: str, end: float = FAR, name: str = "") -> str:
    """A token shaped like Label Studio's; nobody verifies the signature here."""
    claims = {"token_type": kind, "exp": end, "jti": name}
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2lnbmF0dXJl"


PAT = jwt("refresh", name="pat")


class FakeLabelStudio(Loopback):
    """Exchanges PAT for access tokens a1, a2, ... and takes the latest one only."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges = 0
        self.routes["POST", "/api/token/refresh/"] = self._exchange
        self.guard("GET", "/api/version/", {"release": "1.23.2"})

    @property
    def latest(self) -> str:
        return jwt("access", name=f"a{self.exchanges}")

    def guard(self, method: str, path: str, body: Any, status: int = 200) -> None:
        """A route that wants the latest access token."""

        def route(asked: Asked) -> Answer:
            if asked.headers.get("Authorization") != f"Bearer {self.latest}":
                return Answer(401, {"detail": "Authentication credentials were not provided."})
            return Answer(status, body)

        self.routes[method, path] = route

    def _exchange(self, asked: Asked) -> Answer:
        if asked.body != {"refresh": PAT}:
            return Answer(401, {"detail": "Token is invalid"})
        self.exchanges += 1
        return Answer(200, {"access": self.latest})


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    server = FakeLabelStudio()
    yield server
    server.close()


@pytest.fixture
def door(server: FakeLabelStudio) -> Iterator[LabelStudio]:
    with LabelStudio(server.url, PAT, timeout_s=5) as door:
        yield door


# -- tokens ------------------------------------------------------------------------------------------


def test_an_access_token_is_renewed_a_minute_before_its_end() -> None:
    now = [1000.0]
    issued: list[str] = []

    def exchange(token: str) -> str:
        assert token == PAT
        issued.append(jwt("access", now[0] + 300, f"{len(issued)}"))
        return issued[-1]

    tokens = AccessTokens(PAT, exchange, lambda: now[0])
    assert tokens.access() == tokens.access() == issued[0]
    now[0] += 300 - RENEW_BEFORE_S - 1
    assert tokens.access() == issued[0]
    now[0] += 1
    assert tokens.headers() == {"Authorization": f"Bearer {issued[1]}"}
    assert len(issued) == 2


def test_a_refused_token_is_dropped_once_however_many_requests_it_failed() -> None:
    issued = (jwt("access", name=f"{n}") for n in range(9))
    tokens = AccessTokens(PAT, lambda _: next(issued), lambda: 0.0)
    first = httpx.Headers(tokens.headers())
    assert tokens.refused(first)
    second = tokens.access()
    assert tokens.refused(first)  # a slower request with the first token: nothing new to drop
    assert tokens.access() == second != first["Authorization"]


def test_threads_that_start_together_exchange_once() -> None:
    together = threading.Barrier(8)
    exchanges: list[str] = []

    def exchange(_: str) -> str:
        exchanges.append(jwt("access", name=f"{len(exchanges)}"))
        return exchanges[-1]

    tokens = AccessTokens(PAT, exchange, lambda: 0.0)

    def ask(_: int) -> str:
        together.wait()
        return tokens.access()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {exchanges[0]}
    assert len(exchanges) == 1


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "no Label Studio token"),
        ("  \n", "no Label Studio token"),
        (jwt("access"), "five minutes"),
        (jwt("refresh", end=10), "expired"),
    ],
)
def test_a_token_that_cannot_work_is_refused_before_anything_is_sent(token: str, says: str) -> None:
    with pytest.raises(TokenRefusedError, match=says) as caught:
        AccessTokens(token, lambda _: pytest.fail("sent"), lambda: 1000.0)
    assert "Personal Access Token" in caught.value.todo


@given(st.text(min_size=1).filter(lambda text: text.strip() and text.count(".") != 2))
def test_whatever_is_no_jwt_is_sent_as_a_legacy_token(token: str) -> None:
    headers = AccessTokens(token, lambda _: pytest.fail("exchanged")).headers()
    assert headers == {"Authorization": f"Token {token.strip()}"}


@given(st.text())
def test_garbage_between_dots_is_no_jwt(middle: str) -> None:
    tokens = AccessTokens(f"a.{middle}.b", lambda _: jwt("access"))
    assert tokens.headers()["Authorization"].startswith(("Token ", "Bearer "))


def test_a_401_is_repeated_with_a_new_token_whatever_the_method(
    server: FakeLabelStudio, door: LabelStudio
) -> None:
    server.guard("POST", "/api/ml/7/train", {})
    assert door.version() == "1.23.2"
    server.exchanges += 1  # Label Studio restarted: the token that we hold is no longer the latest
    door.train(7)
    assert len(server.asked("POST", "/api/ml/7/train")) == 2
    assert len(server.asked("POST", "/api/token/refresh/")) == 2


def test_a_second_401_is_an_error(server: FakeLabelStudio, door: LabelStudio) -> None:
    server.answer("GET", "/api/version/", 401, {"detail": "Nobody knows you."})
    with pytest.raises(TokenRefusedError, match=r"401 to GET /api/version/: Nobody knows you\."):
        door.version()
    assert len(server.asked("GET", "/api/version/")) == 2


def test_a_legacy_token_is_sent_once_and_its_refusal_explained(server: FakeLabelStudio) -> None:
    said = "Authentication token no longer valid: legacy token authentication has been disabled"
    server.answer("GET", "/api/version/", 401, {"detail": said})
    with (
        LabelStudio(server.url, "0123456789abcdef") as door,
        pytest.raises(TokenRefusedError, match="switches those off"),
    ):
        door.version()
    assert [each.headers["Authorization"] for each in server.requests] == ["Token 0123456789abcdef"]


def test_the_token_is_in_no_error_and_no_request_but_the_exchange(
    server: FakeLabelStudio, door: LabelStudio
) -> None:
    server.answer("GET", "/api/projects/3/", 500, {"detail": "boom"})
    with pytest.raises(LabelStudioError) as caught:
        door.project(3)
    assert PAT not in repr(caught.value) + str(caught.value.__cause__)
    assert server.latest not in repr(caught.value)
    for asked in server.requests:
        assert (PAT in str(asked)) == (asked.path == "/api/token/refresh/")


# -- failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "fragments"),
    [
        (400, {"validation_errors": {"title": ["Too short."]}}, ["400", "title: Too short."]),
        (400, {"non_field_errors": ["<b>No</b> way"]}, ["400 to POST /api/ml/: No way."]),
        (400, ["first", {"x": "second"}], ["first; x: second."]),
        (
            403,
            {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"},
            ["ML_BLOCK_LOCAL_IP=false", "SSRF_PROTECTION_ENABLED=false", "half-made"],
        ),
        (403, {"detail": "Not yours."}, ["Not yours.", "not allowed", "may manage"]),
        (404, {"detail": "Gone."}, ["404", "Gone."]),
        (413, b"", ["413", "client_max_body_size"]),
        (429, {}, ["429", "try again"]),
        (500, b"<html><title>Server Error</title><p>x</html>", ["500", "Server Error.", "log"]),
        (502, b"<html>Bad gateway</html>", ["502", "Bad gateway.", "proxy"]),
        (503, {"detail": "x" * 5000}, ["503", "xxx..."]),
        (302, b"", ["302", "https://elsewhere.example/login"]),
        (200, b"<html>hello</html>", ["instead of JSON", "address"]),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_to_do(
    server: FakeLabelStudio, door: LabelStudio, status: int, body: Any, fragments: list[str]
) -> None:
    headers = {"Location": "https://elsewhere.example/login?next=secret"} if status == 302 else {}
    server.answer("POST", "/api/ml/", status, body, headers=headers)
    with pytest.raises(LabelStudioError) as caught:
        door.add_backend(1, "http://127.0.0.1:9090", "ILLUME")
    text = str(caught.value)
    assert "POST /api/ml/" in text
    for fragment in fragments:
        assert fragment in text
    assert "next=" not in text
    assert len(text) < 1200
    assert len(server.asked("POST", "/api/ml/")) == 1, "never repeated behind the caller's back"


def test_a_server_that_is_not_there(unused_port: int) -> None:
    with (
        LabelStudio(f"http://127.0.0.1:{unused_port}", PAT) as door,
        pytest.raises(LabelStudioError, match=r"cannot be reached for POST /api/token/refresh/.*Start Label"),
    ):
        door.version()


@pytest.fixture
def unused_port() -> int:
    server = Loopback()
    server.close()
    return server.port


def test_a_server_that_does_not_answer(server: FakeLabelStudio) -> None:
    def hang(_: Asked) -> Answer:
        server.closing.wait()
        return Answer()

    server.routes["GET", "/api/version/"] = hang
    with (
        LabelStudio(server.url, PAT, timeout_s=0.2) as door,
        pytest.raises(LabelStudioError, match=r"did not answer GET /api/version/ within 0\.2 s"),
    ):
        door.version()
    server.closing.set()


@pytest.mark.parametrize("answer", [{}, {"access": 5}, [], "text"])
def test_an_exchange_without_a_token(server: FakeLabelStudio, door: LabelStudio, answer: Any) -> None:
    server.answer("POST", "/api/token/refresh/", 200, answer)
    with pytest.raises(LabelStudioError, match="without an access token"):
        door.version()


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://host:port", "/path"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(LabelStudioError, match="opens in a browser"):
        LabelStudio(url, PAT)


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_label_studio_below_a_path(server: FakeLabelStudio, slash: str) -> None:
    for method, path in list(server.routes):
        server.routes[method, f"/team/ls{path}"] = server.routes.pop((method, path))
    with LabelStudio(f"{server.url}/team/ls{slash}", PAT) as door:
        assert door.version() == "1.23.2"


# -- what is asked and what is made of the answers -----------------------------------------------------


def test_tasks_come_once_each_while_others_vanish(server: FakeLabelStudio, door: LabelStudio) -> None:
    there = {
        number: {"id": number, "data": {"n": number}, "is_labeled": number % 2 == 0}
        for number in range(1, 31)
    }

    def page(asked: Asked) -> Answer:
        after = json.loads(asked.query["query"])["filters"]["items"][0]["value"]
        found = [task for number, task in sorted(there.items()) if number > after]
        there.pop(max(after - 1, 1), None)  # somebody deletes a task that we have passed
        return Answer(200, {"tasks": found[: int(asked.query["page_size"])], "total": len(there)})

    server.routes["GET", "/api/tasks/"] = page
    seen = list(door.tasks(4, page_size=7))
    assert [task.task_id for task in seen] == list(range(1, 31))
    assert all(task.data == {"n": task.task_id} for task in seen)
    assert [task.task_id for task in seen if task.is_labeled] == list(range(2, 31, 2))
    asked = server.asked("GET", "/api/tasks/")
    assert {each.query["include"] for each in asked} == {"id,data,is_labeled"}
    assert {each.query["fields"] for each in asked} == {"task_only"}
    assert {each.query["resolve_uri"] for each in asked} == {"false"}
    assert {each.query["project"] for each in asked} == {"4"}


def predictions(count: int) -> list[dict[str, Any]]:
    return [
        {"task": task, "result": [], "score": 0.5, "model_version": "v0001"} for task in range(1, count + 1)
    ]


def test_nothing_to_push_asks_nothing(server: FakeLabelStudio, door: LabelStudio) -> None:
    assert door.push_predictions(1, []) == 0
    assert server.requests == []


def test_a_handful_is_pushed_one_by_one(server: FakeLabelStudio, door: LabelStudio) -> None:
    server.guard("POST", "/api/predictions/", {"id": 1, "task": 1, "result": []}, 201)
    assert door.push_predictions(1, predictions(HANDFUL)) == HANDFUL
    assert [each.body for each in server.asked("POST", "/api/predictions/")] == predictions(HANDFUL)


def test_more_than_a_handful_goes_in_one_request(server: FakeLabelStudio, door: LabelStudio) -> None:
    sent = predictions(HANDFUL + 1)
    server.guard("POST", "/api/projects/1/import/predictions", {"created": len(sent)}, 201)
    assert door.push_predictions(1, sent) == len(sent)
    assert [each.body for each in server.asked("POST", "/api/projects/1/import/predictions")] == [sent]


@pytest.mark.parametrize("created", [0, HANDFUL])
def test_predictions_that_label_studio_drops_are_missed(
    server: FakeLabelStudio, door: LabelStudio, created: int
) -> None:
    server.guard("POST", "/api/projects/1/import/predictions", {"created": created}, 201)
    with pytest.raises(LabelStudioError, match=rf"stored {created} of the {HANDFUL + 1} predictions"):
        door.push_predictions(1, predictions(HANDFUL + 1))


def test_a_push_that_stops_halfway_says_how_far_it_came(server: FakeLabelStudio, door: LabelStudio) -> None:
    def route(asked: Asked) -> Answer:
        good = asked.body["task"] != 3
        return Answer(201, {"id": 1, "task": 1, "result": []}) if good else Answer(400, {"score": ["No."]})

    server.routes["POST", "/api/predictions/"] = route
    with pytest.raises(LabelStudioError, match=r"2 of 5 predictions .* task 3 was not: .*score: No\."):
        door.push_predictions(1, predictions(5))


def test_imported_tasks_are_counted(server: FakeLabelStudio, door: LabelStudio) -> None:
    server.guard("POST", "/api/projects/1/import", {"task_count": 2, "task_ids": [8, 9]}, 201)
    assert door.import_tasks(1, [{"a": 1}, {"a": 2}]) == [8, 9]
    (asked,) = server.asked("POST", "/api/projects/1/import")
    assert asked.body == [{"data": {"a": 1}}, {"data": {"a": 2}}]
    with pytest.raises(LabelStudioError, match="made 2 of the 3 tasks"):
        door.import_tasks(1, [{}, {}, {}])


def test_a_project_is_found_by_its_whole_title(server: FakeLabelStudio, door: LabelStudio) -> None:
    projects = [{"id": number, "title": title} for number, title in ((3, "Demo"), (1, "Demo 2"), (2, "Demo"))]
    server.guard("GET", "/api/projects/", {"count": 3, "results": projects})
    assert [project.project_id for project in door.projects_titled("Demo")] == [2, 3]


@pytest.mark.parametrize(("user", "method"), [("", "NONE"), ("illume", "BASIC_AUTH")])
def test_a_backend_is_added_with_its_credentials(
    server: FakeLabelStudio, door: LabelStudio, user: str, method: str
) -> None:
    made = {
        "id": 5,
        "project": 1,
        "url": "http://b",
        "title": "ILLUME",
        "state": "CO",
        "is_interactive": True,
    }
    server.guard("POST", "/api/ml/", made, 201)
    backend = door.add_backend(1, "http://b", "ILLUME", user=user, password="pw", is_interactive=True)
    assert (backend.backend_id, backend.state, backend.is_interactive, backend.error) == (5, "CO", True, "")
    (asked,) = server.asked("POST", "/api/ml/")
    assert asked.body["auth_method"] == method
    assert asked.body.get("basic_auth_pass") == ("pw" if user else None)


def test_a_webhook_keeps_its_secret_out_of_its_repr(server: FakeLabelStudio, door: LabelStudio) -> None:
    server.guard(
        "POST", "/api/webhooks/", {"id": 2, "url": "http://b/webhook", "headers": {"X-S": "hush"}}, 201
    )
    webhook = door.add_webhook(1, "http://b/webhook", headers={"X-S": "hush"})
    assert webhook.headers == {"X-S": "hush"}
    assert "hush" not in repr(webhook)


def test_a_number_that_is_none_is_nonsense(server: FakeLabelStudio, door: LabelStudio) -> None:
    server.guard("GET", "/api/current-user/whoami", {"email": "a@b.c"})
    with pytest.raises(LabelStudioError, match="None where a number belongs"):
        door.current_user()


def test_importing_the_door_loads_neither_the_sdk_nor_torch() -> None:
    code = "import sys, illume_plugin.labelstudio; print({'torch', 'label_studio_sdk'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
