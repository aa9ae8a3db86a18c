"""A trial on a real Label Studio and its real page: what an annotator sees, what the ticks bring about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from conftest import SELECT, SayingGenerator
from PIL import Image
from playwright.sync_api import Page
from test_trial_service import CHALLENGER, publish

from backend import trials
from backend.presample import push_ahead, sample_ahead
from backend.service import Service
from backend.worker import Worker
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, projects
from illume_plugin.trials import TrialEnd
from illume_plugin.types import BASE_VERSION, Candidate, Project
from live.conftest import LiveLabelStudio
from live.test_connect_live import connect
from live.test_loop_live import Labeller, page  # noqa: F401 - a fixture

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

TASKS = 16
#: What the stand-in for the model says as each version.
SAYS = {BASE_VERSION: "everything is green", CHALLENGER: "there is grass"}
#: Tasks that are ticked on the page; the others through Label Studio's API.
BY_HAND = 2


class TwoVoices(SayingGenerator):
    """Its texts tell which version wrote them to who knows SAYS, and name none."""

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        says = SAYS[BASE_VERSION if adapter is None else adapter.split("-")[1]]
        return [[Candidate(f"{says}, point {k}", 0.5, k) for k in range(3)] for _ in requests]


@pytest.fixture
def project_id(served: Service, door: LabelStudio, label_studio: LiveLabelStudio) -> int:
    """A connected project with candidates of the base model in Label Studio, and a version that is ready."""
    served.engine._generator = TwoVoices()
    folder = label_studio.document_root / "trial"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), (20, 120, 60)).save(folder / "meadow.png")
    number = door.create_project("on trial", SELECT).project_id
    door.create_local_storage(number, str(folder), "trial")
    image = "/data/local-files/?d=trial/meadow.png"
    asked = [
        {"image": image, "question": f"what is {n}?", "answer": "a meadow", "scene": n} for n in range(TASKS)
    ]
    door.import_tasks(number, asked)
    connect(served, door, number)
    publish(served, number)
    sample_and_push(served, number)
    return number


def project_of(service: Service, project_id: int) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, project_id)


def sample_and_push(service: Service, project_id: int) -> None:
    project = project_of(service, project_id)
    while sample_ahead(service, project):
        pass
    push_ahead(service, project, everything=True)


def in_store(service: Service, project_id: int, task_id: int) -> list[str]:
    project = project_of(service, project_id)
    key = {"version": project.active_version, "plan": service.sampler.key(project)}
    with service.store.read() as conn:
        return candidates.get(conn, project_id, [task_id], **key)[task_id].texts


def by_challenger(texts: Sequence[str]) -> list[int]:
    return [row for row, text in enumerate(texts, start=1) if text.startswith(SAYS[CHALLENGER])]


def annotator(page: Page, label_studio: LiveLabelStudio, project_id: int) -> Labeller:  # noqa: F811
    stream = f"{label_studio.url}/projects/{project_id}/data?labeling=1"
    user = SimpleNamespace(
        url=label_studio.url, user=label_studio.username, password=label_studio.password, stream=stream
    )
    labeller = Labeller(page, user)  # type: ignore[arg-type]
    labeller.log_in()
    labeller.open_stream()
    return labeller


def submit_by_api(session: httpx.Client, task_id: int) -> None:
    """What the page sends for the newest prediction, with the challenger's rows ticked."""
    told = session.get(f"/api/tasks/{task_id}/").raise_for_status().json()
    newest: dict[str, Any] = max(told["predictions"], key=lambda one: one["id"])
    rows = by_challenger(newest["result"][0]["value"]["text"])
    ticks = {"choices": [f"c{row}" for row in rows]}
    fits = {"id": "f", "from_name": "fits", "to_name": "image", "type": "choices", "value": ticks}
    body = {"result": [*newest["result"], fits], "lead_time": 3.5, "parent_prediction": newest["id"]}
    session.post(f"/api/tasks/{task_id}/annotations/", json=body).raise_for_status()


def test_people_decide_and_see_nothing_of_it(
    served: Service,
    door: LabelStudio,
    label_studio: LiveLabelStudio,
    project_id: int,
    page: Page,  # noqa: F811
) -> None:
    trials.begin(served, project_id, CHALLENGER, who="ann")
    sample_and_push(served, project_id)
    assert door.predictions_by_version(project_id) == {BASE_VERSION: 2 * TASKS}, "one string for both"

    labeller = annotator(page, label_studio, project_id)
    judged: list[int] = []
    for _ in range(BY_HAND):
        shown = labeller.look(after=judged[-1] if judged else None)
        assert shown.texts == in_store(served, project_id, shown.task_id), "the newer of two predictions"
        assert len(by_challenger(shown.texts)) == 3
        assert labeller.ticked() == []
        on_page = page.locator("body").inner_text()
        assert shown.texts[0] in on_page
        assert CHALLENGER not in on_page, "whose candidates they are is not to be read"
        labeller.tick(by_challenger(shown.texts))
        labeller.submit()
        judged.append(shown.task_id)
    labeller.look(after=judged[-1])

    with httpx.Client(base_url=label_studio.url, headers=door.auth_headers(), timeout=60) as session:
        for task_id in sorted({task.task_id for task in door.tasks(project_id)} - set(judged))[:-1]:
            submit_by_api(session, task_id)
    worker = Worker(served)
    while worker._round():
        pass
    standing = trials.standing(served, project_id)
    assert standing is not None
    assert standing.trial.end is TrialEnd.BETTER
    assert standing.figures.tasks < TASKS
    assert project_of(served, project_id).adapters == (CHALLENGER,)
    assert served.setup(project_id, SELECT) == CHALLENGER

    labeller.open_stream()
    shown = labeller.look()
    assert shown.task_id not in judged
    assert len(by_challenger(shown.texts)) == len(shown.texts) == 3
