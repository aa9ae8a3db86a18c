"""Folds observations into the present state, whatever order they come in and however often.

A ledger is a join-semilattice: of every annotation, task and configuration the newest state wins, and a
deletion wins over everything. So adding is commutative, associative and idempotent, and two ledgers of
different halves of the events merge into the ledger of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from illume_plugin.identity import content_hash
from illume_plugin.preferences.observations import (
    AnnotationDeleted,
    AnnotationSeen,
    ConfigSeen,
    Observation,
    TaskDeleted,
    TaskSeen,
    TrainingRequested,
    observe,
)
from illume_plugin.types import Annotation, Json

_Dated = TypeVar("_Dated", Annotation, TaskSeen, ConfigSeen)
_Key = tuple[int, int]


def newer(a: _Dated, b: _Dated) -> bool:
    """Whether `a` replaces `b`, two states of the same thing.

    The later `updated_at` wins. At equal times the greater content hash does: an arbitrary choice, but
    everybody who saw both makes the same one.
    """
    if a.updated_at != b.updated_at:
        return a.updated_at > b.updated_at
    return content_hash(asdict(a)) > content_hash(asdict(b))


@dataclass(slots=True)
class Ledger:
    """The present state as far as the observations tell. Two ledgers are equal when their states are."""

    _annotations: dict[_Key, Annotation] = field(default_factory=dict)
    _tasks: dict[_Key, TaskSeen] = field(default_factory=dict)
    _configs: dict[int, ConfigSeen] = field(default_factory=dict)
    _deleted_annotations: set[_Key] = field(default_factory=set)
    _deleted_tasks: set[_Key] = field(default_factory=set)

    def add(self, observation: Observation) -> None:
        """Take in one observation. A training request is a command, not state: it changes nothing here."""
        match observation:
            case AnnotationSeen(annotation):
                self._see_annotation(annotation)
            case AnnotationDeleted(project_id, annotation_id):
                self._deleted_annotations.add((project_id, annotation_id))
                self._annotations.pop((project_id, annotation_id), None)
            case TaskSeen():
                self._see_task(observation)
            case TaskDeleted(project_id, task_id):
                self._delete_task((project_id, task_id))
            case ConfigSeen():
                _keep_newest(self._configs, observation.project_id, observation)
            case TrainingRequested():
                pass

    def merge(self, other: Ledger) -> None:
        """Take in everything that `other` knows."""
        for project_id, annotation_id in other._deleted_annotations:
            self.add(AnnotationDeleted(project_id, annotation_id))
        for project_id, task_id in other._deleted_tasks:
            self.add(TaskDeleted(project_id, task_id))
        for task in other._tasks.values():
            self.add(task)
        for config in other._configs.values():
            self.add(config)
        for annotation in other._annotations.values():
            self.add(AnnotationSeen(annotation))

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The newest state of every annotation that exists, by project and id."""
        return tuple(annotation for _, annotation in sorted(self._annotations.items(), key=_first))

    @property
    def tasks(self) -> tuple[TaskSeen, ...]:
        """The newest data of every task that exists, by project and id."""
        return tuple(task for _, task in sorted(self._tasks.items(), key=_first))

    @property
    def configs(self) -> tuple[ConfigSeen, ...]:
        """The newest labelling configuration of every project, by project."""
        return tuple(config for _, config in sorted(self._configs.items(), key=_first))

    def _see_annotation(self, annotation: Annotation) -> None:
        key = (annotation.project_id, annotation.annotation_id)
        gone = key in self._deleted_annotations
        if not gone and (annotation.project_id, annotation.task_id) not in self._deleted_tasks:
            _keep_newest(self._annotations, key, annotation)

    def _see_task(self, task: TaskSeen) -> None:
        key = (task.project_id, task.task_id)
        if key not in self._deleted_tasks:
            _keep_newest(self._tasks, key, task)

    def _delete_task(self, key: _Key) -> None:
        self._deleted_tasks.add(key)
        self._tasks.pop(key, None)
        self._annotations = {k: a for k, a in self._annotations.items() if (a.project_id, a.task_id) != key}


def fold(bodies: Iterable[Mapping[str, Json]]) -> Ledger:
    """The ledger of a series of webhook bodies.

    Raises:
        BadRequestError: a body is malformed.
    """
    ledger = Ledger()
    for body in bodies:
        for observation in observe(body):
            ledger.add(observation)
    return ledger


_K = TypeVar("_K")


def _keep_newest(states: dict[_K, _Dated], key: _K, state: _Dated) -> None:
    held = states.get(key)
    if held is None or newer(state, held):
        states[key] = state


def _first(item: tuple[_K, object]) -> _K:
    return item[0]
