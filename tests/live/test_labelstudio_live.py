"""The door, the pictures and the demo's set-up, against a real Label Studio."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import Loopback

import label_config
from backend.demo.bootstrap import personal_access_token
from backend.demo.labelstudio_server import LabelStudioServer, environment
from backend.demo.pictures import Pictures, make_pictures
from backend.demo.processes import Child
from backend.demo.project import ensure_project
from illume_plugin.errors import ImageError, LabelStudioError
from illume_plugin.images import ImageStore
from illume_plugin.labelstudio import LabelStudio, TokenRefusedError
from illume_plugin.labelstudio.push_costs import HANDFUL
from illume_plugin.types import Task
from live.conftest import LiveLabelStudio, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture
def door(label_studio: LiveLabelStudio) -> Iterator[LabelStudio]:
    with label_studio.door() as door:
        yield door


@pytest.fixture(scope="module")
def pictures(label_studio: LiveLabelStudio) -> Pictures:
    return make_pictures(label_studio.document_root / "pictures", 3, 7, lambda *_: None)


@pytest.fixture
def project_id(door: LabelStudio) -> int:
    """A fresh project with thirty tasks."""
    project = door.create_project("Live test", label_config.read("select"), "for one test")
    door.import_tasks(project.project_id, [task_data(number) for number in range(30)])
    return project.project_id


@pytest.fixture
def backend(loopback: Loopback) -> Loopback:
    """A backend that Label Studio finds healthy."""
    loopback.answer("GET", "/health", 200, {"status": "UP"})
    loopback.answer("POST", "/setup", 200, {"model_version": "v0000"})
    loopback.answer("POST", "/webhook", 200, {})
    return loopback


def task_data(number: int) -> dict[str, Any]:
    return {
        "image": f"/data/local-files/?d=pictures/{number}.png",
        "question": "why?",
        "answer": "so",
        "n": number,
    }


def prediction(task_id: int, **fields: Any) -> dict[str, Any]:
    text = {"from_name": "cand", "to_name": "image", "type": "textarea", "value": {"text": ["a", "b"]}}
    return {"task": task_id, "result": [text], "score": 0.5, "model_version": "v0001", **fields}


def test_the_token_is_exchanged_and_renewed(label_studio: LiveLabelStudio, door: LabelStudio) -> None:
    assert door.version().startswith("1.")
    assert door.current_user().email == label_studio.username
    first = door.access_token()
    assert first != label_studio.token
    door._tokens._access = first[:-3] + "xxx"  # as if Label Studio had changed its key meanwhile
    assert door.current_user().email == label_studio.username
    assert door.access_token() not in (first, first[:-3] + "xxx")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(lambda token: token[:-3] + "xxx", "Token is invalid"), (lambda _: "0" * 40, "Invalid token")],
)
def test_a_wrong_token_is_refused(label_studio: LiveLabelStudio, spoil: Any, says: str) -> None:
    with (
        LabelStudio(label_studio.url, spoil(label_studio.token)) as door,
        pytest.raises(TokenRefusedError, match=says),
    ):
        door.current_user()


def test_bootstrap_keeps_its_token_and_replaces_a_lost_one(
    label_studio: LiveLabelStudio, tmp_path: Path
) -> None:
    """With a user of its own: a new token ends the user's old one."""
    keep = tmp_path / "deep" / "token"
    session = httpx.Client(base_url=label_studio.url, headers={"Referer": label_studio.url})
    with label_studio.door() as door, session:
        invitation = httpx.get(f"{label_studio.url}/api/invite", headers=door.auth_headers()).json()[
            "invite_url"
        ]
        session.get(invitation)
        form = {
            "email": "second@example.com",
            "password": "second-user",
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
        }
        assert session.post(invitation, data=form).has_redirect_location

    def ask() -> str:
        return personal_access_token(label_studio.url, "second@example.com", "second-user", keep)

    first = ask()
    assert ask() == first
    assert keep.stat().st_mode & 0o777 == 0o600
    keep.unlink()
    second = ask()
    assert second != first
    keep.write_text(first)  # revoked by the second one
    assert ask() not in (first, second)
    with pytest.raises(LabelStudioError, match="does not know the user"):
        personal_access_token(label_studio.url, "second@example.com", "wrong", tmp_path / "other")


