"""What one webhook body says happened, as small facts that may be repeated and reordered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from illume_plugin.errors import BadRequestError
from illume_plugin.preferences.secrets import strip_secrets
from illume_plugin.types import MAX_ID, Annotation, Json


@dataclass(frozen=True, slots=True)
class AnnotationSeen:
    """An annotation had this state."""

    annotation: Annotation


@dataclass(frozen=True, slots=True)
class AnnotationDeleted:
    """An annotation is gone for good: Label Studio never gives its id again."""

    project_id: int
    annotation_id: int


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task had this data.

    Attributes:
        updated_at: as in Annotation, or "" where the payload has none (which counts as oldest).
    """

    project_id: int
    task_id: int
    data: Mapping[str, Json]
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class TaskDeleted:
    """A task is gone for good, and its annotations with it (those get no event of their own)."""

    project_id: int
    task_id: int


@dataclass(frozen=True, slots=True)
class ConfigSeen:
    """A project had this labelling configuration; `updated_at` as in TaskSeen."""

    project_id: int
    label_config: str
    title: str
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class TrainingRequested:
    """Somebody pressed Start Training."""

    project_id: int


Observation = AnnotationSeen | AnnotationDeleted | TaskSeen | TaskDeleted | ConfigSeen | TrainingRequested


def observe(body: Mapping[str, Json]) -> list[Observation]:
    """Read one webhook body; unknown actions, and hooks set to send no payload, say nothing.

    Raises:
        BadRequestError: the body is not what Label Studio sends for its action.
    """
    return observe_kept(strip_secrets(body))


def observe_kept(body: Mapping[str, Json]) -> list[Observation]:
    """As `observe`, for a body that has been through `strip_secrets`, such as one from the store.

    Raises:
        BadRequestError: as `observe`.
    """
    action = body.get("action")
    if not isinstance(action, str):
        raise _malformed("action", action, "the name of an action")
    reader = _READERS.get(action)
    if reader is None or set(body) == {"action"}:
        return []
    return reader(body)


def read_annotation(project_id: int, payload: Json) -> Annotation:
    """Read one annotation object, as webhooks and Label Studio's API write it.

    Raises:
        BadRequestError: id, task, updated_at or result are missing or malformed.
    """
    fields = _mapping(payload, "annotation")
    result = fields.get("result")
    if result is not None and not isinstance(result, list):
        raise _malformed("annotation.result", result, "a list")
    return Annotation(
        project_id=project_id,
        annotation_id=_id(fields.get("id"), "annotation.id"),
        task_id=_id(_inner_id(fields.get("task")), "annotation.task"),
        updated_at=_utc(fields.get("updated_at"), "annotation.updated_at"),
        was_cancelled=fields.get("was_cancelled") is True,
        annotator=_id_or_none(_inner_id(fields.get("completed_by"))),
        lead_time=_seconds_or_none(fields.get("lead_time")),
        result=tuple(region for region in result or () if isinstance(region, Mapping)),
    )


def read_task_seen(project_id: int, payload: Json) -> TaskSeen:
    """Read one task object, as webhooks and Label Studio's API write it.

    Raises:
        BadRequestError: id or data are missing or malformed.
    """
    fields = _mapping(payload, "task")
    return TaskSeen(
        project_id=project_id,
        task_id=_id(fields.get("id"), "task.id"),
        data=_mapping(fields.get("data"), "task.data"),
        updated_at=_utc_or_blank(fields.get("updated_at"), "task.updated_at"),
    )


def _annotations_seen(body: Mapping[str, Json]) -> list[Observation]:
    project_id = _project_id(body)
    # the bulk action keeps the singular keys and puts lists under them
    tasks = _one_or_many(body.get("task"), "task")
    annotations = _one_or_many(body.get("annotation"), "annotation")
    if not annotations:
        raise _malformed("annotation", body.get("annotation"), "an annotation or a list of them")
    seen: list[Observation] = [read_task_seen(project_id, task) for task in tasks]
    return seen + [AnnotationSeen(read_annotation(project_id, annotation)) for annotation in annotations]


def _annotations_deleted(body: Mapping[str, Json]) -> list[Observation]:
    project_id = _project_id(body)
    return [AnnotationDeleted(project_id, each) for each in _ids(body, "annotations")]


def _tasks_created(body: Mapping[str, Json]) -> list[Observation]:
    project_id = _project_id(body)
    return [read_task_seen(project_id, task) for task in _list(body.get("tasks"), "tasks")]


def _tasks_deleted(body: Mapping[str, Json]) -> list[Observation]:
    project_id = _project_id(body)
    return [TaskDeleted(project_id, each) for each in _ids(body, "tasks")]


def _project_updated(body: Mapping[str, Json]) -> list[Observation]:
    project_id = _project_id(body)
    project = _mapping(body.get("project"), "project")
    label_config, title = project.get("label_config"), project.get("title")
    if not isinstance(label_config, str):
        raise _malformed("project.label_config", label_config, "a text")
    updated_at = _utc_or_blank(project.get("updated_at"), "project.updated_at")
    return [ConfigSeen(project_id, label_config, title if isinstance(title, str) else "", updated_at)]


def _training_requested(body: Mapping[str, Json]) -> list[Observation]:
    return [TrainingRequested(_project_id(body))]


_READERS: Mapping[str, Callable[[Mapping[str, Json]], list[Observation]]] = {
    "ANNOTATION_CREATED": _annotations_seen,
    "ANNOTATION_UPDATED": _annotations_seen,
    "ANNOTATIONS_CREATED": _annotations_seen,
    "ANNOTATIONS_DELETED": _annotations_deleted,
    "TASKS_CREATED": _tasks_created,
    "TASKS_DELETED": _tasks_deleted,
    "PROJECT_UPDATED": _project_updated,
    "START_TRAINING": _training_requested,
}


def _project_id(body: Mapping[str, Json]) -> int:
    return _id(_inner_id(body.get("project")), "project.id")


def _ids(body: Mapping[str, Json], key: str) -> list[int]:
    return [_id(_inner_id(each), f"{key}[].id") for each in _list(body.get(key), key)]


def _inner_id(value: Json) -> Json:
    # Label Studio writes a relation as its id, or as an object that holds the id
    return value.get("id") if isinstance(value, Mapping) else value


def _id(value: Json, name: str) -> int:
    number = _id_or_none(value)
    if number is None:
        raise _malformed(name, value, "a positive whole number")
    return number


def _id_or_none(value: Json) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole and 0 < value <= MAX_ID else None


def _seconds_or_none(value: Json) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < math.inf and value <= MAX_ID else None


def _utc(value: Json, name: str) -> str:
    """The time as UTC ISO text of one fixed form, so that comparing texts compares times."""
    if not isinstance(value, str):
        raise _malformed(name, value, "a time")
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _malformed(name, value, "a time") from error
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _utc_or_blank(value: Json, name: str) -> str:
    return "" if value is None else _utc(value, name)


def _mapping(value: Json, name: str) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise _malformed(name, value, "an object")
    return value


def _list(value: Json, name: str) -> list[Json]:
    if not isinstance(value, list):
        raise _malformed(name, value, "a list")
    return value


def _one_or_many(value: Json, name: str) -> list[Json]:
    if value is None:
        return []
    return [value] if isinstance(value, Mapping) else _list(value, name)


def _malformed(name: str, value: Json, wanted: str) -> BadRequestError:
    return BadRequestError(
        f'"{name}" is not {wanted} ({value!r:.60}).',
        why="Nothing of this event was used.",
        todo="Send what Label Studio's webhooks send.",
    )
