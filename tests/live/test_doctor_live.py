"""`illume doctor` against a real Label Studio: break it, see it named, do what is said, see it gone."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapter_stores import BUCKET, s3_server  # noqa: F401 - a fixture
from click.testing import CliRunner
from conftest import SELECT
from examined import the, working, wrong
from loopback import Answer, Asked, Loopback
from PIL import Image

import label_config
from backend.cli import main
from backend.connect import TITLE, Connector
from backend.demo.labelstudio_server import LabelStudioServer, environment
from backend.demo.processes import Child
from backend.doctor import Check, Finding, connection, examine, pictures, project, registration
from backend.doctor.findings import BULK_FLAG
from backend.doctor.pushing import MANY_TASKS, bulk_is_cheap
from backend.leasing import new_owner
from backend.reconcile import Reconciler
from backend.service import Service
from backend.settings import BASIC_USER, SECRET_HEADER
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import projects
from live.conftest import LiveLabelStudio, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

FOREIGN = (
    '<View><Image name="image" value="$image"/>'
    '<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


def connect(service: Service, door: LabelStudio, number: int, *, xml: str | None = None) -> None:
    for change in Connector(service, door, number).changes(label_config=xml):
        change.apply()


def looked_at(service: Service, door: LabelStudio, number: int) -> list[Check]:
    """How a project is set up in Label Studio."""
    theirs = door.project(number)
    return [*project.settings_fit(service, theirs), *registration.registered(service, door, theirs)]


def set_up(service: Service, door: LabelStudio, number: int) -> dict[str, Finding]:
    """What is wrong with that."""
    return wrong(looked_at(service, door, number))


@pytest.fixture
def patient(served: Service, door: LabelStudio) -> int:
    """A connected project, in which nothing is wrong."""
    number = door.create_project("a patient", SELECT).project_id
    connect(served, door, number)
    assert set_up(served, door, number) == {}
    return number


@pytest.fixture
def other(loopback: Loopback) -> Loopback:
    """Another ML backend, which Label Studio finds healthy."""
    loopback.answer("GET", "/health", 200, {"status": "UP"})
    loopback.answer("POST", "/setup", 200, {"model_version": "theirs"})
    loopback.answer("POST", "/webhook", 200, {})
    return loopback


def test_settings_of_a_project_that_connecting_again_mends(
    served: Service, door: LabelStudio, patient: int
) -> None:
    """Each is found by its name, with nothing beside it, and gone after the command that the doctor names."""
    address = f"{served.settings.backend_url}/webhook"

    def ours() -> int:
        return next(hook.webhook_id for hook in door.webhooks(patient) if hook.url == address)

    def switch_off() -> None:
        with httpx.Client(headers=door.auth_headers(), timeout=60, trust_env=False) as http:
            http.patch(f"{door.url}api/webhooks/{ours()}/", json={"is_active": False}).raise_for_status()

    def double() -> None:
        door.add_webhook(patient, address, headers=secret(served))

    def delete_backend() -> None:
        (backend,) = door.backends(patient)
        door.delete_backend(backend.backend_id)

    def change(**fields: Any) -> Callable[[], object]:
        return lambda: door.update_project(patient, **fields)

    cases: list[tuple[Callable[[], object], dict[str, Finding]]] = [
        (change(show_collab_predictions=False), {"prelabel": Finding.PRELABEL_OFF}),
        (
            change(label_config=FOREIGN),
            {"label config": Finding.LABEL_CONFIG, "backend": Finding.BACKEND_REFUSES},
        ),
        (lambda: door.set_model_version(patient, ""), {"shown version": Finding.VERSION_HIDDEN}),
        (lambda: door.update_webhook(ours(), address), {"webhook": Finding.WEBHOOK_SECRET}),
        (switch_off, {"webhook": Finding.WEBHOOK_OFF}),
        (double, {"webhook": Finding.WEBHOOK_TWICE}),
        (lambda: door.delete_webhook(ours()), {"webhook": Finding.WEBHOOK_MISSING}),
        (delete_backend, {"backend": Finding.BACKEND_UNREGISTERED}),
    ]
    for break_it, expected in cases:
        break_it()
        checks = looked_at(served, door, patient)
        assert wrong(checks) == {f"project {patient}: {name}": finding for name, finding in expected.items()}
        first = next(iter(expected.values()))
        assert f"illume connect --project {patient}" in the(checks, first).todo
        connect(served, door, patient, xml=SELECT)
        assert set_up(served, door, patient) == {}, first.label


def test_wishes_that_reach_nobody(served: Service, door: LabelStudio) -> None:
    number = door.create_project("no wishes", label_config.read("full")).project_id
    connect(served, door, number)
    assert set_up(served, door, number) == {}
    (backend,) = door.backends(number)
    access = {"user": BASIC_USER, "password": served.settings.shared_secret()}
    door.update_backend(
        backend.backend_id, number, served.settings.backend_url, TITLE, is_interactive=False, **access
    )
    found = set_up(served, door, number)
    assert found == {f"project {number}: backend": Finding.BACKEND_NOT_INTERACTIVE}
    connect(served, door, number)
    assert set_up(served, door, number) == {}


def secret(service: Service) -> dict[str, str]:
    return {SECRET_HEADER: service.settings.shared_secret()}


def test_what_other_backends_leave_behind(served: Service, door: LabelStudio, other: Loopback) -> None:
    number = door.create_project("several backends", SELECT).project_id
    first = door.add_backend(number, other.url, "theirs")
    connect(served, door, number)
    found = set_up(served, door, number)
    assert found == {f"project {number}: backend": Finding.BACKEND_NOT_FIRST}, "their webhook has its backend"

    door.delete_backend(first.backend_id)
    (left,) = [hook for hook in door.webhooks(number) if hook.url == f"{other.url}/webhook"]
    name = f"project {number}: old webhook {left.webhook_id}"
    checks = looked_at(served, door, number)
    assert wrong(checks) == {name: Finding.WEBHOOK_ORPHAN}
    assert f"delete {other.url}/webhook" in the(checks, Finding.WEBHOOK_ORPHAN).todo
    door.delete_webhook(left.webhook_id)
    assert set_up(served, door, number) == {}

    moved = door.add_webhook(number, "http://127.0.0.1:1/webhook", headers=secret(served))
    name = f"project {number}: old webhook {moved.webhook_id}"
    assert set_up(served, door, number) == {name: Finding.WEBHOOK_OLD_URL}
    door.delete_webhook(moved.webhook_id)
    assert set_up(served, door, number) == {}


def test_a_backend_that_label_studio_does_not_reach(
    served: Service, door: LabelStudio, patient: int, other: Loopback
) -> None:
    """First it answers us alone, as a port of this machine does that is none of Label Studio's container."""
    moved = Service(served.settings.model_copy(update={"backend_url": other.url}))
    connect(moved, door, patient)

    def not_to_label_studio(asked: Asked) -> Answer:
        return Answer(503 if "heartex" in asked.headers.get("User-Agent", "") else 200, {"status": "UP"})

    other.routes["GET", "/health"] = not_to_label_studio
    theirs = door.project(patient)
    check = the(registration.registered(moved, door, theirs), Finding.BACKEND_UNREACHED)
    assert "we do" in check.detail
    assert f"http://host.docker.internal:{other.port}" in check.todo
    other.close()
    check = the(registration.registered(moved, door, theirs), Finding.BACKEND_UNREACHED)
    assert "nor do we" in check.detail
    assert "illume serve" in check.todo
    moved.close()


