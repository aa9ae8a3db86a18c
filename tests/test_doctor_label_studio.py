"""What the doctor finds of Label Studio as a whole, and of what we know of a project.

Label Studio is real in tests/live/test_doctor_live.py; here are servers that are away, stall, lie about the
time, or are something else, and the small one for what is stored on our side.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from at_work import PROJECT, AtWork, reconcile, service_at
from examined import the, wrong
from loopback import Answer, Loopback
from small_labelstudio import SmallLabelStudio
from test_doctor_machine import closed_port, first_finding

from backend.doctor import Check, Finding, connection, examine, pictures, project, pushing
from backend.doctor.containers import in_container, is_this_machine
from backend.doctor.findings import BULK_FLAG
from backend.doctor.releases import PROVEN_LABEL_STUDIO
from backend.service import Service
from backend.settings import Settings
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.labelstudio.records import ProjectInfo
from illume_plugin.store import candidates, projects, reconciliations
from illume_plugin.types import Project

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HOUR = 3600.0


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    server.answer("GET", "/api/version/", 200, {"release": PROVEN_LABEL_STUDIO})
    server.answer("GET", "/api/current-user/whoami", 200, {"id": 1, "email": "lead@example.com"})
    yield server
    server.close()


@pytest.fixture
def door(loopback: Loopback) -> Iterator[LabelStudio]:
    with LabelStudio(loopback.url, TOKEN) as door:
        yield door


def answers(url: str, *, timeout_s: float = 10.0) -> list[Check]:
    with LabelStudio(url, TOKEN, timeout_s=timeout_s) as door:
        return list(connection.answers(door))


# -- there, and what it is -----------------------------------------------------------------------------


def test_it_is_there(door: LabelStudio) -> None:
    assert wrong(connection.answers(door)) == {}
    assert wrong([connection.token_accepted(door)]) == {}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests themselves may run in a container."""
    monkeypatch.setattr(connection, "in_container", lambda: False)


@pytest.mark.usefixtures("outside")
def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    check = the(answers(url), Finding.LABEL_STUDIO_AWAY)
    assert url in check.detail
    assert "ILLUME_LABEL_STUDIO_URL" in check.todo


@pytest.mark.usefixtures("outside")
def test_it_stalls(loopback: Loopback) -> None:
    def stall(_: object) -> Answer:
        loopback.closing.wait()
        return Answer()

    loopback.routes["GET", "/api/version/"] = stall
    check = the(answers(loopback.url, timeout_s=0.05), Finding.LABEL_STUDIO_AWAY)
    assert "did not answer" in check.detail


@pytest.mark.usefixtures("outside")
def test_its_name_leads_nowhere() -> None:
    the(answers("http://no-such-host.invalid:8080"), Finding.LABEL_STUDIO_AWAY)


@pytest.mark.parametrize(
    ("status", "body", "headers", "told"),
    [
        (200, b"<html>Welcome to nginx!</html>", {}, "instead of JSON"),
        (301, None, {"Location": "https://labels.example.org/"}, "https://labels.example.org/"),
        (404, None, {}, "404"),
        (500, None, {}, "500"),
    ],
)
def test_something_else_answers(
    loopback: Loopback, status: int, body: Any, headers: dict[str, str], told: str
) -> None:
    loopback.answer("GET", "/api/version/", status, body, headers=headers)
    assert told in the(answers(loopback.url), Finding.LABEL_STUDIO_OTHER).detail


@pytest.mark.parametrize(
    ("release", "finding"),
    [
        ("1.13.1", Finding.LABEL_STUDIO_OLD),
        ("1.23.1", Finding.LABEL_STUDIO_OLD),
        ("", Finding.LABEL_STUDIO_OLD),
        ("nightly", Finding.LABEL_STUDIO_OLD),
        (PROVEN_LABEL_STUDIO, None),
        ("1.23.2.post0", None),
        ("1.24.0", None),
    ],
)
def test_its_version(loopback: Loopback, release: str, finding: Finding | None) -> None:
    loopback.answer("GET", "/api/version/", 200, {"release": release})
    assert list(wrong(answers(loopback.url)).values()) == ([finding] if finding else [])


# -- localhost, seen from a container ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "environment", "expected"),
    [
        ({}, {}, False),
        ({"proc/1/cgroup": "0::/init.scope\n"}, {}, False),
        ({".dockerenv": ""}, {}, True),
        ({"run/.containerenv": ""}, {}, True),
        ({"proc/1/cgroup": "12:cpu:/docker/4f2a\n"}, {}, True),
        ({"proc/1/cgroup": "1:name=systemd:/kubepods/besteffort/pod1\n"}, {}, True),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({}, {"container": "podman"}, True),
    ],
)
def test_whether_this_is_a_container(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], expected: bool
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert in_container(tmp_path, environment) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.0.1.1", True),
        ("http://[::1]:8080", True),
        ("http://labels.localhost:8080", True),
        ("http://host.docker.internal:8080", False),
        ("http://label-studio:8080", False),
        ("http://192.168.1.9:8080", False),
    ],
)
def test_addresses_of_this_machine(url: str, expected: bool) -> None:
    assert is_this_machine(url) is expected


