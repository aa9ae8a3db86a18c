"""What Label Studio has at this moment, as opposed to what an event once said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from illume_plugin.errors import BadRequestError
from illume_plugin.preferences.observations import TaskSeen, read_annotation, read_task_seen
from illume_plugin.preferences.secrets import strip_secrets
from illume_plugin.types import Annotation, Json


@dataclass(frozen=True, slots=True)
class TaskNow:
    """A task with all its submitted and skipped annotations: what is not among them is not there."""

    seen: TaskSeen
    annotations: tuple[Annotation, ...]

    @property
    def task_id(self) -> int:
        """Label Studio's number of it."""
        return self.seen.task_id

    @property
    def updated_at(self) -> str:
        """When the task or its annotations last changed, UTC text with microseconds."""
        return self.seen.updated_at


@dataclass(frozen=True, slots=True)
class Totals:
    """How many tasks, submitted and skipped annotations a project has."""

    tasks: int
    submitted: int
    skipped: int


def read_task_now(project_id: int, payload: Json) -> TaskNow:
    """Read a task as Label Studio's API lists it.

    Raises:
        BadRequestError: something is missing or malformed. In particular, an answer without annotations must
            never read as "there are none".
    """
    if not isinstance(payload, Mapping):
        raise BadRequestError(f"The task is not an object ({payload!r:.60}).")
    plain = strip_secrets(payload)
    seen = read_task_seen(project_id, plain)
    held = plain.get("annotations")
    if not isinstance(held, list) or not seen.updated_at:
        raise BadRequestError(f"Task {seen.task_id} comes without its annotations or its time.")
    return TaskNow(seen, tuple(_annotation(project_id, seen.task_id, one) for one in held))


#: What makes an annotation; a list that leaves some of it out would be misread.
_WHOLE = frozenset({"id", "updated_at", "result", "was_cancelled", "completed_by"})


def _annotation(project_id: int, task_id: int, payload: Json) -> Annotation:
    lacking = _WHOLE - set(payload) if isinstance(payload, Mapping) else set()
    if lacking:
        raise BadRequestError(f"An annotation of task {task_id} comes without {', '.join(sorted(lacking))}.")
    annotation = read_annotation(project_id, payload)
    if annotation.task_id != task_id:
        raise BadRequestError(f"Annotation {annotation.annotation_id} is not of task {task_id}.")
    return annotation