def test_a_project_is_made_changed_and_found(door: LabelStudio, project_id: int) -> None:
    project = door.project(project_id)
    assert (project.title, project.task_number, project.show_collab_predictions) == ("Live test", 30, True)
    assert project.label_config.strip() == label_config.read("select").strip()
    changed = door.update_project(project_id, title="Live test, changed", show_collab_predictions=False)
    assert (changed.title, changed.show_collab_predictions) == ("Live test, changed", False)
    assert [each.project_id for each in door.projects_titled("Live test, changed")] == [project_id]
    door.push_predictions(project_id, [prediction(next(door.tasks(project_id)).task_id)])
    door.set_model_version(project_id, "v0001")
    assert door.project(project_id).model_version == "v0001"
    with pytest.raises(LabelStudioError, match=r"400 to POST /api/projects/: .*label_config"):
        door.create_project("Live test, broken", "<View>")
    with pytest.raises(LabelStudioError, match="404 to GET /api/projects/999999/"):
        door.project(999_999)


@pytest.mark.parametrize("page_size", [1, 7, 30, 1000])
def test_tasks_are_paged(door: LabelStudio, project_id: int, page_size: int) -> None:
    tasks = list(door.tasks(project_id, page_size=page_size))
    assert [task.data for task in tasks] == [task_data(number) for number in range(30)]
    assert not any(task.is_labeled for task in tasks)
    assert list(door.tasks(project_id, page_size=page_size, after=tasks[-2].task_id)) == tasks[-1:]


def test_predictions_are_counted(door: LabelStudio, project_id: int) -> None:
    tasks = [task.task_id for task in door.tasks(project_id)]
    assert door.push_predictions(project_id, [prediction(task) for task in tasks]) == 30
    assert door.push_predictions(project_id, [prediction(task) for task in tasks[:HANDFUL]]) == HANDFUL


@pytest.mark.parametrize("count", [2, HANDFUL + 2])
@pytest.mark.parametrize("broken", [{"task": 999_999_999}, {"score": "high"}])
def test_predictions_that_do_not_fit_are_an_error(
    door: LabelStudio, project_id: int, count: int, broken: dict[str, Any]
) -> None:
    tasks = [task.task_id for task in door.tasks(project_id)]
    bad = [prediction(task) for task in tasks[: count - 1]] + [prediction(tasks[count], **broken)]
    with pytest.raises(LabelStudioError):
        door.push_predictions(project_id, bad)


def test_a_backend_with_its_webhook(door: LabelStudio, project_id: int, backend: Loopback) -> None:
    made = door.add_backend(
        project_id, backend.url, "ILLUME", user="illume", password="pw", is_interactive=True
    )
    assert (made.project_id, made.title, made.url) == (project_id, "ILLUME", backend.url)
    (listed,) = door.backends(project_id)
    assert (listed.backend_id, listed.state, listed.model_version, listed.is_interactive) == (
        made.backend_id, "CO", "v0000", True,
    )  # fmt: skip
    assert {"Authorization": "Basic aWxsdW1lOnB3"}.items() <= backend.asked("POST", "/setup")[
        -1
    ].headers.items()

    (webhook,) = door.webhooks(project_id)
    assert webhook.url == f"{backend.url}/webhook"
    assert webhook.is_active
    changed = door.update_webhook(webhook.webhook_id, webhook.url, headers={"X-Illume-Secret": "hush"})
    assert changed.headers == {"X-Illume-Secret": "hush"}
    door.import_tasks(project_id, [task_data(31)])
    event = backend.asked("POST", "/webhook")[-1]
    assert (event.body["action"], event.headers["X-Illume-Secret"]) == ("TASKS_CREATED", "hush")
    door.train(made.backend_id)
    assert backend.asked("POST", "/webhook")[-1].body["action"] == "START_TRAINING"

    door.update_backend(made.backend_id, project_id, backend.url, "ILLUME again")
    assert door.backends(project_id)[0].title == "ILLUME again"
    door.delete_backend(made.backend_id)
    door.delete_webhook(webhook.webhook_id)
    assert (door.backends(project_id), door.webhooks(project_id)) == ([], [])


def test_a_backend_that_is_not_there(door: LabelStudio, project_id: int) -> None:
    with pytest.raises(LabelStudioError, match="health check failed"):
        door.add_backend(project_id, f"http://127.0.0.1:{free_port()}", "ILLUME")