def test_tokens_of_both_kinds(label_studio: LiveLabelStudio, door: LabelStudio) -> None:
    def token(value: str) -> Check:
        with LabelStudio(label_studio.url, value, timeout_s=60) as asking:
            return connection.token_accepted(asking)

    def allow_legacy(*, allowed: bool) -> None:
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": allowed}
        http.post(f"{door.url}api/jwt/settings", json=settings).raise_for_status()

    with httpx.Client(headers=door.auth_headers(), timeout=60, trust_env=False) as http:
        legacy = http.get(f"{door.url}api/current-user/token").raise_for_status().json()["token"]
        check = the([token(legacy)], Finding.TOKEN_LEGACY)
        assert "Personal Access Token" in check.todo
        assert legacy not in str(check.to_json())
        allow_legacy(allowed=True)
        try:
            assert wrong([token(legacy)]) == {}, "as the doctor says, an owner may allow them"
            the([token("0123456789abcdef0123456789abcdef01234567")], Finding.TOKEN_REFUSED)
        finally:
            allow_legacy(allowed=False)
    the([token(label_studio.token[:-4] + "AAAA")], Finding.TOKEN_REFUSED)
    assert wrong([token(label_studio.token)]) == {}


def png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (16, 16), (20, 120, 60)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def stored(
    served: Service,
    door: LabelStudio,
    label_studio: LiveLabelStudio,
    other: Loopback,
    s3_server: str,  # noqa: F811 - the fixture
) -> Iterator[tuple[Service, int, dict[str, tuple[Callable[[], object], Callable[[], object]]]]]:
    """A project with a picture of each kind of storage; and for each how to break and to mend it."""
    import boto3

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=s3_server, **keys)
    number = door.create_project("pictures of each kind", SELECT).project_id
    local = label_studio.document_root / f"doctor-{number}"
    local.mkdir()
    door.create_local_storage(number, str(local), "doctor")
    with httpx.Client(headers=door.auth_headers(), timeout=60, trust_env=False) as http:
        made = http.post(
            f"{door.url}api/storages/s3",
            json={
                "project": number, "title": "doctor", "bucket": BUCKET, "s3_endpoint": s3_server,
                "presign": True, "use_blob_urls": True, **keys,
            },
        )  # fmt: skip
        assert made.is_success, made.text
        files = {"file": ("a.png", png(), "image/png")}
        http.post(f"{door.url}api/projects/{number}/import", files=files).raise_for_status()
    (uploaded,) = [task.data["image"] for task in door.tasks(number)]
    upload = label_studio.folder / "media" / str(uploaded).removeprefix("/data/")
    name = f"doctor-{number}.png"
    addresses = {
        "local files": f"/data/local-files/?d={local.name}/a.png",
        "s3": f"s3://{BUCKET}/{name}",
        "http": f"{other.url}/a.png",
    }
    steps = {
        "upload": (upload.unlink, lambda: upload.write_bytes(png())),
        "local files": ((local / "a.png").unlink, lambda: (local / "a.png").write_bytes(png())),
        "s3": (
            lambda: s3.delete_object(Bucket=BUCKET, Key=name),
            lambda: s3.put_object(Bucket=BUCKET, Key=name, Body=png()),
        ),
        "http": (
            lambda: other.answer("GET", "/a.png", 404),
            lambda: other.answer("GET", "/a.png", 200, png()),
        ),
    }
    for kind in addresses:
        steps[kind][1]()
    asked = {"question": "what is it?", "answer": "a meadow"}
    door.import_tasks(number, [{"image": image, **asked} for image in addresses.values()])
    service = Service(served.settings.model_copy(update={"allowed_image_hosts": ("127.0.0.1",)}))
    connect(service, door, number)
    with service.store.write() as conn:
        data = projects.task_data(conn, number)
        projects.put_tasks(conn, number, [(task, {**fields, **asked}) for task, fields in data.items()])
    yield service, number, steps
    service.close()


