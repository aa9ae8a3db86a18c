"""What a run learns from: all that people have said by this moment, and the annotations behind it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Any

from backend.service import Service
from illume_plugin.dataset import build_training_set
from illume_plugin.errors import TaskError
from illume_plugin.examples import ObjectiveName
from illume_plugin.label_config import parse_label_config, read_task
from illume_plugin.lineage import Source, sources_of
from illume_plugin.pairs import PairRules
from illume_plugin.store import candidates, judgements, projects
from illume_plugin.training import readiness
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import Project, Task, TrainingSet

log = logging.getLogger(__name__)

#: Objectives that may learn from candidates which nobody has judged.
_FROM_CANDIDATES = frozenset({ObjectiveName.DPO, ObjectiveName.CONTRAST})


def snapshot(
    service: Service,
    project_id: int,
    *,
    without: Collection[int] = (),
    objectives: ObjectiveSettings | None = None,
) -> TrainingSet:
    """What a run of this moment would learn from.

    Args:
        without: tasks to leave out.
        objectives: those that are on; by default those of the settings.
    """
    return snapshot_with_sources(service, project_id, without=without, objectives=objectives)[0]


def refuse_unready(
    service: Service, project_id: int, training_set: TrainingSet, objectives: ObjectiveSettings
) -> None:
    """Say no to a run on a snapshot that cannot be learnt from.

    Raises:
        RunError: with the reason; see `readiness.refuse_unready`.
    """
    with (
        service.store.read() as conn,
        closing(judgements.each_preference(conn, project_id)) as preferences,  # seldom to the end
    ):
        readiness.refuse_unready(
            training_set, preferences, objectives, minimum_accepted=service.settings.minimum_accepted
        )


def snapshot_with_sources(
    service: Service,
    project_id: int,
    *,
    without: Collection[int] = (),
    objectives: ObjectiveSettings | None = None,
) -> tuple[TrainingSet, tuple[Source, ...]]:
    """What a run of this moment would learn from, and the annotations behind it; see `snapshot`."""
    objectives = objectives or service.settings.train_config().objectives
    from_candidates = objectives.weigh_content or objectives.possible & _FROM_CANDIDATES
    with service.store.read() as conn:
        sets = candidates.newest(conn, project_id) if from_candidates else []
        data = projects.task_data(conn, project_id)
        project = projects.get(conn, project_id)
        preferences = judgements.preferences_in(conn, project_id)
        digests = judgements.digests(conn, project_id)
    data = {task_id: fields for task_id, fields in data.items() if task_id not in without}
    training_set = build_training_set(
        project_id,
        _usable_tasks(service, project, data),
        [one for one in preferences if one.task_id in data],
        held_out_fraction=service.settings.held_out_fraction,
        weigh_agreement=service.settings.weigh_agreement,
        weigh_content=objectives.weigh_content,
        objectives=objectives.possible,
        candidate_sets=sets,
        rules=PairRules(automatic=objectives.self_reward),
    )
    return training_set, sources_of(training_set, preferences, digests)


def _usable_tasks(service: Service, project: Project, data: Mapping[int, Mapping[str, Any]]) -> list[Task]:
    """The tasks that have picture, question and answer; others are left out, and the log says why."""
    question, answer = service.keys
    config = parse_label_config(project.label_config, question_key=question, answer_key=answer)
    usable = []
    for task_id, fields in data.items():
        try:
            usable.append(read_task(config, project.project_id, task_id, fields))
        except TaskError as error:
            log.warning("not used for training: %s", error)
    return usable
