"""What we keep of Label Studio's answers: few fields, typed, none of them secret in a repr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from illume_plugin.errors import LabelStudioError
from illume_plugin.types import Json


@dataclass(frozen=True, slots=True)
class UserInfo:
    """The user our token belongs to."""

    user_id: int
    email: str


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project as Label Studio has it.

    Attributes:
        model_version: title of a backend (Label Studio then asks it live), a prediction version
            (it then shows stored predictions only), or "".
        show_collab_predictions: "Use predictions to prelabel"; off hides our candidates.
    """

    project_id: int
    title: str
    description: str
    label_config: str = field(repr=False)
    task_number: int
    model_version: str
    show_collab_predictions: bool


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task with its raw data (storage addresses unresolved)."""

    task_id: int
    data: Mapping[str, Json]
    is_labeled: bool


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """An ML backend of a project.

    Attributes:
        state: Label Studio's own words: CO connected, DI disconnected, ER error, TR training.
        error: what Label Studio last had to say against it, or "".
    """

    backend_id: int
    project_id: int
    title: str
    url: str
    state: str
    model_version: str
    is_interactive: bool
    error: str


@dataclass(frozen=True, slots=True)
class WebhookInfo:
    """A webhook of a project. Its headers carry our secret, so a repr leaves them out."""

    webhook_id: int
    url: str
    is_active: bool
    send_payload: bool
    send_for_all_actions: bool
    actions: tuple[str, ...]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LocalStorageInfo:
    """A local-files import storage of a project."""

    storage_id: int
    path: str
    title: str


def number(value: object) -> int:
    """A whole number that must be there."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise LabelStudioError(f"Label Studio answered {value!r} where a number belongs.")


def text(value: object) -> str:
    """A text that Label Studio may leave out."""
    return "" if value is None else str(value)


def project_info(found: Any) -> ProjectInfo:
    """A project from the SDK's object."""
    return ProjectInfo(
        project_id=number(found.id),
        title=text(found.title),
        description=text(found.description),
        label_config=text(found.label_config),
        task_number=number(found.task_number or 0),
        model_version=text(found.model_version),
        show_collab_predictions=bool(found.show_collab_predictions),
    )


def backend_info(found: Any) -> BackendInfo:
    """A backend from the SDK's object."""
    return BackendInfo(
        backend_id=number(found.id),
        project_id=number(found.project),
        title=text(found.title),
        url=text(found.url),
        state=text(found.state),
        model_version=text(found.model_version),
        is_interactive=bool(found.is_interactive),
        error=text(found.error_message),
    )


def webhook_info(found: Any) -> WebhookInfo:
    """A webhook from the SDK's object."""
    return WebhookInfo(
        webhook_id=number(found.id),
        url=text(found.url),
        is_active=bool(found.is_active),
        send_payload=bool(found.send_payload),
        send_for_all_actions=bool(found.send_for_all_actions),
        actions=tuple(text(action) for action in found.actions or ()),
        headers=dict(found.headers or {}),
    )