def test_a_picture_of_each_kind_of_storage(stored: Any) -> None:
    """Broken one after the other, past the cache that has them all, and mended again."""
    service, number, steps = stored
    with service.store.read() as conn:
        known = projects.get(conn, number)

    def missing() -> dict[str, Finding]:
        return wrong(pictures.one_of_each_kind(service, known, anew=True))

    assert missing() == {}
    assert wrong(pictures.one_of_each_kind(service, known, anew=False)) == {}
    for kind, (break_it, mend) in steps.items():
        break_it()
        assert missing() == {f"project {number}: picture ({kind})": Finding.PICTURES}
        mend()
        assert missing() == {}, kind


@contextmanager
def another_start(label_studio: LiveLabelStudio, folder: Path, **variables: str) -> Iterator[str]:
    """The same Label Studio, started again beside itself with other variables; gives its address."""
    server = LabelStudioServer(
        label_studio.executable, label_studio.folder, free_port(), label_studio.document_root, "x", "x"
    )
    known = environment(os.environ, label_studio.folder, label_studio.document_root, "x@example.com", "x")
    child = Child(server.child.name, server.child.command, environment=known | variables, log=folder / "log")
    server.child = child
    server.start()
    try:
        server.wait_until_ready(print)
        yield server.url
    finally:
        server.stop()


