"""A whole loop with recognisable secrets, and none of them in anything that it wrote, logged or answered."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import SELECT, SayingGenerator, both_stores
from flask.testing import FlaskClient
from loopback import Loopback
from PIL import Image
from sqlalchemy import make_url
from test_labelstudio import jwt
from test_retrain import StandInChild, submitted

import backend.retrain
from backend.app import create_app
from backend.backup.writing import back_up
from backend.doctor import examine
from backend.presample import push_ahead, sample_ahead
from backend.retrain import Retrain
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.errors import IllumeError
from illume_plugin.store import Store, projects
from illume_plugin.store.tables import metadata
from illume_plugin.training.spec import SPEC_FILE, RunResult
from illume_plugin.types import RunState

pytestmark = both_stores

TASKS = 30
MARK = "Xx9Zz"
SECRET = f"{MARK}-webhook-secret-{MARK}"
PASSWORD = f"{MARK}-status-page-{MARK}"
DATABASE_PASSWORD = f"{MARK}-database-{MARK}"
VLLM_KEY = f"{MARK}-vllm-key-{MARK}"
#: In the address that Label Studio signs for a picture of its storage.
SIGNATURE = f"{MARK}-signature-{MARK}"
#: Of the project, in every webhook; and a login for pictures, in every /predict.
INVITE = f"{MARK}-invite-{MARK}"
LOGIN = f"{MARK}-login-{MARK}"
#: Typed by somebody who may not.
GUESS = f"{MARK}-guess-{MARK}"
TOKEN = jwt("refresh", name=f"{MARK}-refresh-{MARK}")
ACCESS = jwt("access", name=f"{MARK}-access-{MARK}")
#: The token's middle, which is what people would search for, and the whole of the others.
SECRETS = {
    "token": TOKEN.split(".")[1],
    "access token": ACCESS.split(".")[1],
    "webhook secret": SECRET,
    "password of the status page": PASSWORD,
    "password of the database": DATABASE_PASSWORD,
    "vLLM key": VLLM_KEY,
    "signature": SIGNATURE,
    "invite": INVITE,
    "login": LOGIN,
    "guess": GUESS,
}


def forms(secret: str) -> set[bytes]:
    """A secret as it stands, in an address, and inside anything that is written as base64."""
    found = {secret.encode(), quote(secret, safe="").encode()}
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + secret.encode())
        first, last = -(-offset * 8 // 6), (offset + len(secret)) * 8 // 6
        found |= {whole[first:last], whole[first:last].replace(b"+", b"-").replace(b"/", b"_")}
    return found


def holders(written: dict[str, bytes]) -> list[str]:
    """Where which secret stands."""
    return sorted(
        f"{name} in {place}"
        for name, secret in SECRETS.items()
        for place, content in written.items()
        if any(form in content for form in forms(secret))
    )


@dataclass
class Loop:
    """Everything that the loop wrote, by where."""

    service: Service
    client: FlaskClient
    written: dict[str, bytes] = field(default_factory=dict)

    def ask(self, method: str, path: str, **more: Any) -> int:
        with self.client.open(path, method=method, **more) as answer:
            said = answer.data + repr(list(answer.headers)).encode()
        place = f"answer to {method} {path.replace(SECRET, 'SECRET').replace(GUESS, 'GUESS')}"
        self.written[place] = self.written.get(place, b"") + said
        return answer.status_code

    def tell(self, place: str, said: object) -> None:
        self.written[place] = self.written.get(place, b"") + f"{said!r} {said}".encode()


@pytest.fixture
def storage() -> Iterator[Loopback]:
    server = Loopback()
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "PNG")
    server.answer("GET", "/bucket/good.png", 200, file.getvalue())
    server.answer("GET", "/bucket/gone.png", 403)
    yield server
    server.close()


@pytest.fixture
def label_studio(storage: Loopback) -> Iterator[Loopback]:
    server = Loopback()
    server.answer("POST", "/api/token/refresh/", 200, {"access": ACCESS})
    for name in ("good", "gone"):
        signed = f"{storage.url}/bucket/{name}.png?X-Amz-Signature={SIGNATURE}"
        server.answer("GET", f"/data/upload/2/{name}.png", 303, headers={"Location": signed})
    yield server
    server.close()


@pytest.fixture
def loop(
    tmp_path: Path,
    database: str,
    label_studio: Loopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Loop]:
    url = make_url(database)
    if url.get_backend_name() == "postgresql":
        database = url.set(password=DATABASE_PASSWORD).render_as_string(hide_password=False)
    for name, value in {
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": database,
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_TOKEN": TOKEN,
        "SECRET": SECRET,
        "DASHBOARD_PASSWORD": PASSWORD,
        "VLLM_API_KEY": VLLM_KEY,
        "ALLOWED_IMAGE_HOSTS": "127.0.0.1",
        "TRAIN_AFTER": "0",
    }.items():
        monkeypatch.setenv(f"ILLUME_{name}", value)
    caplog.set_level(logging.DEBUG)
    settings = load_settings()
    service = Service(settings)
    service.engine._generator = SayingGenerator()
    yield Loop(service, create_app(settings, service=service).test_client())
    service.close()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ILLUME = basic("illume", SECRET)


def label(loop: Loop) -> None:
    """Connect, predict, and take in events, in every way that a secret can be shown."""
    assert loop.ask("POST", "/setup", json={"project": "2.1", "schema": SELECT}, headers=ILLUME) == 200
    for number in range(1, TASKS + 1):
        event = submitted(number, ["c1", "c3"])
        event["task"]["data"]["image"] = "/data/upload/2/good.png"
        event["project"] |= {"token": INVITE, "task_data_login": LOGIN, "task_data_password": LOGIN}
        if number % 2:
            status = loop.ask("POST", "/webhook", json=event, headers={"X-Illume-Secret": SECRET})
        else:
            status = loop.ask("POST", f"/s/{SECRET}/webhook", json=event)
        assert status == 201
    data = {"question": "what?", "answer": "a dog"}
    waiting = {"id": 200, "data": {**data, "image": "/data/upload/2/good.png"}}
    event = {"action": "TASKS_CREATED", "tasks": [waiting], "project": {"id": 2, "token": INVITE}}
    assert loop.ask("POST", "/webhook", json=event, headers=ILLUME) == 201
    loop.service.apply_events()
    tasks = [
        {"id": 100 + k, "data": {**data, "image": f"/data/upload/2/{name}.png"}}
        for k, name in enumerate(("good", "gone", "missing"))
    ]
    params = {"login": LOGIN, "password": LOGIN, "context": None}
    body = {"tasks": tasks, "project": "2.1", "label_config": SELECT, "params": params}
    assert loop.ask("POST", "/predict", json=body, headers=ILLUME) == 200
    signed = f"https://{LOGIN}:{LOGIN}@elsewhere.example/x.png?sig={SIGNATURE}"
    refused = {**body, "tasks": [{"id": 104, "data": {**data, "image": signed}}]}
    assert loop.ask("POST", "/predict", json=refused, headers=ILLUME) == 200


def go_wrong(loop: Loop) -> None:
    """Wrong secrets, bodies cut in the middle of one, errors with an address in them."""
    for headers in ({"X-Illume-Secret": GUESS}, basic("illume", GUESS)):
        assert loop.ask("POST", "/webhook", json={}, headers=headers) == 401
    assert loop.ask("GET", f"/s/{GUESS}/versions") == 401
    assert loop.ask("GET", f"/s/{SECRET}/nowhere") == 404
    assert loop.ask("GET", "/status/2", headers=basic("anna", GUESS)) == 401
    for body in (f'{{"token": "{INVITE}", ', f'["{INVITE}"]', f'{{"project": {{"token": "{INVITE}"}}}}'):
        for path in ("/webhook", "/predict", "/train", "/setup"):
            assert loop.ask("POST", path, data=body, headers=ILLUME) == 400
    with pytest.raises(IllumeError) as away:
        Store(f"postgresql://illume:{DATABASE_PASSWORD}@127.0.0.1:1/x").migrate()
    loop.tell("error of a database that is away", away.value)
    with pytest.raises(IllumeError) as other:
        Store(f"mysql://illume:{DATABASE_PASSWORD}@host/x")
    loop.tell("error of another database", other.value)
    with pytest.raises(IllumeError) as wrong:
        load_settings(port=0, adapters=f"s3://{LOGIN}:{LOGIN}@bucket/x")
    loop.tell("error of the settings", wrong.value)


def work(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the worker does: sampling ahead, pushing, a run; and the doctor."""
    service = loop.service
    with service.store.read() as conn:
        project = projects.get(conn, 2)
    sample_ahead(service, project)
    with pytest.raises(IllumeError) as refused:
        push_ahead(service, project, everything=True)  # this Label Studio knows no predictions
    loop.tell("error of a push", refused.value)

    class Child(StandInChild):
        def result(self) -> RunResult:
            loop.written["file of the run"] = (self.folder / SPEC_FILE).read_bytes()
            return super().result()

    monkeypatch.setattr(backend.retrain, "TrainingChild", Child)
    service.request_training(2, trigger="test")
    run = Retrain(service, owner="worker").claim_and_run()
    assert run is not None
    assert run.state is RunState.PROMOTED, run.error
    loop.tell("doctor", examine(service, model=False))
    loop.tell("settings", service.settings)
    loop.tell("door", service.label_studio)


