"""A random walk of what people do in a real Label Studio, told by its events late, doubled or not at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from conftest import SELECT

from backend.connect import Connector
from backend.reconcile import Reconciler, Round
from backend.service import Service
from illume_plugin.preferences import preferences_of, read_annotation
from illume_plugin.store import intake, judgements
from illume_plugin.store.intake import Found
from illume_plugin.types import Preference
from live.conftest import LiveLabelStudio

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

STEPS = 60


class People:
    """What people do in one project, through the calls that Label Studio's pages make."""

    def __init__(self, http: httpx.Client, project_id: int, rng: random.Random) -> None:
        self.http = http
        self.project_id = project_id
        self.rng = rng

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more).raise_for_status()
        return answer.json() if answer.content else None

    def action(self, name: str, tasks: list[int], **more: Any) -> None:
        """An action of the Data Manager on chosen tasks."""
        chosen = {"selectedItems": {"all": False, "included": tasks}, **more}
        self.call("POST", "/api/dm/actions", params={"id": name, "project": self.project_id}, json=chosen)

    def shown(self) -> list[dict[str, Any]]:
        """Ids of all tasks and of their annotations."""
        asked = {"project": self.project_id, "page_size": 500, "fields": "all", "include": "id,annotations"}
        return list(self.call("GET", "/api/tasks/", params=asked)["tasks"])

    def tasks(self) -> list[int]:
        return [task["id"] for task in self.shown()]

    def export(self) -> list[dict[str, Any]]:
        """All tasks with their annotations, as Label Studio itself exports them."""
        asked = {"exportType": "JSON", "download_all_tasks": "true"}
        return list(self.call("GET", f"/api/projects/{self.project_id}/export", params=asked))

    def one(self, of: list[int]) -> int:
        return self.rng.choice(of)

    def annotation(self) -> int | None:
        said = [one["id"] for task in self.shown() for one in task["annotations"]]
        return self.one(said) if said else None

    # -- what they do ------------------------------------------------------------------------------

    def import_tasks(self) -> None:
        some = [
            {"data": data(self.rng), **({"annotations": [self.said()]} if self.rng.random() < 0.5 else {})}
            for _ in range(self.rng.randrange(1, 5))
        ]
        self.call("POST", f"/api/projects/{self.project_id}/import", json=some)

    def said(self) -> dict[str, Any]:
        ticks = self.rng.choice([["c1"], ["c2"], ["none"], ["c1", "c2"]])
        return {"result": result(ticks), "lead_time": 2.5}

    def submit(self) -> None:
        self.call("POST", f"/api/tasks/{self.one(self.tasks())}/annotations/", json=self.said())

    def skip(self) -> None:
        skipped = {"result": [], "was_cancelled": True}
        self.call("POST", f"/api/tasks/{self.one(self.tasks())}/annotations/", json=skipped)

    def edit(self) -> None:
        if (annotation := self.annotation()) is not None:
            self.call("PATCH", f"/api/annotations/{annotation}/", json=self.said())

    def edit_twice(self) -> None:
        if (annotation := self.annotation()) is not None:
            for _ in range(2):
                self.call("PATCH", f"/api/annotations/{annotation}/", json=self.said())

    def skip_what_was_submitted(self) -> None:
        if (annotation := self.annotation()) is not None:
            self.call("PATCH", f"/api/annotations/{annotation}/", json={"was_cancelled": True})

    def delete_annotation(self) -> None:
        if (annotation := self.annotation()) is not None:
            self.call("DELETE", f"/api/annotations/{annotation}/")

    def convert_to_draft(self) -> None:
        if (annotation := self.annotation()) is not None:
            self.call("POST", f"/api/annotations/{annotation}/convert-to-draft")

    def delete_task(self) -> None:
        self.call("DELETE", f"/api/tasks/{self.one(self.tasks())}/")

    def change_data(self) -> None:
        self.call("PATCH", f"/api/tasks/{self.one(self.tasks())}/", json={"data": data(self.rng)})

    def delete_annotations_of_some(self) -> None:
        self.action("delete_tasks_annotations", self.some())

    def delete_some_tasks(self) -> None:
        self.action("delete_tasks", self.some()[:2])

    def predict(self) -> None:
        for task in self.some():
            body = {"task": task, "result": result(["c1"]), "score": 0.5, "model_version": "v0000"}
            self.call("POST", "/api/predictions/", json=body)

    def predictions_to_annotations(self) -> None:
        self.predict()
        self.action("predictions_to_annotations", self.some())

    def propagate(self) -> None:
        if (annotation := self.annotation()) is not None:
            self.action("propagate_annotations", self.some(), source_annotation_id=annotation)

    def rename(self) -> None:
        renamed = {"control_tag": "fits", "old_label_name": "c1", "new_label_name": "c2"}
        self.action("rename_labels", self.some(), **renamed)

    def remove_duplicates(self) -> None:
        self.action("remove_duplicates", self.tasks())

    def some(self) -> list[int]:
        tasks = self.tasks()
        return self.rng.sample(tasks, min(4, len(tasks)))


