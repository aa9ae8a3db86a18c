"""Connect and bad input against a real Label Studio; only the generator is a stand-in."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from conftest import SELECT
from PIL import Image

from backend.connect import Connector
from backend.doctor import examine
from backend.service import Service
from backend.settings import SECRET_HEADER
from illume_plugin.errors import LabelConfigError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, judgements, projects
from live.conftest import LiveLabelStudio

pytestmark = pytest.mark.live

FOREIGN = (
    '<View><Image name="image" value="$image"/>'
    '<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


def connect(
    service: Service, door: LabelStudio, project_id: int, *, dry_run: bool = False, xml: str | None = None
) -> list[str]:
    said = []
    for change in Connector(service, door, project_id).changes(label_config=xml):
        said.append(change.text)
        if not dry_run:
            change.apply()
    return said


def state(door: LabelStudio, project_id: int) -> Any:
    project = door.project(project_id)
    hooks = [(hook.url, dict(hook.headers)) for hook in door.webhooks(project_id)]
    return project, project.label_config, door.backends(project_id), hooks


def test_an_existing_project_is_told_before_it_is_changed(served: Service, door: LabelStudio) -> None:
    project_id = door.create_project("an existing project", FOREIGN).project_id
    door.update_project(project_id, show_collab_predictions=False)
    before = state(door, project_id)

    with pytest.raises(LabelConfigError, match="--label-config select"):
        connect(served, door, project_id)
    assert state(door, project_id) == before, "refused, and nothing was changed"

    said = connect(served, door, project_id, dry_run=True, xml=SELECT)
    assert state(door, project_id) == before, "a dry run changes nothing"
    with served.store.read() as conn:
        assert projects.find(conn, project_id) is None

    for expected in ("replace the labelling configuration", "prelabel", "ML backend", "webhook", "tasks"):
        assert any(expected in line for line in said), expected
    connect(served, door, project_id, xml=SELECT)
    project, label_config, (backend,), ((url, headers),) = state(door, project_id)
    assert label_config.strip() == SELECT.strip()
    assert project.show_collab_predictions
    assert project.model_version == backend.title
    assert backend.state == "CO"
    assert url == f"{served.settings.backend_url}/webhook"
    assert headers == {SECRET_HEADER: served.settings.shared_secret()}

    again = connect(served, door, project_id)
    assert not any("add" in line or "replace" in line or "give" in line for line in again), again


def picture(size: int) -> Image.Image:
    return Image.new("RGB", (size, size), (20, 120, 60))


@pytest.fixture
def odd_tasks(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, request: Any
) -> dict[str, int]:
    """A connected project whose tasks are good and bad in every way; name -> task id."""
    folder = label_studio.document_root / request.node.name
    folder.mkdir(parents=True)
    picture(64).save(folder / "good.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("this is no picture")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:60])
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    url = f"/data/local-files/?d={request.node.name}/"
    asked = {"question": "what is it?", "answer": "a meadow"}
    data = {
        "good": {"image": f"{url}good.png", **asked},
        "gone": {"image": f"{url}gone.png", **asked},
        "empty": {"image": f"{url}empty.png", **asked},
        "text": {"image": f"{url}text.png", **asked},
        "cut": {"image": f"{url}cut.png", **asked},
        "huge": {"image": f"{url}huge.png", **asked},
        "elsewhere": {"image": "http://169.254.169.254/latest/meta-data", **asked},
        "no question": {"image": f"{url}good.png", "question": "", "answer": "a meadow"},
        "good too": {"image": f"{url}good.png", **asked},
    }
    project_id = door.create_project("odd tasks", SELECT).project_id
    door.create_local_storage(project_id, str(folder), "odd")
    ids = door.import_tasks(project_id, list(data.values()))
    connect(served, door, project_id)
    return {"project": project_id, **dict(zip(data, ids, strict=True))}


def test_every_task_opens_whatever_is_wrong_with_it(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, odd_tasks: dict[str, int]
) -> None:
    project_id = odd_tasks.pop("project")
    with httpx.Client(base_url=label_studio.url, headers=door.auth_headers(), timeout=60) as session:
        predictions = {
            name: session.get(f"/api/tasks/{task_id}/").raise_for_status().json()["predictions"]
            for name, task_id in odd_tasks.items()
        }
    assert {name: len(found) for name, found in predictions.items()} == {
        name: int(name.startswith("good")) for name in odd_tasks
    }
    with served.store.read() as conn:
        reasons = candidates.problems(conn, project_id, version="v0000")
    assert set(reasons) == {task_id for name, task_id in odd_tasks.items() if not name.startswith("good")}
    assert all(len(reason) > 20 for reason, _ in reasons.values())


def test_one_bad_task_does_not_spoil_a_batch(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, odd_tasks: dict[str, int]
) -> None:
    project_id = odd_tasks.pop("project")
    retrieve(label_studio, door, project_id)
    assert stored(label_studio, door, project_id) == 2, "the good ones have theirs, the others nothing"


def retrieve(label_studio: LiveLabelStudio, door: LabelStudio, project_id: int) -> None:
    """Data Manager: Actions, Retrieve Predictions, all tasks."""
    answer = httpx.post(
        f"{label_studio.url}/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": project_id},
        json={"selectedItems": {"all": True, "excluded": []}},
        headers=door.auth_headers(),
        timeout=120,
    )
    answer.raise_for_status()


def stored(label_studio: LiveLabelStudio, door: LabelStudio, project_id: int) -> int:
    """How many predictions Label Studio holds."""
    url = f"{label_studio.url}/api/projects/{project_id}/"
    return int(httpx.get(url, headers=door.auth_headers(), timeout=60).json()["total_predictions_number"])


def test_too_many_tasks_at_once_are_refused_and_still_open(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, odd_tasks: dict[str, int]
) -> None:
    project_id = odd_tasks["project"]
    (data,) = [task.data for task in door.tasks(project_id) if task.task_id == odd_tasks["good"]]
    ids = door.import_tasks(project_id, [dict(data)] * 30)
    retrieve(label_studio, door, project_id)
    assert stored(label_studio, door, project_id) == 0
    answer = httpx.get(f"{label_studio.url}/api/tasks/{ids[0]}/", headers=door.auth_headers(), timeout=60)
    assert len(answer.raise_for_status().json()["predictions"]) == 1


def test_annotations_arrive_change_and_vanish(
    served: Service, door: LabelStudio, label_studio: LiveLabelStudio, odd_tasks: dict[str, int]
) -> None:
    project_id, task_id = odd_tasks["project"], odd_tasks["good"]
    with httpx.Client(base_url=label_studio.url, headers=door.auth_headers(), timeout=60) as session:
        task = session.get(f"/api/tasks/{task_id}/").json()
        candidates_shown = task["predictions"][0]["result"]

        def body(*ticks: str) -> dict[str, Any]:
            fits = {
                "from_name": "fits",
                "to_name": "image",
                "type": "choices",
                "value": {"choices": [*ticks]},
            }
            return {"result": [*candidates_shown, {"id": "f", **fits}], "lead_time": 3.5}

        def verdicts() -> str:
            served.apply_events()
            with served.store.read() as conn:
                found = judgements.preferences_in(conn, project_id)
            return " ".join(one.verdict.value for one in found)

        made = session.post(f"/api/tasks/{task_id}/annotations/", json=body("c2")).raise_for_status().json()
        assert verdicts() == "unfit fits unfit"
        session.patch(f"/api/annotations/{made['id']}/", json=body("none")).raise_for_status()
        assert verdicts() == "unfit unfit unfit"
        session.delete(f"/api/annotations/{made['id']}/").raise_for_status()
        assert verdicts() == ""


def test_no_secret_is_kept_or_logged(
    served: Service,
    door: LabelStudio,
    label_studio: LiveLabelStudio,
    odd_tasks: dict[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    task_id = odd_tasks["good"]
    with httpx.Client(base_url=label_studio.url, headers=door.auth_headers(), timeout=60) as session:
        session.get(f"/api/tasks/{task_id}/").raise_for_status()
        session.post(f"/api/tasks/{task_id}/annotations/", json={"result": []}).raise_for_status()
    list(examine(served))
    served.apply_events()
    folder = served.settings.data_dir
    kept = b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "secret"
    )
    secrets = {
        "token": label_studio.token,
        "access token": door.access_token(),
        "our secret": served.settings.shared_secret(),
    }
    assert b'"action"' in kept, "the event is there"
    assert b'"token"' not in kept, "the project's invite token came with the event and was left out"
    basic = base64.b64encode(f"illume:{served.settings.shared_secret()}".encode()).decode()
    for name, secret in {**secrets, "basic": basic}.items():
        assert secret.encode() not in kept, f"{name} is on disk"
        assert secret not in caplog.text, f"{name} is in the log"
        assert secret not in json.dumps([str(check) for check in examine(served)]), f"{name} is shown"