def look(loop: Loop) -> None:
    """Every page that can be looked at."""
    seen = basic("anna", PASSWORD)
    rules = [rule for rule in loop.client.application.url_map.iter_rules() if "GET" in (rule.methods or ())]
    paths = {"<int:project_id>": "2", "<int:run_id>": "1", "<version>": "v0001", "<int:task_id>": "1"}
    for rule in rules:
        path = rule.rule.replace("<path:filename>", "live.js")
        for variable, value in paths.items():
            path = path.replace(variable, value)
        assert "<" not in path
        headers = seen if rule.endpoint.startswith("dashboard") else ILLUME
        assert loop.ask("GET", path, headers=headers) in (200, 302, 400, 404, 409), path


def read_everything(loop: Loop, tmp_path: Path) -> None:
    """The database, row by row, and every file, the backup among them."""
    with loop.service.store.read() as conn:
        for table in metadata.sorted_tables:
            loop.tell(f"table {table.name}", [tuple(row) for row in conn.execute(table.select())])
    if loop.service.store.dialect == "sqlite":
        back_up(loop.service.settings, tmp_path / "backup.tar", lambda _: None)
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            loop.written[f"file {path.relative_to(tmp_path)}"] = path.read_bytes()


def test_no_secret_is_left_anywhere(
    loop: Loop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    label_studio: Loopback,
    storage: Loopback,
) -> None:
    label(loop)
    go_wrong(loop)
    work(loop, monkeypatch)
    look(loop)
    read_everything(loop, tmp_path)
    loop.written["log"] = "\n".join(
        f"{record.name} {record.getMessage()} {record.exc_text or ''}" for record in caplog.records
    ).encode()
    assert holders(loop.written) == []
    names = set(loop.written)
    assert any(name.endswith("meta.json") for name in names), "a version was published"
    assert {"log", "table events", "file of the run", "answer to GET /metrics"} <= names
    assert b"gone.png" in loop.written["log"], "errors were logged"
    # they did travel, to those who may have them
    assert {
        asked.headers.get("Authorization") for asked in label_studio.asked("GET", "/data/upload/2/good.png")
    } == {f"Bearer {ACCESS}"}
    assert {asked.query["X-Amz-Signature"] for asked in storage.requests} == {SIGNATURE}
    assert not any("Authorization" in asked.headers for asked in storage.requests)


def test_it_would_be_found(loop: Loop) -> None:
    """In every form, wherever it stands in base64."""
    for name, secret in SECRETS.items():
        for content in (secret, f"illume:{secret}", f"x{secret}yz", f"xx{secret}y"):
            places = {"a": base64.b64encode(content.encode()), "b": content.encode(), "c": b"nothing"}
            assert holders(places) == [f"{name} in a", f"{name} in b"]