def data(rng: random.Random) -> dict[str, str]:
    """Few pictures, so that there are duplicates."""
    return {"image": f"/data/{rng.randrange(8)}.png", "question": "what is it?", "answer": "a bird"}


def result(ticks: list[str]) -> list[dict[str, Any]]:
    texts = {"from_name": "cand", "type": "textarea", "value": {"text": ["it flies", "it has wings"]}}
    fits = {"from_name": "fits", "type": "choices", "value": {"choices": ticks}}
    return [{**texts, "to_name": "image", "id": "a"}, {**fits, "to_name": "image", "id": "b"}]


class BadPost:
    """Delivers events to the service: some at once, some later, some twice, some never."""

    def __init__(self, service: Service, rng: random.Random) -> None:
        self.deliver = service.receive
        self.rng = rng
        self.late: list[Mapping[str, Any]] = []
        self.lock = threading.Lock()
        service.receive = self.receive  # type: ignore[method-assign]

    def receive(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with self.lock:
            fate = self.rng.choice(["now", "now", "late", "twice", "never"])
            if fate in ("late", "twice"):
                self.late.append(body)
        return self.deliver(body) if fate in ("now", "twice") else {}

    def deliver_late(self) -> None:
        with self.lock:
            bodies, self.late = self.late, []
        self.rng.shuffle(bodies)
        for body in bodies:
            self.deliver(body)


@pytest.fixture
def people(served: Service, label_studio: LiveLabelStudio) -> Iterator[People]:
    door = served.label_studio
    assert door is not None
    project_id = door.create_project("a random walk", SELECT).project_id
    with httpx.Client(base_url=label_studio.url, timeout=120, auth=door._http.auth, trust_env=False) as http:
        yield People(http, project_id, random.Random(7))


def connect(service: Service, project_id: int) -> None:
    assert service.label_studio is not None
    for change in Connector(service, service.label_studio, project_id).changes():
        change.apply()


def reconcile(service: Service, project_id: int) -> Round:
    assert service.label_studio is not None
    return Reconciler(service, service.label_studio, project_id, page=7).round()


def in_order(preferences: list[Preference]) -> list[Preference]:
    return sorted(preferences, key=lambda one: (one.annotation_id, one.position, one.text))


def exported(people: People) -> list[Preference]:
    found = []
    for task in people.export():
        for one in task["annotations"]:
            found += preferences_of(read_annotation(people.project_id, {"task": task["id"], **one}))
    return in_order(found)


def stored(service: Service, project_id: int) -> list[Preference]:
    with service.store.read() as conn:
        return in_order(judgements.preferences_in(conn, project_id))


def test_the_annotations_that_are_there_come_in_when_a_project_is_connected(
    served: Service, people: People
) -> None:
    for _ in range(4):
        people.import_tasks()
    people.submit()
    people.skip()
    connect(served, people.project_id)
    assert stored(served, people.project_id) == exported(people) != []
    with served.store.read() as conn:
        assert intake.totals(conn, people.project_id).skipped == 1
    assert reconcile(served, people.project_id).found == Found()


@pytest.mark.parametrize("seed", [1])
def test_after_any_work_our_preferences_are_those_of_label_studios_export(
    served: Service, people: People, seed: int
) -> None:
    people.rng = random.Random(seed)
    people.import_tasks()
    people.import_tasks()
    connect(served, people.project_id)
    post = BadPost(served, random.Random(seed))
    often: list[Callable[[], object]] = [people.submit, people.edit, people.import_tasks]
    ways: list[Callable[[], object]] = [
        *often * 3, people.edit_twice, people.skip, people.skip_what_was_submitted, people.convert_to_draft,
        people.delete_annotation, people.delete_task, people.change_data, people.delete_annotations_of_some,
        people.delete_some_tasks, people.predictions_to_annotations, people.propagate, people.rename,
        people.remove_duplicates, post.deliver_late, post.deliver_late,
        lambda: reconcile(served, people.project_id), lambda: reconcile(served, people.project_id),
    ]  # fmt: skip
    for _ in range(STEPS):
        if len(people.tasks()) < 4:
            people.import_tasks()
        people.rng.choice(ways)()
    post.deliver_late()
    done = reconcile(served, people.project_id)
    assert done.in_step
    assert stored(served, people.project_id) == exported(people) != []
    assert reconcile(served, people.project_id).found == Found()
