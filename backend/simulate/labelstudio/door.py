"""What the simulation does in Label Studio beyond what the backend does: import, annotate, clean up.

Plain requests through the same door as everything else (token, errors, no redirects). Everything goes
through the addresses that Label Studio's own pages use.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio, ProjectInfo
from illume_plugin.labelstudio.client import BULK_TIMEOUT_S
from illume_plugin.labelstudio.records import project_info
from illume_plugin.types import Json

#: Files in one upload; Label Studio takes 100 (DATA_UPLOAD_MAX_NUMBER_FILES).
FILES_AT_ONCE = 50
#: Tasks with all that belongs to them in one page.
PAGE = 100


@dataclass(frozen=True, slots=True)
class OpenedTask:
    """A task with what an annotator's page gets to know of it.

    Attributes:
        predictions, annotations: Label Studio's objects, oldest first; skipped annotations are left out.
    """

    task_id: int
    predictions: tuple[Mapping[str, Json], ...]
    annotations: tuple[Mapping[str, Json], ...]


class SimulationDoor(LabelStudio):
    """Label Studio as the simulation uses it."""

    def find_project(self, project_id: int) -> ProjectInfo | None:
        """A project by its number; None where there is none, or none that the user may see."""
        found: Sequence[Any] | None = self._sdk.projects.list(ids=str(project_id)).items
        return next((project_info(one) for one in found or () if one.id == project_id), None)

    def delete_project(self, project_id: int) -> None:
        """Delete a project with all that belongs to it; uploaded files stay in Label Studio's folder."""
        self._http.delete(f"api/projects/{project_id}/", timeout=BULK_TIMEOUT_S)

    # -- pictures and tasks ------------------------------------------------------------------------

    def upload(self, project_id: int, files: Sequence[Path]) -> None:
        """Upload pictures to a project without making tasks of them, FILES_AT_ONCE in a request."""
        for start in range(0, len(files), FILES_AT_ONCE):
            with ExitStack() as opened:
                parts = {
                    f"file{place}": (path.name, opened.enter_context(path.open("rb")), "image/png")
                    for place, path in enumerate(files[start : start + FILES_AT_ONCE])
                }
                self._http.post(
                    f"api/projects/{project_id}/import",
                    params={"commit_to_project": "false"},
                    files=parts,
                    timeout=BULK_TIMEOUT_S,
                )

    def uploads(self, project_id: int) -> dict[str, str]:
        """Name of an uploaded file -> its address in task data; of two with one name the older one."""
        found = self._http.get(f"api/projects/{project_id}/file-uploads", params={"all": "true"}).json()
        data = urlsplit(self.url).path + "data/"
        addresses: dict[str, str] = {}
        for one in sorted(_objects(found), key=lambda one: int(one["id"])):
            # Label Studio puts eight random digits and a dash before the name
            name = str(one["file"]).rpartition("/")[2].partition("-")[2]
            addresses.setdefault(name, data + str(one["file"]))
        return addresses

    def delete_task(self, task_id: int) -> None:
        """Delete a task with all that belongs to it."""
        self._http.delete(f"api/tasks/{task_id}/")

    # -- annotating --------------------------------------------------------------------------------

    def open_task(self, task_id: int) -> OpenedTask:
        """One task, asked for as the page of an annotator asks for it."""
        return _opened(self._http.get(f"api/tasks/{task_id}/").json())

    def opened_tasks(self, project_id: int, task_ids: Collection[int]) -> Iterator[OpenedTask]:
        """Those of a project's tasks that are among `task_ids`, by id, read page by page (7 s per 1000)."""
        after = min(task_ids, default=1) - 1
        while task_ids and after < max(task_ids):
            answer = self._http.get("api/tasks/", params=_page(project_id, after), timeout=BULK_TIMEOUT_S)
            page = [_opened(task) for task in _objects(answer.json().get("tasks"))]
            yield from (task for task in page if task.task_id in task_ids)
            if len(page) < PAGE:
                return
            after = page[-1].task_id

    def submit(self, task_id: int, annotation: Mapping[str, Json]) -> int:
        """Press Submit; returns the annotation's id.

        Args:
            annotation: with a `unique_id`, so that Label Studio refuses to store it twice.
        """
        made = self._http.post(f"api/tasks/{task_id}/annotations/", json=dict(annotation)).json()
        return int(made["id"])

    def submit_again(self, annotation_id: int, result: Sequence[Json]) -> None:
        """Press Update on an annotation without having changed it."""
        self._http.patch(f"api/annotations/{annotation_id}/", json={"result": list(result)})


def _page(project_id: int, after: int) -> dict[str, str | int]:
    above = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
    query = {"filters": {"conjunction": "and", "items": [above]}, "ordering": ["tasks:id"]}
    return {
        "project": project_id,
        "page": 1,
        "page_size": PAGE,
        "fields": "all",
        "resolve_uri": "false",
        "query": json.dumps(query),
    }


def _opened(task: Mapping[str, Json]) -> OpenedTask:
    said = (one for one in _objects(task.get("annotations")) if not one.get("was_cancelled"))
    return OpenedTask(int(task["id"]), _oldest_first(_objects(task.get("predictions"))), _oldest_first(said))


def _oldest_first(objects: Iterable[Mapping[str, Json]]) -> tuple[Mapping[str, Json], ...]:
    return tuple(sorted(objects, key=lambda one: int(one["id"])))


def _objects(value: Json) -> list[Mapping[str, Json]]:
    if isinstance(value, list) and all(isinstance(one, Mapping) and "id" in one for one in value):
        return value
    raise LabelStudioError(f"Label Studio answered {value!r:.80} where a list of objects belongs.")