def test_a_label_studio_that_blocks_webhooks_and_pushes_slowly(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, tmp_path: Path
) -> None:
    """Only one of the two variables is off, which makes a backend without its webhook."""
    number = door.create_project("half connected", SELECT).project_id
    door.import_tasks(number, [{"image": "a", "question": "b", "answer": "c"}] * MANY_TASKS)
    url = served.settings.backend_url
    strict = {"LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "true", BULK_FLAG: "false"}
    with (
        another_start(label_studio, tmp_path, **strict) as address,
        LabelStudio(address, label_studio.token, timeout_s=60) as half,
    ):
        with pytest.raises(LabelStudioError, match="403 to POST"):
            connect(served, half, number)
        check = the([connection.calls_us(half, url)], Finding.ADDRESS_BLOCKED)
        assert "(its webhook), by SSRF_PROTECTION_ENABLED;" in check.detail
        found = set_up(served, half, number)
        assert found[f"project {number}: webhook"] is Finding.WEBHOOK_MISSING
        assert f"project {number}: backend" not in found, "it is there, and connected"
        slow = the(bulk_is_cheap(half.flags(), half.project(number)), Finding.PUSH_SLOW)
        assert f"{BULK_FLAG}=true" in slow.todo
    assert wrong([connection.calls_us(door, url)]) == {}, "with both variables"
    assert wrong(bulk_is_cheap(door.flags(), door.project(number))) == {}
    connect(served, door, number)
    assert set_up(served, door, number) == {}
    unknown = connection.calls_us(door, "http://no-such-host.invalid:9090")
    the([unknown], Finding.ADDRESS_UNRESOLVED)


def test_the_whole_examination_by_the_command(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, patient: int, monkeypatch: Any
) -> None:
    """A project that is gone, then a whole one; nothing is changed by looking, and no secret is told."""
    Reconciler(served, door, patient).round()
    working(served.store, [patient], owner=new_owner(), until=served.clock() + 120.0)
    for name, value in {
        "DATA_DIR": served.settings.data_dir,
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_TOKEN": label_studio.token,
        "BACKEND_URL": served.settings.backend_url,
    }.items():
        monkeypatch.setenv(f"ILLUME_{name}", str(value))

    def state() -> Any:
        return door.project(patient), door.backends(patient), door.webhooks(patient)

    before = state()
    result = CliRunner().invoke(main, ["doctor", "--json", "--skip-model", "--project", str(patient)])
    told = json.loads(result.stdout)
    assert [one for one in told["checks"] if one["outcome"] == "failed"] == []
    assert (result.exit_code, told["ok"]) == (0, True)
    assert state() == before
    assert "no tasks" in [one["finding"] for one in told["checks"]]
    for secret_text in (label_studio.token, door.access_token(), served.settings.shared_secret()):
        assert secret_text not in result.output

    with httpx.Client(headers=door.auth_headers(), timeout=60, trust_env=False) as http:
        http.delete(f"{door.url}api/projects/{patient}/").raise_for_status()
    checks = list(examine(served, model=False, project_id=patient))
    the(checks, Finding.PROJECT_CLOSED)
