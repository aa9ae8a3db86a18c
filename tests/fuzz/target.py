"""The app under attack: connected projects with hostile texts in them, no torch, no way to the network."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import SELECT, SayingGenerator
from PIL import Image
from test_backup import publish
from test_retrain import submitted

from backend.app import create_app
from backend.data_folder import DATABASE
from backend.presample import waiting
from backend.service import Service
from backend.settings import BASIC_USER, load_settings
from backend.worker import Worker
from illume_plugin.store import events, projects, runs
from illume_plugin.types import RunState

LABEL_STUDIO = "http://label-studio.example:8080"
SECRET = "Rrr-the-webhook-secret-Rrr"
TOKEN = "f00dfeedf00dfeedf00dfeedf00dfeedf00dfeed"
PASSWORD = "Ppp-status-page-password-Ppp"
#: Stands wherever Label Studio's payloads carry a token or a login.
PLANTED = "Qqq-planted-token-Qqq"
#: No answer and no log line may hold any of these.
SECRETS = tuple(
    form
    for secret in (SECRET, TOKEN, PASSWORD, PLANTED)
    for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("="))
) + tuple(
    base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=")
    for user, secret in ((BASIC_USER, SECRET), ("anna", PASSWORD))
)
HOSTILE = '"><script>alert(1)</script>\u202e'
PROJECT, OTHER = 2, 3
#: Ids from here on belong to the checks between batches, and to no case.
_OURS = 10**12


class Told(logging.Handler):
    """Everything that is logged, as text, since it was last read."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def read(self) -> list[logging.LogRecord]:
        found, self.records = self.records, []
        return found