@pytest.mark.parametrize(("host", "finding"), [("127.0.0.1", True), ("no-such-host.invalid", False)])
def test_localhost_in_a_container_is_the_container(
    monkeypatch: pytest.MonkeyPatch, host: str, finding: bool
) -> None:
    monkeypatch.setattr(connection, "in_container", lambda: True)
    port = closed_port()
    check = the(
        answers(f"http://{host}:{port}"),
        Finding.LOCALHOST_IN_CONTAINER if finding else Finding.LABEL_STUDIO_AWAY,
    )
    if finding:
        assert f"ILLUME_LABEL_STUDIO_URL=http://host.docker.internal:{port}" in check.todo


def test_localhost_in_a_container_is_right_where_label_studio_is_there_too(
    monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    monkeypatch.setattr(connection, "in_container", lambda: True)
    assert wrong(answers(loopback.url)) == {}


# -- clocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "told"),
    [
        (0.0, ""),
        (10.0, ""),
        (-10.0, ""),
        (HOUR, "3600 s behind"),
        (-45.0, "45 s ahead"),
        (300.0, "300 s behind"),
    ],
)
def test_its_clock(loopback: Loopback, monkeypatch: pytest.MonkeyPatch, shift: float, told: str) -> None:
    """The server's own Date header, from a clock that is off."""
    monkeypatch.setattr(
        BaseHTTPRequestHandler,
        "date_time_string",
        lambda _, at=None: formatdate((time.time() if at is None else at) + shift, usegmt=True),
    )
    checks = answers(loopback.url)
    if not told:
        assert wrong(checks) == {}
        return
    detail = the(checks, Finding.CLOCK_LABEL_STUDIO).detail
    seconds, side = told.split(" s ")
    assert side in detail
    assert any(f"{int(seconds) + late} s" in detail for late in range(-2, 3)), detail


def test_a_server_that_tells_no_time(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _, at=None: "today")
    assert wrong(answers(loopback.url)) == {}


def test_the_threshold_leaves_time_to_act() -> None:
    from illume_plugin.labelstudio.changes import OVERLAP_S
    from illume_plugin.labelstudio.tokens import RENEW_BEFORE_S

    assert min(OVERLAP_S, RENEW_BEFORE_S) / 2 >= connection.CLOCKS_DIFFER_S


# -- tokens --------------------------------------------------------------------------------------------


def jwt(**claims: Any) -> str:
    parts = ({"alg": "HS256"}, claims, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in parts)


def token_of(url: str, token: str) -> Check:
    with LabelStudio(url, token) as door:
        return connection.token_accepted(door)


LEGACY_OFF = "Authentication token no longer valid: legacy token authentication has been disabled."


@pytest.mark.parametrize(
    ("detail", "finding"),
    [("Invalid token.", Finding.TOKEN_REFUSED), (LEGACY_OFF, Finding.TOKEN_LEGACY)],
)
def test_a_token_that_is_refused(loopback: Loopback, detail: str, finding: Finding) -> None:
    loopback.answer("GET", "/api/current-user/whoami", 401, {"detail": detail})
    check = the([token_of(loopback.url, TOKEN)], finding)
    assert detail.rstrip(".") in check.detail
    assert "ILLUME_LABEL_STUDIO_TOKEN" in check.todo
    assert TOKEN not in str(check.to_json())


def test_a_personal_access_token_that_was_revoked(loopback: Loopback) -> None:
    loopback.answer("POST", "/api/token/refresh/", 401, {"detail": "Token is blacklisted"})
    token = jwt(token_type="refresh", exp=time.time() + HOUR)
    check = the([token_of(loopback.url, token)], Finding.TOKEN_REFUSED)
    assert "blacklisted" in check.detail


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"token_type": "access", "exp": 4e9}, "an access token"),
        ({"token_type": "refresh", "exp": 1.0}, "expired"),
    ],
)
def test_a_token_that_cannot_work(tmp_path: Path, claims: dict[str, Any], told: str) -> None:
    check = first_finding(data_dir=tmp_path / "data", label_studio_token=jwt(**claims))
    assert told in the([check], Finding.TOKEN_REFUSED).detail


