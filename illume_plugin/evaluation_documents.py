"""Evaluations as documents: everything behind the figures, kept as JSON beside the versions. No torch.

    ROOT/project-12/evaluations/v0007-3f2a91c04d5e.json      version, and hash of the held-out tasks

Two documents can be compared when they are of the same held-out tasks with the same judgements, evaluated to
the same extent. Evaluating again replaces the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from illume_plugin.errors import BadRequestError
from illume_plugin.evaluated import EvaluatedTask
from illume_plugin.identity import content_hash
from illume_plugin.intervals import bootstrap
from illume_plugin.registry import Registry, checked_version
from illume_plugin.types import Json, JudgedTask, Metric

#: Raised when a reader of the old form would misread the new one.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class EvaluationDocument:
    """One evaluation of one version.

    Attributes:
        tasks_hash: of the held-out tasks with their judgements, all of them.
        held_out: how many these are; `tasks` may be fewer.
        config: everything else the figures depend on: extent, seed, sampling plan, base model.
        libraries: name -> version of what computed them.
        metrics: figures with their intervals.
        outcomes: metric -> outcome per task that it was measured on.
        created_at: seconds since the epoch.
    """

    project_id: int
    version: str
    tasks_hash: str
    held_out: int
    config: Mapping[str, Json]
    libraries: Mapping[str, str]
    metrics: Mapping[str, Metric]
    tasks: tuple[EvaluatedTask, ...]
    created_at: float
    outcomes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Difference:
    """How one figure differs between two versions.

    Attributes:
        change: mean difference over the tasks with its 95 % interval, in pairs; None where a metric has no
            outcome per task.
    """

    name: str
    before: Metric
    after: Metric
    change: Metric | None


def hash_of(held_out: Sequence[JudgedTask]) -> str:
    """Hash of held-out tasks and what people said of their rationales, in any order."""
    return content_hash(sorted(content_hash(asdict(task)) for task in held_out))


def differences(before: EvaluationDocument, after: EvaluationDocument) -> list[Difference]:
    """Metric by metric, for those that both have.

    Raises:
        BadRequestError: the two were not measured on the same tasks in the same way.
    """
    if (before.tasks_hash, before.config) != (after.tasks_hash, after.config):
        raise BadRequestError(
            f"The evaluations of {before.version} and {after.version} cannot be compared.",
            why="They are of other held-out tasks or judgements, or were measured to another extent.",
            todo="Evaluate both again: illume evaluate",
        )
    common = [name for name in before.metrics if name in after.metrics]
    return [
        Difference(name, before.metrics[name], after.metrics[name], _change(name, before, after))
        for name in common
    ]


def side_by_side(
    before: EvaluationDocument, after: EvaluationDocument
) -> Iterator[tuple[EvaluatedTask, EvaluatedTask]]:
    """The same task of both, for every task for which either said anything, in held-out order."""
    there = {each.task.task_id: each for each in after.tasks}
    for one in before.tasks:
        other = there.get(one.task.task_id)
        if other is not None and (one.rationales or other.rationales):
            yield one, other


def _change(name: str, before: EvaluationDocument, after: EvaluationDocument) -> Metric | None:
    a, b = before.outcomes.get(name, ()), after.outcomes.get(name, ())
    if not a or len(a) != len(b):
        return None
    return bootstrap([y - x for x, y in zip(a, b, strict=True)])


class EvaluationDocuments:
    """The documents of all projects, beside the versions: whoever sees these sees them, too."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def put(self, document: EvaluationDocument) -> str:
        """Keep the document, all of it or nothing; returns its name.

        Raises:
            UnavailableError: the store of versions does not answer.
            ValueError: a figure is not finite.
        """
        name = _name(document.version, document.tasks_hash)
        text = json.dumps(asdict(document), indent=1, ensure_ascii=False, allow_nan=False)
        self._registry.write_document(document.project_id, name, text.encode())
        return name

    def find(self, project_id: int, version: str, tasks_hash: str) -> EvaluationDocument | None:
        """The evaluation of a version on these held-out tasks, if there was one.

        Raises:
            BadRequestError: the document is damaged.
            ModelError: the name is not a version.
            UnavailableError: the store of versions does not answer.
        """
        name = _name(version, tasks_hash)
        text = self._registry.document(project_id, name)
        return None if text is None else _read(name, text)

    def every(self, project_id: int) -> list[EvaluationDocument]:
        """All documents of a project, the newest last.

        Raises:
            BadRequestError: one is damaged.
            UnavailableError: the store of versions does not answer.
        """
        names = self._registry.document_names(project_id)
        texts = ((name, self._registry.document(project_id, name)) for name in names)
        found = [_read(name, text) for name, text in texts if text is not None]
        return sorted(found, key=lambda document: document.created_at)


def _name(version: str, tasks_hash: str) -> str:
    return f"{checked_version(version)}-{tasks_hash[:12]}.json"


def _read(name: str, text: bytes) -> EvaluationDocument:
    try:
        return _document(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequestError(
            f"The evaluation {name} cannot be read: {error}.", todo="Evaluate the version again."
        ) from error


def _document(values: Mapping[str, Any]) -> EvaluationDocument:
    if values["format"] != FORMAT:
        raise ValueError(f"its format is {values['format']!r}, this program reads {FORMAT}")
    return EvaluationDocument(
        **{
            **values,
            "metrics": {name: Metric(**metric) for name, metric in values["metrics"].items()},
            "outcomes": {name: tuple(some) for name, some in values["outcomes"].items()},
            "tasks": tuple(_task(each) for each in values["tasks"]),
        }
    )


def _task(values: Mapping[str, Any]) -> EvaluatedTask:
    judged = values["task"]
    task = JudgedTask(**{**judged, "fits": tuple(judged["fits"]), "unfits": tuple(judged["unfits"])})
    return EvaluatedTask(task, values["answer"], tuple(values["rationales"]), values["outcomes"])
