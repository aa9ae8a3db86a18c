"""One picture of each storage kind of a project: whether it can be fetched, now and with our token."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import Finding
from backend.service import Service
from illume_plugin.errors import IllumeError, LabelConfigError
from illume_plugin.label_config import LabelConfig, parse_label_config, read_task
from illume_plugin.store import projects
from illume_plugin.types import Project, Task

_INSIDE, _OTHER = "data URL", "other address"
#: How an address begins -> what kind of storage that is; the first that fits counts.
_KINDS = (
    ("/data/upload/", "upload"),
    ("/data/local-files/", "local files"),
    ("data:", _INSIDE),
    ("s3://", "s3"),
    ("gs://", "gcs"),
    ("azure-blob://", "azure"),
    ("http://", "http"),
    ("https://", "https"),
)


def one_of_each_kind(service: Service, project: Project, *, anew: bool) -> Iterator[Check]:
    """Fetch one picture of each kind of address that the project's tasks have.

    Args:
        anew: past the cache of pictures, so that what has broken since is seen.
    """
    number = project.project_id
    question, answer = service.keys
    try:
        config = parse_label_config(project.label_config, question_key=question, answer_key=answer)
    except LabelConfigError:
        return  # the check of the labelling configuration tells; where the picture stands is not known
    with service.store.read() as conn:
        data = projects.task_data(conn, number)
    if not data:
        yield found(f"project {number}: tasks", Finding.NO_TASKS, "no task is known", project=number)
    for kind, task_id in _samples(config, data).items():
        name = f"project {number}: picture ({kind})"
        try:
            _fetch(service, read_task(config, number, task_id, data[task_id]), anew=anew)
        except IllumeError as error:
            yield _missed(name, kind, task_id, error)
        else:
            yield good(name, f"that of task {task_id} can be fetched and read")


def kind_of(address: str) -> str:
    """What kind of storage a picture's address leads to."""
    return next((kind for opening, kind in _KINDS if address.strip().startswith(opening)), _OTHER)


def _samples(config: LabelConfig, data: Mapping[int, Mapping[str, Any]]) -> dict[str, int]:
    """Kind -> the first task of that kind."""
    samples: dict[str, int] = {}
    for task_id, fields in data.items():
        samples.setdefault(kind_of(str(fields.get(config.image_key, ""))), task_id)
    return samples


def _fetch(service: Service, task: Task, *, anew: bool) -> None:
    if not anew:
        service.images.fetch(task)
        return
    with tempfile.TemporaryDirectory(prefix="illume-doctor-") as folder:
        images = service.pictures_in(Path(folder))
        try:
            images.fetch(task)
        finally:
            images.close()


def _missed(name: str, kind: str, task_id: int, error: IllumeError) -> Check:
    finding = Finding.PICTURES_INSIDE if kind == _INSIDE else Finding.PICTURES
    detail = f"task {task_id}: " + " ".join(part for part in (error.what, error.why) if part)
    return found(name, finding, detail, todo="" if kind == _INSIDE else error.todo)
