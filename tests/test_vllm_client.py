"""Requests to a vLLM server: what is repeated, bounded, given up and said. No server, no torch."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from subprocess import run
from typing import Any

import httpx
import pytest
from loopback import Answer, Loopback

from illume_plugin.errors import ModelError, SettingsError, TaskError, UnavailableError
from illume_plugin.generation.stopping import SamplingStopped
from illume_plugin.generation.vllm.answers import Drawn, choices, served
from illume_plugin.generation.vllm.client import Limits, VllmClient
from illume_plugin.generation.vllm.failures import RefusedError

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]

KEY = "sesame-opens"


class Script:
    """A server that gives the same answers one after the other, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)


class Pauses(list[float]):
    """Waits no time and remembers for how long."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@contextmanager
def client_of(handler: Handler, **options: Any) -> Iterator[tuple[VllmClient, Pauses]]:
    pauses = Pauses()
    transport = httpx.MockTransport(handler)
    settings = {"api_key": KEY, "pause": pauses, "jitter": lambda: 1.0, **options}
    client = VllmClient("http://gpu:8000", transport=transport, **settings)
    try:
        yield client, pauses
    finally:
        client.close()


def fine(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body or {"fine": True})


def says(status: int, message: str = "no", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "code": status}}, headers=headers)


# repeating


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(status: int) -> None:
    script = Script(says(status), httpx.ReadError("hung up"), httpx.ConnectError("down"), fine())
    with client_of(script) as (client, pauses):
        assert client.post("/x", {"a": 1}) == {"fine": True}
    assert [request.content for request in script.requests] == [b'{"a":1}'] * 4
    assert pauses == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
def test_what_stays_wrong_is_asked_once(status: int) -> None:
    script = Script(says(status, "it says why"))
    with client_of(script) as (client, pauses), pytest.raises((ModelError, SettingsError), match="says why"):
        client.post("/x", {})
    assert (len(script.requests), pauses) == (1, [])


def test_waits_grow_up_to_a_limit_and_are_spread() -> None:
    limits = Limits(attempts=6, first_wait_s=1, longest_wait_s=5)
    for jitter, expected in ((1.0, [1, 2, 4, 5, 5]), (0.0, [0.5, 1, 2, 2.5, 2.5])):
        with client_of(Script(says(503)), limits=limits, jitter=lambda at=jitter: at) as (client, pauses):
            with pytest.raises(UnavailableError, match="answered 503"):
                client.get("/x")
            assert pauses == expected


@pytest.mark.parametrize(
    ("given", "waited"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.25), ("", 0.25)]
)
def test_a_busy_server_says_how_long_to_wait(given: str, waited: float) -> None:
    busy = says(429, **{"Retry-After": given})
    with client_of(Script(busy, fine())) as (client, pauses):
        client.get("/x")
        assert pauses == [waited]


@pytest.mark.parametrize(
    ("first", "asked"),
    [(says(500), 1), (httpx.ReadError("hung up"), 1), (httpx.ConnectError("down"), 2)],
)
def test_without_repeating_only_what_never_arrived_is_sent_again(
    first: httpx.Response | Exception, asked: int
) -> None:
    script = Script(first, fine())
    with client_of(script) as (client, _):
        if asked == 1:
            with pytest.raises((ModelError, UnavailableError)):
                client.post("/v1/load_lora_adapter", {}, repeat=False)
        else:
            client.post("/v1/load_lora_adapter", {}, repeat=False)
    assert len(script.requests) == asked


def test_an_outage_is_logged_once_for_all_requests(caplog: pytest.LogCaptureFixture) -> None:
    with client_of(Script(says(503))) as (client, _), pytest.raises(UnavailableError):
        client.post_all("/x", [{}] * 10)
    assert len([one for one in caplog.records if one.name.startswith("illume_plugin")]) == 1


# deadlines, limits, stopping


async def _never(request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_deadline_ends_a_request_that_nobody_answers() -> None:
    late = pytest.raises(UnavailableError, match=r"did not answer GET /x within 0\.02 s")
    with client_of(_never, limits=Limits(deadline_s=0.02)) as (client, _), late:
        client.get("/x")


def test_a_deadline_covers_all_attempts_and_tells_what_went_wrong() -> None:
    async def for_ever(seconds: float) -> None:
        await asyncio.Event().wait()

    limits = Limits(deadline_s=0.02)
    late = pytest.raises(UnavailableError, match=r"within 0\.02 s.*still loading")
    with client_of(Script(says(503, "still loading")), limits=limits, pause=for_ever) as (client, _), late:
        client.get("/x")


@pytest.mark.parametrize("callers", [1, 4])
def test_no_more_requests_are_in_flight_than_allowed_whoever_asks(callers: int) -> None:
    now, most, full = 0, 0, asyncio.Event()

    async def count(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()  # so that all three are seen together
        await asyncio.sleep(0)
        now -= 1
        return fine()

    with client_of(count, limits=Limits(in_flight=3)) as (client, _):
        threads = [threading.Thread(target=client.post_all, args=("/x", [{}] * 12)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 3


def test_answers_come_in_the_order_of_the_questions() -> None:
    async def echo(request: httpx.Request) -> httpx.Response:
        number = int(request.content.decode().partition(":")[2].rstrip("}"))
        for _ in range(20 - number):  # the later asked, the sooner answered
            await asyncio.sleep(0)
        return fine(number=number)

    with client_of(echo) as (client, _):
        found = client.post_all("/x", [{"number": i} for i in range(20)])
    assert [one["number"] for one in found] == list(range(20))


def hanging(cancelled: list[str]) -> Handler:
    """Refuses /1 when the others hang, which note that they were given up."""
    hung = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if request.content == b'{"first":true}':
            await hung.wait()
            return says(400, "that one is wrong")
        hung.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("given up")
            raise
        raise AssertionError

    return handler


def test_one_refusal_gives_the_other_requests_up() -> None:
    cancelled: list[str] = []
    with client_of(hanging(cancelled)) as (client, _):
        with pytest.raises(RefusedError, match="that one is wrong"):
            client.post_all("/x", [{"first": True}, {}, {}])
        client.post_all("/x", [])  # the loop has come round
    assert cancelled == ["given up"] * 2


def test_who_stops_waiting_stops_the_work() -> None:
    cancelled: list[str] = []
    began = threading.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("given up")
            raise
        raise AssertionError

    with client_of(handler) as (client, _):
        with pytest.raises(SamplingStopped):
            client.post_all("/x", [{}], stop=began.is_set)
        client.post_all("/x", [])
    assert cancelled == ["given up"]


# what is said


@pytest.mark.parametrize(
    ("answer", "error", "part"),
    [
        (says(401, "Unauthorized"), SettingsError, "ILLUME_VLLM_API_KEY"),
        (says(400, "This model's maximum context length is 512 tokens."), TaskError, "--max-model-len"),
        (says(429, "slow down"), UnavailableError, "slow down"),
        (says(307, "moved", location="http://elsewhere/"), RefusedError, "do not follow"),
        (httpx.Response(404, text="<h1>nginx</h1>"), RefusedError, "nginx"),
        (httpx.Response(404, json={"detail": "Not Found"}), RefusedError, "404 to GET /x: Not Found."),
        (httpx.Response(400, json={"error": "x" * 900}), RefusedError, "xxx..."),
        (
            httpx.Response(200, text="{", headers={"content-type": "application/json"}),
            ModelError,
            "vLLM's API",
        ),
        (httpx.ConnectError("no route"), UnavailableError, "cannot be reached for GET /x: no route."),
    ],
)
def test_failures_are_said_in_plain_words(
    answer: httpx.Response | Exception, error: type[Exception], part: str
) -> None:
    limits = Limits(attempts=2)
    with client_of(Script(answer), limits=limits) as (client, _), pytest.raises(error) as caught:
        client.get("/x")
    assert part in str(caught.value)
    assert KEY not in str(caught.value)


def test_an_answer_of_another_shape_is_said_to_be_one() -> None:
    with client_of(Script(fine())) as (client, _):
        answer = client.get("/v1/models")
        with pytest.raises(ModelError, match="http://gpu:8000 answered /v1/models with something other"):
            client.read("/v1/models", lambda: served(answer))


@pytest.mark.parametrize("url", ["", "gpu:8000", "ftp://gpu", "http://", "http://me:hush@gpu:8000"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        VllmClient(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://gpu:8000", "http://gpu:8000/", "http://gpu:8000/v1", "http://gpu:8000/v1/"]
)
def test_the_address_may_be_given_as_others_want_it(url: str) -> None:
    script = Script(fine())
    client = VllmClient(url, transport=httpx.MockTransport(script))
    client.get("/v1/models")
    client.close()
    assert str(script.requests[0].url) == "http://gpu:8000/v1/models"
    assert "authorization" not in script.requests[0].headers


def test_the_key_is_sent_and_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = Loopback()
    server.answer("POST", "/x", 500, {"error": {"message": "broken"}})
    server.routes["GET", "/x"] = lambda asked: Answer(
        200 if asked.headers["Authorization"] == f"Bearer {KEY}" else 401
    )
    # Another test may have silenced some of them.
    for name in ("", "httpx", "httpcore.connection", "httpcore.http11"):
        caplog.set_level(logging.DEBUG, name)
    client = VllmClient(server.url, api_key=KEY, limits=Limits(attempts=2, first_wait_s=0))
    try:
        client.get("/x")
        with pytest.raises(RefusedError) as caught:
            client.post("/x", {"a": 1})
    finally:
        client.close()
        server.close()
    assert len(caplog.records) > 10
    assert KEY not in caplog.text + str(caught.value) + repr(client) + repr(vars(client))


# answers


def choice(index: int, text: str | None, reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": reason, **more}


def test_choices_are_read_in_the_order_of_their_seeds() -> None:
    told = {"token_ids": [5, 2], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}}
    found = choices(
        {
            "choices": [
                choice(2, None),
                choice(0, " a dog ", **told),
                choice(1, "cut", "length", token_ids=[5]),
            ]
        }
    )
    assert [(one.text, one.ended) for one in found] == [("a dog", True), ("cut", False), ("", True)]
    assert [one.drawn for one in found] == [Drawn((5, 2), (-0.5, -0.25)), None, None]


def test_the_client_loads_no_torch() -> None:
    code = "import sys, illume_plugin.generation.vllm as v; v.VllmClient; assert 'torch' not in sys.modules"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
