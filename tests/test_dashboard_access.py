"""Who may look at the status page."""

from __future__ import annotations

import base64
import threading
from typing import Any

import httpx
import pytest
import waitress
from click.testing import CliRunner
from flask import Request
from flask.testing import FlaskClient
from pydantic import SecretStr
from served_app import end
from werkzeug.test import EnvironBuilder

from backend.app import create_app
from backend.cli import main
from backend.credentials import FAILURES, WINDOW_S, Failures, TooManyFailuresError
from backend.dashboard.access import LOCAL, ForbiddenError, Gatekeeper, host_name, is_loopback
from backend.service import Service
from illume_plugin.errors import UnauthorizedError

PASSWORD = "correct horse"


def call(
    host: str = "localhost:9090",
    address: str | None = "127.0.0.1",
    login: tuple[str, str] | None = None,
    **headers: str,
) -> Request:
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    environ = EnvironBuilder(path="/status", base_url=f"http://{host}", headers=named).get_environ()
    if address is not None:
        environ["REMOTE_ADDR"] = address
    return Request(environ)


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost", True),
        ("illume.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("10.0.0.7", False),
        ("localhost.evil.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_loopback_names(name: str, *, loopback: bool) -> None:
    assert is_loopback(name) is loopback


@pytest.mark.parametrize(
    ("host", "name"), [("localhost:9090", "localhost"), ("[::1]:9090", "::1"), ("A.B", "a.b"), ("[::", "")]
)
def test_host_names(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["localhost:9090", "127.0.0.1:9090", "[::1]:9090", "localhost"])
def test_this_machine_needs_no_login(host: str) -> None:
    assert Gatekeeper(None).admit(call(host)) == LOCAL


@pytest.mark.parametrize(
    "request_",
    [
        call(address="10.0.0.7"),
        call(address=None),  # a socket: whoever is behind it
        call("illume.example:9090"),  # a foreign name that points here (DNS rebinding)
        call("10.0.0.5:9090"),
        call(X_Forwarded_For="10.0.0.7"),  # through a proxy on this machine
        call(Forwarded="for=10.0.0.7"),
        call(X_Real_Ip="10.0.0.7"),
    ],
)
def test_others_need_a_password_to_be_set(request_: Request) -> None:
    with pytest.raises(ForbiddenError, match="ILLUME_DASHBOARD_PASSWORD"):
        Gatekeeper(None).admit(request_)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7"])
def test_with_a_password_everybody_needs_it(address: str) -> None:
    keeper = Gatekeeper(SecretStr(PASSWORD))
    assert keeper.admit(call("illume.example", address, ("anna", PASSWORD))) == "anna"
    with pytest.raises(UnauthorizedError, match="wants a password"):
        keeper.admit(call("illume.example", address))
    for wrong in ("", "correct", PASSWORD + " ", "Correct horse"):
        with pytest.raises(UnauthorizedError, match="wrong"):
            keeper.admit(call("illume.example", address, ("anna", wrong)))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_guessing_is_slowed_down_by_address() -> None:
    clock = Clock()
    keeper = Gatekeeper(SecretStr(PASSWORD), Failures(clock))
    for _ in range(FAILURES):
        with pytest.raises(UnauthorizedError):
            keeper.admit(call(address="10.0.0.7", login=("x", "guess")))
    with pytest.raises(TooManyFailuresError):
        keeper.admit(call(address="10.0.0.7", login=("x", PASSWORD)))
    assert keeper.admit(call(address="10.0.0.8", login=("y", PASSWORD))) == "y"
    clock.now += WINDOW_S
    assert keeper.admit(call(address="10.0.0.7", login=("x", PASSWORD))) == "x"


# -- through the app ---------------------------------------------------------------------------------------

LOCALLY: dict[str, Any] = {"base_url": "http://localhost", "environ_base": {"REMOTE_ADDR": "127.0.0.1"}}
AFAR: dict[str, Any] = {"base_url": "http://illume.example", "environ_base": {"REMOTE_ADDR": "10.0.0.7"}}


@pytest.mark.parametrize(
    "path", ["/status", "/status/2", "/api", "/api/projects", "/metrics", "/status/static/live.js"]
)
def test_every_path_has_the_same_door(stranger: FlaskClient, connected: int, path: str) -> None:
    with stranger.get(path, **LOCALLY) as answer:
        assert answer.status_code in (200, 302)
    assert stranger.get(path, **AFAR).status_code == 403


def test_label_studios_secret_does_not_open_it(client: FlaskClient, connected: int) -> None:
    assert client.get("/api/projects", **AFAR).status_code == 403


def test_nor_does_its_password_open_label_studios_calls(service: Service, connected: int) -> None:
    settings = service.settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    service.settings = settings
    guest = create_app(settings, service=service).test_client()
    login = {"Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
    assert guest.get("/status/2", headers=login, **AFAR).status_code == 200
    assert guest.post("/setup", json={"project": "2.1"}, headers=login, **AFAR).status_code == 401
    refused = guest.get("/status/2", **AFAR)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    assert "test" not in refused.text, "nothing about the projects is told"


def test_served_by_illume_serve_a_proxy_on_this_machine_is_seen(
    service: Service, connected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """waitress takes away what proxies say of themselves unless it is told not to."""
    asked: dict[str, Any] = {}
    create_server = waitress.create_server

    def refuse(app: Any, **how: Any) -> None:
        asked.update(how, app=app)
        raise OSError(98, "the port is taken")

    monkeypatch.setattr(waitress, "create_server", refuse)
    monkeypatch.setenv("ILLUME_DATA_DIR", str(service.settings.data_dir))
    CliRunner().invoke(main, ["serve"])
    server = create_server(asked.pop("app"), **{**asked, "host": "127.0.0.1", "port": 0, "threads": 2})
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.effective_port}/status/2"
        with httpx.Client(trust_env=False, timeout=60) as http:
            assert http.get(url).status_code == 200
            for header in ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip"):
                assert http.get(url, headers={header: "10.0.0.7"}).status_code == 403, header
    finally:
        end(server, thread)


def test_health_and_label_studios_calls_are_as_before(stranger: FlaskClient) -> None:
    assert stranger.get("/health", **AFAR).status_code == 200
    assert stranger.post("/setup", json={}, **LOCALLY).status_code == 401
    assert stranger.get("/status/nowhere/at/all", **LOCALLY).status_code == 401
