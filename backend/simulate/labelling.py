"""A round of labelling: tasks come in, candidates are sampled, simulated annotators submit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backend.service import Service
from backend.simulate.progress import Say, Stage
from backend.simulate.submission import submission
from backend.simulate.world import DrawnPictures, task_data
from illume_plugin.annotators import Annotator
from illume_plugin.embedded import WorldTask
from illume_plugin.errors import IllumeError
from illume_plugin.store import judgements, projects
from illume_plugin.types import CandidateSet, Json, Project, Verdict

#: Tasks sampled between two looks at the progress.
CHUNK = 60


@dataclass(frozen=True, slots=True)
class Tally:
    """What was said in one round.

    Attributes:
        sampled: tasks that got candidates.
        shown: verdicts given, over all annotators.
        ticked: of these, that a candidate fits.
        delivery: how they travelled through Label Studio; empty where there was none.
    """

    sampled: int
    shown: int
    ticked: int
    delivery: Mapping[str, Json] = field(default_factory=dict)


class Labelling:
    """Labels rounds of tasks of one project.

    Everything may be repeated: what was submitted is not submitted again, whatever serves or is on trial by
    now; a candidate set keeps its first state, and the same submission is the same event.
    """

    def __init__(
        self,
        service: Service,
        pictures: DrawnPictures,
        project_id: int,
        annotators: Sequence[Annotator],
        say: Say,
    ) -> None:
        self._service = service
        self._pictures = pictures
        self._project_id = project_id
        self._annotators = annotators
        self._say = say

    def label(self, name: str, tasks: Mapping[int, WorldTask]) -> float:
        """Let every annotator submit every task; returns the seconds it took.

        Args:
            name: of the iteration, in progress lines.
            tasks: by task id.
        """
        stage = Stage(self._say, f"{name} sampling", len(tasks), "tasks")
        data = {task_id: task_data(task_id, task) for task_id, task in tasks.items()}
        project = self._take_in(tasks, data)
        self._service.apply_events()
        ids = self._unfinished(tasks)
        for start in range(0, len(ids), CHUNK):
            some = {task_id: data[task_id] for task_id in ids[start : start + CHUNK]}
            for task_id, found in self._candidates(project, some).items():
                self._submit(project, tasks[task_id], data[task_id], found)
            stage.at(start + len(some))
        self._service.apply_events()
        return stage.seconds

    def leave(self, tasks: Mapping[int, WorldTask]) -> None:
        """Bring in tasks that nobody opens, and sample for them as for tasks that wait."""
        data = {task_id: task_data(task_id, task) for task_id, task in tasks.items()}
        project = self._take_in(tasks, data)
        self._candidates(project, data)

    def tally(self, tasks: Mapping[int, WorldTask]) -> Tally:
        """What the store says of these tasks."""
        with self._service.store.read() as conn:
            said = [p for p in judgements.preferences_in(conn, self._project_id) if p.task_id in tasks]
        ticked = sum(preference.verdict is Verdict.FITS for preference in said)
        return Tally(len({preference.task_id for preference in said}), len(said), ticked)

    def _take_in(self, tasks: Mapping[int, WorldTask], data: Mapping[int, Mapping[str, Json]]) -> Project:
        for task_id, task in tasks.items():
            self._pictures.draw(data[task_id]["image"], task)
        with self._service.store.write() as conn:
            projects.put_tasks(conn, self._project_id, data.items())
            return projects.get(conn, self._project_id)

    def _unfinished(self, tasks: Iterable[int]) -> list[int]:
        """The tasks that somebody still has to submit."""
        with self._service.store.read() as conn:
            known = judgements.digests(conn, self._project_id).keys()
        return [
            task_id
            for task_id in tasks
            if not known >= {self._number(task_id, member) for member in range(len(self._annotators))}
        ]

    def _number(self, task_id: int, member: int) -> int:
        """The number of the annotation of a member of the team (from 0), the same at every call."""
        return (task_id - 1) * len(self._annotators) + member + 1

    def _candidates(
        self, project: Project, data: Mapping[int, Mapping[str, Json]]
    ) -> Mapping[int, CandidateSet]:
        stored = self._service.sampler.stored(project, list(data))
        missing = {task_id: fields for task_id, fields in data.items() if task_id not in stored}
        sampled = self._service.sampler.sample(project, missing, keys=self._service.keys)
        for problem in sampled.problems.values():
            self._say(str(problem))
        return {**stored, **sampled.sets}

    def _submit(
        self, project: Project, task: WorldTask, data: Mapping[str, Json], found: CandidateSet
    ) -> None:
        prediction = self._service.predictor.prediction(project, found)
        if isinstance(prediction, IllumeError):
            raise prediction
        for member, annotator in enumerate(self._annotators):
            event = submission(
                project.project_id,
                found.task_id,
                data,
                prediction,
                annotator.ticks(task, found.texts),
                annotation_id=self._number(found.task_id, member),
                annotator=member + 1,
            )
            self._service.receive(event)