def test_a_label_studio_with_its_defaults_names_the_lines_that_mend_it(
    label_studio: LiveLabelStudio, tmp_path: Path, backend: Loopback
) -> None:
    """A second server on a copy of the data (so that it starts in seconds), without the two switches."""
    folder = tmp_path / "data"
    shutil.copytree(label_studio.folder, folder)
    server = LabelStudioServer(
        label_studio.executable, folder, free_port(), label_studio.document_root, "x@example.com", "x"
    )
    defaults = environment(os.environ, folder, label_studio.document_root, "x@example.com", "x")
    del defaults["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"], defaults["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"]
    server.child = Child(
        "strict Label Studio", server.child.command, environment=defaults, log=tmp_path / "log"
    )
    server.start()
    try:
        server.wait_until_ready(print)
        with LabelStudio(server.url, label_studio.token, timeout_s=60) as door:
            project = door.create_project("Strict", label_config.read("select"))
            for ask in (
                lambda: door.add_backend(project.project_id, backend.url, "ILLUME"),
                lambda: door.add_webhook(project.project_id, f"{backend.url}/webhook"),
            ):
                with pytest.raises(LabelStudioError, match="403 to POST") as caught:
                    ask()
                assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in caught.value.todo
    finally:
        server.stop()
    assert backend.requests == []


def test_the_demo_project_is_made_once(door: LabelStudio, pictures: Pictures) -> None:
    first = ensure_project(door, "Demo made once", label_config.read("select"), pictures)
    assert ensure_project(door, "Demo made once", label_config.read("select"), pictures) == first
    assert door.project(first).task_number == len(pictures.tasks)
    assert len(door.local_storages(first)) == 1


def test_pictures_come_from_local_files_and_uploads(
    label_studio: LiveLabelStudio, door: LabelStudio, pictures: Pictures, tmp_path: Path
) -> None:
    project_id = ensure_project(door, "Demo with an upload", label_config.read("select"), pictures)
    original = (pictures.folder / "0001.png").read_bytes()
    upload = httpx.post(
        f"{label_studio.url}/api/projects/{project_id}/import",
        headers=door.auth_headers(),
        files={"file": ("ü 1.png", original, "image/png")},
    )
    assert upload.status_code == 201
    images = [task.data["image"] for task in door.tasks(project_id)]
    assert images[-1].startswith("/data/upload/")
    store = ImageStore(tmp_path, label_studio_url=label_studio.url, auth_headers=door.auth_headers)
    nobody = ImageStore(tmp_path / "nobody", label_studio_url=label_studio.url, auth_headers=None)
    for image in (images[0], images[-1]):
        assert store.fetch(Task(project_id, 1, image, "q", "a")).read_bytes() == original
        with pytest.raises(ImageError, match="answered 401"):
            nobody.fetch(Task(project_id, 1, image, "q", "a"))
    for image, says in {
        "/data/local-files/?d=pictures/9999.png": "answered 404",
        "/data/local-files/?d=pictures/scenes.json": "is not a picture",
        "s3://bucket/x.png": "answered 404",
    }.items():
        with pytest.raises(ImageError, match=says):
            store.fetch(Task(project_id, 1, image, "q", "a"))
    store.close()
    nobody.close()


def test_predictions_of_one_version_are_deleted_and_a_page_that_showed_one_cannot_be_submitted(
    door: LabelStudio, project_id: int
) -> None:
    """Why old predictions stay for a day after a switch."""
    tasks = [task.task_id for task in door.tasks(project_id)]
    old, new = (
        [{**prediction(task), "model_version": version} for task in tasks] for version in ("v0000", "v0001")
    )
    door.push_predictions(project_id, old)
    door.push_predictions(project_id, new)
    assert door.predictions_by_version(project_id) == {"v0000": 30, "v0001": 30}
    shown = httpx.get(
        f"{door.url}api/tasks/{tasks[0]}/", headers=door.auth_headers(), trust_env=False, timeout=60
    ).json()
    open_page = next(one for one in shown["predictions"] if one["model_version"] == "v0000")
    assert door.delete_predictions(project_id, "v0000") == 30
    assert door.predictions_by_version(project_id) == {"v0001": 30}
    assert door.delete_predictions(project_id, "v0000") == 0
    refused = httpx.post(
        f"{door.url}api/tasks/{tasks[0]}/annotations/",
        headers=door.auth_headers(),
        json={"result": [], "parent_prediction": open_page["id"]},
        trust_env=False,
        timeout=60,
    )
    assert refused.status_code == 400
    assert "parent_prediction" in refused.text
