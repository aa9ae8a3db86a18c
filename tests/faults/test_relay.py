"""The proxy does to requests what it is told, and nothing when it is told nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from live.conftest import free_port
from loopback import Loopback

from faults import relay as relay_module
from faults.patience import rest
from faults.relay import Mode, Relay


@pytest.fixture
def server() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def relay(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    monkeypatch.setattr(relay_module, "LATE_S", 0.3)
    target = int(server.url.rsplit(":", 1)[1])
    made = Relay(free_port(), target, only="/webhook", spared=b"START")
    yield made
    made.end()


def told(relay: Relay, path: str = "/webhook", body: object = None) -> httpx.Response:
    return httpx.post(f"{relay.url}{path}", json=body or {"n": 1}, timeout=30, trust_env=False)


def test_what_passes_is_not_changed(relay: Relay, server: Loopback) -> None:
    server.answer("POST", "/webhook", 418, {"said": "é"}, headers={"X-Kept": "yes"})
    answer = told(relay)
    assert (answer.status_code, answer.json(), answer.headers["X-Kept"]) == (418, {"said": "é"}, "yes")
    assert [one.body for one in server.asked("POST", "/webhook")] == [{"n": 1}]


@pytest.mark.parametrize(
    ("mode", "status", "heard"),
    [
        (Mode.FAIL, 500, 0),
        (Mode.GARBAGE, 200, 0),
        (Mode.DROP, 200, 0),
        (Mode.DOUBLE, 200, 2),
        (Mode.LATE, 201, 1),
    ],
)
def test_what_it_does(relay: Relay, server: Loopback, mode: Mode, status: int, heard: int) -> None:
    server.answer("POST", "/webhook")
    relay.set(mode)
    assert told(relay).status_code == status
    relay.deliver()
    assert len(server.asked("POST", "/webhook")) == heard
    assert relay.suffered == {mode: 1}


@pytest.mark.parametrize(("path", "body"), [("/health", {}), ("/webhook", {"action": "START_TRAINING"})])
def test_what_it_spares(relay: Relay, server: Loopback, path: str, body: dict[str, str]) -> None:
    server.answer("POST", path)
    relay.set(Mode.DROP)
    assert told(relay, path, body).status_code == 200
    assert len(server.asked("POST", path)) == 1
    assert not relay.suffered


def test_nobody_listens_and_then_somebody_does(relay: Relay, server: Loopback) -> None:
    server.answer("POST", "/webhook")
    relay.set(Mode.REFUSE)
    with pytest.raises(httpx.ConnectError):
        told(relay)
    relay.set(Mode.PASS)
    assert told(relay).status_code == 200


def test_no_answer_comes(relay: Relay) -> None:
    relay.set(Mode.STALL)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{relay.url}/webhook", json={}, timeout=0.2, trust_env=False)


def test_time_in_which_nothing_ran_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine sleeps for an hour at each look."""
    clock = iter(range(0, 10**7, 3600))
    monkeypatch.setattr("faults.patience.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("faults.patience.time.sleep", lambda _: None)
    looks: list[int] = []
    assert not rest(5.0, until=lambda: bool(looks.append(1)))
    assert len(looks) == 11
