"""Who is let in: wrong secrets are counted by where they come from, right ones are not shut out by others."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from conftest import SECRET
from flask import Request
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from werkzeug.test import EnvironBuilder

from backend import credentials
from backend.app import create_app
from backend.credentials import FAILURES, WINDOW_S, Failures, TooManyFailuresError, caller, same
from backend.dashboard.access import Gatekeeper
from backend.service import Service
from backend.settings import SECRET_LENGTH, Settings, load_settings
from illume_plugin.errors import SettingsError

PASSWORD = "correct horse battery"
WRONG = SECRET[:-1] + "x"


def call(address: str | None = "203.0.113.7", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = EnvironBuilder(path="/predict", headers=named).get_environ()
    if address is not None:
        environ["REMOTE_ADDR"] = address
    return Request(environ)


@pytest.mark.parametrize(
    ("address", "forwarded", "proxies", "counted"),
    [
        ("203.0.113.7", None, 0, "203.0.113.7"),
        ("203.0.113.7", "1.1.1.1", 0, "203.0.113.7"),  # nobody has said that there is a proxy
        ("10.0.0.1", "198.51.100.2", 1, "198.51.100.2"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.2", 1, "198.51.100.2"),  # the first one was made up by the caller
        ("10.0.0.1", "9.9.9.9, 198.51.100.2, 10.0.0.2", 2, "198.51.100.2"),
        ("10.0.0.1", None, 1, "10.0.0.1"),  # passed no proxy
        ("10.0.0.1", "198.51.100.2", 2, "10.0.0.1"),
        ("10.0.0.1", " , ", 1, "10.0.0.1"),
        ("::ffff:203.0.113.7", None, 0, "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", None, 0, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1%eth0", None, 0, "2001:db8:1:2::/64"),
        (None, None, 0, "a socket"),
        ("10.0.0.1", "x" * 999, 1, "x" * 64),
    ],
)
def test_where_a_call_comes_from(
    address: str | None, forwarded: str | None, proxies: int, counted: str
) -> None:
    headers = {} if forwarded is None else {"X_Forwarded_For": forwarded}
    assert caller(call(address, **headers), proxies) == counted


@given(st.text(max_size=20), st.text(max_size=20))
def test_secrets_are_compared_whatever_letters_they_have(one: str, other: str) -> None:
    assert same(one, other) is (one == other)
    assert same(one, one)


def test_failures_take_a_bounded_part_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "ADDRESSES", 100)
    failures = Failures()
    for number in range(1000):
        for _ in range(FAILURES + 5):
            failures.note(f"10.0.{number // 256}.{number % 256}")
    assert len(failures._times) == 100
    assert all(len(times) <= FAILURES for times in failures._times.values())
    with pytest.raises(TooManyFailuresError):
        failures.check("10.0.3.231")  # the last one, and not the first one
    failures.check("10.0.0.0")


# -- Label Studio's secret -----------------------------------------------------------------------------------


def guess(stranger: FlaskClient, way: str, **more: Any) -> int:
    """Show a wrong secret in one of the three ways."""
    match way:
        case "header":
            answer = stranger.post("/webhook", json={}, headers={"X-Illume-Secret": WRONG}, **more)
        case "basic":
            shown = base64.b64encode(f"illume:{WRONG}".encode()).decode()
            answer = stranger.post("/webhook", json={}, headers={"Authorization": f"Basic {shown}"}, **more)
        case _:
            answer = stranger.post(f"/s/{WRONG}/webhook", json={}, **more)
    return answer.status_code


@pytest.mark.parametrize("way", ["header", "basic", "path"])
def test_guessing_is_slowed_down_and_label_studio_is_not(stranger: FlaskClient, way: str) -> None:
    assert [guess(stranger, way) for _ in range(FAILURES + 2)] == [401] * FAILURES + [429] * 2
    answer = stranger.post("/webhook", json={"action": "X"}, headers={"X-Illume-Secret": WRONG})
    assert answer.headers["Retry-After"] == f"{WINDOW_S:.0f}"
    # Label Studio calls from the same address, as behind one proxy: its secret cannot be guessed, so it may
    right = stranger.post("/webhook", json={"action": "X"}, headers={"X-Illume-Secret": SECRET})
    assert right.status_code == 201


def test_a_made_up_address_does_not_hide_who_guesses(stranger: FlaskClient) -> None:
    shown = [
        guess(stranger, "path", environ_base={"HTTP_X_FORWARDED_FOR": f"10.1.2.{k}"})
        for k in range(FAILURES + 1)
    ]
    assert shown[-1] == 429


def test_behind_a_proxy_of_ours_others_are_not_counted_together(settings: Settings, service: Service) -> None:
    behind = settings.model_copy(update={"trusted_proxies": 1})
    guest = create_app(behind, service=service).test_client()
    for k in range(FAILURES + 1):
        assert guess(guest, "path", environ_base={"HTTP_X_FORWARDED_FOR": f"9.9.9.9, 10.1.2.{k}"}) == 401
    for _ in range(FAILURES):
        last = guess(guest, "path", environ_base={"HTTP_X_FORWARDED_FOR": "9.9.9.9, 10.1.2.99"})
    assert last == 401
    assert guess(guest, "path", environ_base={"HTTP_X_FORWARDED_FOR": "8.8.8.8, 10.1.2.99"}) == 429


def test_who_shows_nothing_is_no_guesser(stranger: FlaskClient) -> None:
    assert {stranger.post("/webhook", json={}).status_code for _ in range(FAILURES + 2)} == {401}


def test_a_secret_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_SECRET", "s" * (SECRET_LENGTH - 1))
    with pytest.raises(SettingsError, match="at least 16 characters") as caught:
        load_settings()
    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("name", ["LABEL_STUDIO_URL", "BACKEND_URL", "VLLM_URL"])
def test_addresses_hold_no_password(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ILLUME_{name}", "http://user:hush@somewhere:8080/path")
    with pytest.raises(SettingsError, match=f"ILLUME_{name}=.*no user name or password") as caught:
        load_settings()
    assert "hush" not in str(caught.value)


# -- the status page -----------------------------------------------------------------------------------------

AFAR: dict[str, Any] = {"base_url": "http://illume.example", "environ_base": {"REMOTE_ADDR": "203.0.113.7"}}


def login(password: str, user: str = "anna") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def guarded(settings: Settings, service: Service) -> Any:
    """Makes browsers, each with cookies of its own, for one app that wants the password."""
    service.settings = settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    return create_app(service.settings, service=service).test_client


def test_a_browser_that_was_in_is_not_shut_out_by_others(guarded: Any, connected: int) -> None:
    anna, guesser = guarded(), guarded()
    assert anna.get("/status/2", headers=login(PASSWORD), **AFAR).status_code == 200
    for _ in range(FAILURES):
        assert guesser.get("/status/2", headers=login("guess"), **AFAR).status_code == 401
    assert guesser.get("/status/2", headers=login(PASSWORD), **AFAR).status_code == 429
    assert anna.get("/status/2", headers=login(PASSWORD), **AFAR).status_code == 200
    # and the mark of her browser opens nothing by itself
    assert anna.get("/status/2", **AFAR).status_code == 401
    assert [anna.get("/status/2", headers=login("x"), **AFAR).status_code for _ in range(11)][-1] == 429


@pytest.mark.parametrize("cookie", ["illume_status=x", "illume_status=eyJ2aXNpdG9yIjoieCJ9.aaaa.bbbb"])
def test_a_mark_that_is_not_ours_hides_no_guesser(guarded: Any, connected: int, cookie: str) -> None:
    guesser = guarded()
    shown = []
    for k in range(FAILURES + 1):
        headers = {**login("guess"), "Cookie": f"{cookie}{k}"}
        shown.append(guesser.get("/status/2", headers=headers, **AFAR).status_code)
    assert shown[-1] == 429


def test_who_acts_is_one_line_that_shows() -> None:
    keeper = Gatekeeper(SecretStr(PASSWORD))
    said = {
        "ann\x00a\n<b>\x1b[31m": "ann a <b> [31m",
        "\u202e\x07": "somebody without a name",
        "x" * 99: "x" * 40,
    }
    for user, name in said.items():
        assert keeper.admit(call(**login(PASSWORD, user))) == name


# -- what browsers are told ----------------------------------------------------------------------------------


def test_the_cookie(guarded: Any, connected: int) -> None:
    cookie = guarded().get("/status/2", headers=login(PASSWORD), **AFAR).headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=Strict", "Path=/status"):
        assert part in cookie
    assert "Secure" not in cookie, "this backend is reached without TLS"


@pytest.mark.parametrize(
    ("base_url", "address", "secure"),
    [
        ("https://illume.example", "203.0.113.7", True),
        ("http://illume.example", "10.0.0.1", True),  # a proxy of ours speaks TLS before us
        ("http://localhost:9090", "127.0.0.1", False),
    ],
)
def test_where_there_is_tls_the_cookie_goes_over_nothing_else(
    settings: Settings, service: Service, connected: int, base_url: str, address: str, *, secure: bool
) -> None:
    changed = {"dashboard_password": SecretStr(PASSWORD), "backend_url": "https://illume.example"}
    service.settings = settings.model_copy(update=changed)
    browser = create_app(service.settings, service=service).test_client()
    from_there: dict[str, Any] = {"base_url": base_url, "environ_base": {"REMOTE_ADDR": address}}
    cookie = browser.get("/status/2", headers=login(PASSWORD), **from_there).headers["Set-Cookie"]
    assert ("Secure" in cookie) is secure


LOCALLY: dict[str, Any] = {"base_url": "http://localhost", "environ_base": {"REMOTE_ADDR": "127.0.0.1"}}


@pytest.mark.parametrize(
    "path", ["/status/2", "/status/2/runs/99", "/status/2/candidates", "/api", "/metrics"]
)
def test_pages_run_no_script_but_ours_and_stay_out_of_frames(
    stranger: FlaskClient, connected: int, path: str
) -> None:
    headers = stranger.get(path, **LOCALLY).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/health", "/versions", "/nowhere", "/predict"])
def test_other_answers_are_no_pages(client: FlaskClient, connected: int, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