def test_a_whoami_that_fails_is_not_the_tokens_fault(loopback: Loopback) -> None:
    loopback.answer("GET", "/api/current-user/whoami", 500, {"detail": "out of memory"})
    the([token_of(loopback.url, TOKEN)], Finding.LABEL_STUDIO_OTHER)


# -- whether it would call us --------------------------------------------------------------------------

#: Its own words, and those of a refusal that has nothing to do with the address.
RESERVED = {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}
NO_SUCH_PROJECT = {"validation_errors": {"project": ['Invalid pk "0" - object does not exist.']}}


@pytest.mark.parametrize(
    ("backend", "webhook", "told"),
    [
        (True, True, "(its backend and its webhook), by ML_BLOCK_LOCAL_IP and SSRF_PROTECTION_ENABLED"),
        (False, True, "(its webhook), by SSRF_PROTECTION_ENABLED;"),
        (True, False, "(its backend), by ML_BLOCK_LOCAL_IP;"),
        (False, False, ""),
    ],
)
def test_which_of_the_two_settings_blocks_us(
    loopback: Loopback, door: LabelStudio, backend: bool, webhook: bool, told: str
) -> None:
    for path, blocked in (("/api/ml/", backend), ("/api/webhooks/", webhook)):
        loopback.answer("POST", path, *((403, RESERVED) if blocked else (400, NO_SUCH_PROJECT)))
    check = connection.calls_us(door, "http://127.0.0.1:9090")
    if told:
        assert told in the([check], Finding.ADDRESS_BLOCKED).detail
    else:
        assert wrong([check]) == {}
    assert all(asked.body["project"] == 0 for asked in loopback.requests), "nothing can come of it"


def test_a_user_who_may_connect_nothing(loopback: Loopback, door: LabelStudio) -> None:
    loopback.answer("POST", "/api/ml/", 403, {"detail": "You do not have permission."})
    check = the([connection.calls_us(door, "http://127.0.0.1:9090")], Finding.LABEL_STUDIO_OTHER)
    assert "who may manage the project" in check.todo


def test_a_host_that_label_studio_does_not_know(loopback: Loopback, door: LabelStudio) -> None:
    for path in ("/api/ml/", "/api/webhooks/"):
        loopback.answer("POST", path, 400, {"detail": "Can't resolve hostname illume-web"})
    check = the([connection.calls_us(door, "http://illume-web:9090")], Finding.ADDRESS_UNRESOLVED)
    assert "ILLUME_BACKEND_URL" in check.todo


# -- pushing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "tasks", "finding"),
    [
        (f'<pre>{{"{BULK_FLAG}": true}}</pre>', 100_000, None),
        (f'<pre>{{"{BULK_FLAG}": false}}</pre>', 100_000, Finding.PUSH_SLOW),
        (f'<pre>{{"{BULK_FLAG}": false}}</pre>', pushing.MANY_TASKS - 1, None),
        ("<pre>{}</pre>", 100_000, None),
        ("<html>log in</html>", 100_000, None),
    ],
)
def test_the_flag_of_the_bulk_endpoint(
    loopback: Loopback, door: LabelStudio, page: str, tasks: int, finding: Finding | None
) -> None:
    loopback.answer("GET", "/feature-flags/", 200, page.encode())
    info = ProjectInfo(1, "t", "", "<View/>", tasks, "", show_collab_predictions=True)
    found = wrong(pushing.bulk_is_cheap(door.flags(), info))
    assert list(found.values()) == ([finding] if finding else [])
    if finding:
        assert f"{BULK_FLAG}=true" in the(pushing.bulk_is_cheap(door.flags(), info), finding).todo


def test_flags_that_are_not_told(door: LabelStudio) -> None:
    assert door.flags() == {}, "404"


# -- a project, with the small Label Studio ------------------------------------------------------------


@pytest.fixture
def work() -> Iterator[AtWork]:
    with SmallLabelStudio().running() as studio:
        yield AtWork(studio)


@pytest.fixture
def patient(work: AtWork, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with service_at(work.studio, settings, tmp_path) as service:
        yield service


def known(service: Service) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, PROJECT)


def kept(service: Service, *, found: int = 0, problem: str = "") -> None:
    """Note a round of reconciliation, and maybe the failure of another."""
    with service.store.write() as conn:
        reconciliations.begin_walk(conn, PROJECT, "walk", "")
        reconciliations.succeeded(conn, PROJECT, found=0, now=service.clock())
        reconciliations.succeeded(conn, PROJECT, found=found, now=service.clock())
        if problem:
            reconciliations.failed(conn, PROJECT, problem, now=service.clock())


