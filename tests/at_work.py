"""People at work in the small Label Studio, in ways that its webhooks tell or not; and what is true there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conftest import SELECT, SayingGenerator
from small_labelstudio import TOKEN, SmallLabelStudio

from backend.reconcile import Reconciler, Round
from backend.service import Service
from backend.settings import Settings
from illume_plugin.preferences import preferences_of, read_annotation
from illume_plugin.store import intake, judgements, projects
from illume_plugin.types import Preference

PROJECT = 1


class AtWork:
    """One project, its people, and the events that Label Studio would send; a test delivers them."""

    def __init__(self, studio: SmallLabelStudio) -> None:
        self.studio = studio
        self.events: list[dict[str, Any]] = []
        studio.send = self._send  # type: ignore[method-assign]
        made = studio.add(studio.projects, title="explain", label_config=SELECT, model_version="")
        assert made["id"] == PROJECT

    def _send(self, project_id: int, action: str, **payload: Any) -> None:
        body = {"action": action, "project": {"id": project_id}, **payload}
        self.events.append(copy.deepcopy(body))

    def import_tasks(self, *annotations: Sequence[str] | None) -> list[int]:
        """One task for each, with an annotation that ticks these or without one; the tasks alone are told."""
        at = self.studio.time()
        made = [
            self.studio.add(self.studio.tasks, project=PROJECT, data={"image": "a"}, updated_at=at)
            for _ in annotations
        ]
        for task, ticks in zip(made, annotations, strict=True):
            if ticks is not None:
                self._annotation(task["id"], ticks, at=self.studio.time())
        self.studio.send(PROJECT, "TASKS_CREATED", tasks=made)
        return [task["id"] for task in made]

    def submit(self, task_id: int, *ticks: str) -> int:
        return int(self.studio.annotate(task_id, result=result(ticks), lead_time=2.5)["id"])

    def skip(self, task_id: int) -> int:
        return int(self.studio.annotate(task_id, result=[], was_cancelled=True)["id"])

    def edit(self, annotation_id: int, *ticks: str) -> None:
        self.studio.edit(self.studio.annotations[annotation_id], result=result(ticks))

    def delete(self, annotation_id: int) -> None:
        gone = self.studio.annotations.pop(annotation_id)
        self.studio.touch(gone["task"])
        self.studio.send(PROJECT, "ANNOTATIONS_DELETED", annotations=[{"id": annotation_id}])

    def to_draft(self, annotation_id: int) -> None:
        """Label Studio means to send an event and does not."""
        self.studio.touch(self.studio.annotations.pop(annotation_id)["task"])

    def delete_all_annotations(self, *task_ids: int) -> None:
        """The Data Manager's action: one moment for all the tasks."""
        gone = [
            one["id"] for task_id in task_ids for one in self.studio.of(self.studio.annotations, task=task_id)
        ]
        for annotation_id in gone:
            del self.studio.annotations[annotation_id]
        self.studio.touch(*task_ids)
        self.studio.send(PROJECT, "ANNOTATIONS_DELETED", annotations=[{"id": one} for one in gone])

    def predictions_to_annotations(self, *task_ids: int) -> None:
        for task_id in task_ids:
            self._annotation(task_id, ["none"], at=self.studio.time())
        self.studio.touch(*task_ids)

    def propagate(self, *task_ids: int) -> None:
        """An action that makes annotations, notes no moment and sends no event."""
        for task_id in task_ids:
            self._annotation(task_id, ["c1"], at=self.studio.time())

    def remove_duplicates(self, kept: int, *duplicates: int) -> None:
        """Annotations are moved to one task, without a note of when; the others are deleted."""
        for one in self.studio.annotations.values():
            if one["task"] in duplicates:
                one["task"] = kept
        self.studio.delete_tasks(*duplicates)

    def change_data(self, task_id: int) -> None:
        self.studio.tasks[task_id]["data"] = {"image": f"b{self.studio.clock}"}
        self.studio.touch(task_id)

    def rename_label(self, annotation_id: int, *ticks: str) -> None:
        """The task's moment is noted anew, the annotation's is not."""
        annotation = self.studio.annotations[annotation_id]
        annotation["result"] = result(ticks)
        self.studio.touch(annotation["task"])

    def _annotation(self, task_id: int, ticks: Sequence[str], *, at: str) -> None:
        fields = {"result": result(ticks), "was_cancelled": False, "lead_time": None, "completed_by": 1}
        self.studio.add(self.studio.annotations, task=task_id, project=PROJECT, updated_at=at, **fields)

    def shown_before(self, amid: Callable[[], object]) -> None:
        """Let something happen in the middle of the next page, which shows the tasks as they were before."""

        def amid_page() -> None:
            self.studio.amid_page = lambda: None
            before = {number: self.studio.opened(task) for number, task in self.studio.tasks.items()}
            opened = self.studio.opened
            amid()

            def as_before(task: dict[str, Any]) -> dict[str, Any]:
                self.studio.opened = opened  # type: ignore[method-assign]
                return before[task["id"]]

            self.studio.opened = as_before  # type: ignore[method-assign]

        self.studio.amid_page = amid_page

    # -- what is true ----------------------------------------------------------------------------------

    def preferences(self) -> list[Preference]:
        found = self.studio.of(self.studio.annotations, project=PROJECT)
        return sorted(
            (each for one in found for each in preferences_of(read_annotation(PROJECT, one))), key=_by_id
        )

    def data(self) -> dict[int, Any]:
        return {one["id"]: one["data"] for one in self.studio.of(self.studio.tasks, project=PROJECT)}


def result(ticks: Sequence[str]) -> list[dict[str, Any]]:
    """An annotation in which these of two candidates are ticked."""
    texts = {"from_name": "cand", "type": "textarea", "value": {"text": ["it flies", "it has wings"]}}
    return [
        {**texts, "to_name": "image", "id": "a"},
        {
            "from_name": "fits",
            "to_name": "image",
            "type": "choices",
            "id": "b",
            "value": {"choices": [*ticks]},
        },
    ]


class Stored:
    """What our side says of the project."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def preferences(self) -> list[Preference]:
        with self.service.store.read() as conn:
            return sorted(judgements.preferences_in(conn, PROJECT), key=_by_id)

    def data(self) -> dict[int, Any]:
        with self.service.store.read() as conn:
            return projects.task_data(conn, PROJECT)

    def skipped(self) -> int:
        with self.service.store.read() as conn:
            return intake.totals(conn, PROJECT).skipped

    def rows(self) -> dict[str, list[Any]]:
        """All that the store holds."""
        from illume_plugin.store.tables import metadata

        with self.service.store.read() as conn:
            return {t.name: [tuple(row) for row in conn.execute(t.select())] for t in metadata.sorted_tables}


def _by_id(one: Preference) -> tuple[int, int, str]:
    return one.annotation_id, one.position, str(asdict(one))


@contextmanager
def service_at(studio: SmallLabelStudio, settings: Settings, folder: Path) -> Iterator[Service]:
    """A service that knows the project and the small Label Studio."""
    access = {"label_studio_url": studio.url, "label_studio_token": TOKEN}
    service = Service(settings.model_validate({**settings.model_dump(), **access}))
    service.engine._generator = SayingGenerator()
    with service.store.write() as conn:
        projects.put(conn, PROJECT, title="explain", label_config=SELECT, now=1.0)
    try:
        yield service
    finally:
        service.close()


def reconcile(service: Service, *, full: bool = False, **options: Any) -> Round:
    """One round by a process that has just been started."""
    assert service.label_studio is not None
    return Reconciler(service, service.label_studio, PROJECT, **{"page": 5, **options}).round(full=full)