class Target:
    """One app, its service, and what happened around it."""

    def __init__(self, folder: Path, *, password: bool = False) -> None:
        settings = load_settings(
            data_dir=folder / "data",
            label_studio_url=LABEL_STUDIO,
            label_studio_token=TOKEN,
            secret=SECRET,
            dashboard_password=PASSWORD if password else None,
            max_body_bytes=2**20,
            predict_max_tasks=50,
            train_after=0,
        )
        self.service = Service(settings)
        self.service.engine._generator = SayingGenerator()  # type: ignore[assignment]
        self.asked: list[httpx.Request] = []
        self.service.images._http = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.service.label_studio = None
        self.app = create_app(settings, service=self.service)
        self.app.testing = False
        self.worker = Worker(self.service)
        self.told = Told()
        self._next = _OURS
        self._fill(folder)
        self.cookie, self.form_token = self._visit()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if not request.url.path.endswith(".png"):
            return httpx.Response(404, stream=httpx.ByteStream(b""))
        file = io.BytesIO()
        Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "PNG")
        return httpx.Response(200, stream=httpx.ByteStream(file.getvalue()))

    def _fill(self, folder: Path) -> None:
        with self.service.store.write() as conn:
            for number in (PROJECT, OTHER):
                projects.put(conn, number, title=HOSTILE, label_config=SELECT, now=1.0)
            run_id, _ = runs.enqueue(conn, PROJECT, trigger=HOSTILE, now=1.0)
            runs.request_cancel(conn, run_id, now=2.0)
        for task_id in range(1, 6):
            event = submitted(task_id, ["c1"])
            event["task"]["data"]["question"] = HOSTILE
            self.service.receive(event)
        self.service.apply_events()
        publish(self.service, folder, "weights")

    def _visit(self) -> tuple[str, str]:
        """The cookie and the form token of a person at this machine."""
        client = self.app.test_client()
        login = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
        answer = client.get(
            f"/status/{PROJECT}/train",
            base_url="http://localhost",
            environ_base={"REMOTE_ADDR": "127.0.0.1", "HTTP_AUTHORIZATION": f"Basic {login}"},
        )
        found = re.search(r'name="token" value="([^"]+)"', answer.text)
        assert found is not None, answer.text
        return answer.headers["Set-Cookie"].partition(";")[0], found[1]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Everything that is logged below comes to `told`, at DEBUG."""
        root = logging.getLogger()
        level = root.level
        root.addHandler(self.told)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.removeHandler(self.told)
            root.setLevel(level)

    def close(self) -> None:
        self.service.close()

    # -- between batches ----------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What does not work any more: an event, a prediction, the worker, the database's lock."""
        if locked := self.lock_problems():
            return locked
        client = self.app.test_client()
        good = base64.b64encode(f"{BASIC_USER}:{SECRET}".encode()).decode()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Basic {good}"
        self._next += 1
        found = []
        with self.service.store.read() as conn:
            before = events.count(conn, OTHER)
        event = {**submitted(self._next, ["c1"], self._next), "project": {"id": OTHER}}
        answer = client.post("/webhook", json=event)
        with self.service.store.read() as conn:
            after = events.count(conn, OTHER)
        if answer.status_code != 201 or after != before + 1:
            found.append(f"a good event: {answer.status_code}, {after - before} kept")
        found += self._works()
        for project in (PROJECT, OTHER):
            found += self._predicts(client, project)
        if PLANTED.encode() in self._database():
            found.append("the database holds a token of a payload")
        return found

    def _predicts(self, client: Any, project: int) -> list[str]:
        data = {"image": f"/data/upload/{self._next}.png", "question": "what?", "answer": "a dog"}
        task = {"id": self._next, "project": project, "data": data}
        body = {"tasks": [task], "project": f"{project}.1", "label_config": SELECT}
        answer = client.post("/predict", json=body)
        item = (answer.get_json().get("results") or [{}])[0]
        if answer.status_code == 200 and item.get("result"):
            return []
        return [f"a good /predict for project {project}: {answer.status_code} {answer.text[:300]}"]

    def _works(self) -> list[str]:
        """The worker's rounds until nothing is left to do; runs that cases have queued are cancelled."""
        with self.service.store.write() as conn:
            for run in runs.recent(conn):
                if run.state in (RunState.QUEUED, RunState.RUNNING):
                    runs.request_cancel(conn, run.run_id, now=3.0)
        data = {"image": f"/data/upload/{self._next}.png", "question": "what?", "answer": "a dog"}
        with self.service.store.write() as conn:
            projects.put_tasks(conn, OTHER, [(self._next + _OURS, data)])
        self.worker._look_again.clear()
        try:
            while self.worker._round():
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            return [f"the worker's round: {type(error).__name__}: {error}"]
        with self.service.store.read() as conn:
            if conn.exec_driver_sql("SELECT count(*) FROM events WHERE applied_at IS NULL").scalar():
                return ["events are left that were not taken in"]
            other = projects.get(conn, OTHER)
        if waiting(self.service, other):
            return ["a task was not sampled ahead"]
        return []

    def lock_problems(self) -> list[str]:
        """Whether somebody has kept the database's lock: between requests nobody may."""
        with closing(sqlite3.connect(self.service.settings.data_dir / DATABASE, timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return [f"the database's lock was kept: {error}"]
            other.rollback()
        return []

    def _database(self) -> bytes:
        """The database as it is on the disk, with its log."""
        files = sorted(self.service.settings.data_dir.glob(f"{DATABASE}*"))
        return b"".join(file.read_bytes() for file in files)


def planted(body: Any) -> Any:
    """A recorded body with `PLANTED` wherever it carries a token or a login."""
    if isinstance(body, list):
        return [planted(item) for item in body]
    if not isinstance(body, dict):
        return body
    secret = {"token", "access_token", "task_data_login", "task_data_password", "login", "password"}
    return {key: PLANTED if key in secret else planted(item) for key, item in body.items()}


def payloads(folder: Path) -> dict[str, list[Any]]:
    """Path -> recorded bodies that were sent there, as of project 2 with our labelling configuration."""
    found: dict[str, list[Any]] = {}
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("body"), dict):
            path = "/webhook" if record["path"] in ("/webhook2", "/nopayload") else record["path"]
            found.setdefault(path, []).append(_ours(planted(record["body"])))
    return found


def _ours(body: Any) -> Any:
    for key in ("label_config", "schema"):
        if key in body:
            body[key] = SELECT
    if isinstance(body.get("project"), dict):
        body["project"] = {**body["project"], "id": PROJECT, "label_config": SELECT}
    for task in body.get("tasks") or []:
        if isinstance(task, dict) and "data" in task:
            task["data"] = {"image": "/data/upload/1.png", "question": HOSTILE, "answer": "a dog"}
    return body