def test_no_project_is_connected(work: AtWork, settings: Settings, tmp_path: Path) -> None:
    with service_at(work.studio, settings, tmp_path) as service:
        with service.store.write() as conn:
            conn.exec_driver_sql("DELETE FROM projects")
        check = the(examine(service, model=False), Finding.NO_PROJECT)
    assert "illume connect --project" in check.todo


def test_a_project_that_is_gone(patient: Service, work: AtWork) -> None:
    work.studio.delete_project(PROJECT)
    the(examine(patient, model=False), Finding.PROJECT_CLOSED)


def test_never_read(patient: Service) -> None:
    check = the(project.in_step(patient, known(patient)), Finding.NEVER_READ)
    assert f"illume sync --project {PROJECT}" in check.todo


def test_read_too_long_ago(patient: Service) -> None:
    kept(patient)
    assert wrong(project.in_step(patient, known(patient))) == {}
    now = patient.clock()
    patient.clock = lambda: now + HOUR
    the(project.in_step(patient, known(patient)), Finding.READ_LATE)


def test_it_cannot_be_read(patient: Service) -> None:
    kept(patient, problem="Label Studio answered 500.")
    check = the(project.in_step(patient, known(patient)), Finding.READING_FAILS)
    assert "answered 500" in check.detail


def test_no_event_arrives(patient: Service, work: AtWork) -> None:
    """The webhook is there, and Label Studio may not call it: it says so in its own log alone."""
    tasks = work.import_tasks(["c1"], None)
    reconcile(patient)
    assert wrong(project.in_step(patient, known(patient))) == {}
    work.submit(tasks[1], "c2")
    reconcile(patient)
    check = the(project.in_step(patient, known(patient)), Finding.EVENTS_SILENT)
    assert "SSRF_PROTECTION_ENABLED=false" in check.todo
    for event in work.events:
        patient.receive({**event, "project": {"id": PROJECT}})
    assert wrong(project.in_step(patient, known(patient))) == {}


QUESTION = {"question": "what is it?", "answer": "a dog"}


def test_no_tasks(patient: Service) -> None:
    the(pictures.one_of_each_kind(patient, known(patient), anew=True), Finding.NO_TASKS)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("/data/upload/1/a.png", "upload"),
        ("/data/local-files/?d=a.png", "local files"),
        ("s3://bucket/a.png", "s3"),
        ("gs://bucket/a.png", "gcs"),
        ("azure-blob://container/a.png", "azure"),
        ("http://127.0.0.1:1/a.png", "http"),
        ("https://pictures.invalid/a.png", "https"),
        ("a.png", "other address"),
    ],
)
def test_a_picture_of_each_kind_that_cannot_be_fetched(patient: Service, image: str, kind: str) -> None:
    with patient.store.write() as conn:
        projects.put_tasks(
            conn, PROJECT, [(7, {"image": image, **QUESTION}), (8, {"image": image, **QUESTION})]
        )
    check = the(pictures.one_of_each_kind(patient, known(patient), anew=True), Finding.PICTURES)
    assert check.name == f"project {PROJECT}: picture ({kind})"
    assert "task 7" in check.detail, "one for a kind"


def test_a_picture_inside_the_task(patient: Service) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    with patient.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(7, {"image": image, **QUESTION})])
    check = the(pictures.one_of_each_kind(patient, known(patient), anew=True), Finding.PICTURES_INSIDE)
    assert "uploaded" in check.todo


def test_a_task_that_lacks_its_question_says_so(patient: Service) -> None:
    with patient.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(7, {"image": "/data/upload/1/a.png", "answer": "a dog"})])
    check = the(pictures.one_of_each_kind(patient, known(patient), anew=False), Finding.PICTURES)
    assert '"question" is missing' in check.detail


def test_tasks_without_candidates(patient: Service) -> None:
    with patient.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(7, {"image": "a", **QUESTION})])
    check = the([project.progress(patient, known(patient))], Finding.CANDIDATES_WANTING)
    assert f"illume presample --project {PROJECT}" in check.todo


def test_tasks_that_cannot_be_sampled(patient: Service) -> None:
    with patient.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(7, {"image": "a", **QUESTION})])
        candidates.note_problem(conn, PROJECT, 7, version="v0000", problem="no picture", now=1.0)
    check = the([project.progress(patient, known(patient))], Finding.SAMPLING_FAILS)
    assert "task 7: no picture" in check.detail


def test_an_event_that_was_not_understood(patient: Service) -> None:
    with patient.store.write() as conn:
        conn.exec_driver_sql(
            "INSERT INTO events (digest, action, body, received_at, applied_at, problem) "
            "VALUES ('d', 'SOMETHING_NEW', '{}', 1, 1, 'it names no task')"
        )
    check = the([project.progress(patient, known(patient))], Finding.EVENT_ODD)
    assert "it names no task" in check.detail
