"""A round of labelling in Label Studio: tasks in, candidates pushed, annotations in, ticks compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from backend.presample import push_ahead, sample_ahead
from backend.service import Service
from backend.simulate.labelling import Tally
from backend.simulate.labelstudio.delivery import Delivery, Tick, compare, held_by, meant_by, ticks_of
from backend.simulate.labelstudio.door import SimulationDoor
from backend.simulate.labelstudio.importing import ensure_tasks, known_tasks
from backend.simulate.labelstudio.submitting import Submitting
from backend.simulate.progress import Say, Stage
from backend.simulate.world import DrawnPictures
from illume_plugin.annotators import Annotator
from illume_plugin.embedded import WorldTask
from illume_plugin.labelstudio import TaskInfo
from illume_plugin.store import candidates, judgements, projects
from illume_plugin.types import Preference, Project, Verdict


class LabelStudioLabelling:
    """Labels rounds of tasks of one project, through Label Studio's API and its webhook.

    Everything may be repeated: what Label Studio holds is looked at before anything is made.

    Args:
        project_id: a project that belongs to this simulation alone.
        annotators: all of them submit through the one account of the token.
    """

    def __init__(
        self,
        service: Service,
        door: SimulationDoor,
        pictures: DrawnPictures,
        project_id: int,
        annotators: Sequence[Annotator],
        say: Say,
    ) -> None:
        self._service = service
        self._door = door
        self._pictures = pictures
        self._project_id = project_id
        self._annotators = annotators
        self._say = say
        self._team = Submitting(service, door, project_id, annotators, say)

    def label(self, name: str, tasks: Mapping[int, WorldTask]) -> float:
        """Let every annotator submit every task; returns the seconds it took.

        Args:
            name: of the iteration, in progress lines.
            tasks: by the number of their drawing.

        Raises:
            ConflictError: somebody else has been at work in the project.
            LabelStudioError: Label Studio refuses something, or an annotation's event does not arrive.
        """
        stage = Stage(self._say, f"{name} sampling", len(tasks), "tasks")
        ours = self._take_in(ensure_tasks(self._door, self._project_id, self._pictures, tasks), tasks)
        project = self._project()
        self._sample(project, stage)
        self._push(project, ours)
        shown = self._service.sampler.stored(project, list(ours))
        self._team.submit(ours, shown, Stage(self._say, f"{name} submitting", len(tasks), "tasks"))
        return stage.seconds

    def tally(self, tasks: Mapping[int, WorldTask]) -> Tally:
        """What the store says of these tasks, after comparing it with what Label Studio holds.

        Raises:
            ConflictError: somebody else has been at work in the project.
            LabelStudioError: ticks are lost or doubled.
        """
        ours = self._take_in(known_tasks(self._door, self._project_id, tasks), tasks)
        self._service.apply_events()
        said = self._preferences(ours)
        ticked_ones = sum(one.verdict is Verdict.FITS for one in said)
        delivery = self._delivery(ours, said)
        return Tally(len({one.task_id for one in said}), len(said), ticked_ones, delivery.to_json())

    # -- tasks and candidates ----------------------------------------------------------------------

    def _take_in(self, found: Mapping[int, TaskInfo], tasks: Mapping[int, WorldTask]) -> dict[int, WorldTask]:
        """Remember the tasks here; returns task id in Label Studio -> the task drawn."""
        with self._service.store.write() as conn:
            projects.put_tasks(conn, self._project_id, ((one.task_id, one.data) for one in found.values()))
        return {found[number].task_id: task for number, task in tasks.items()}

    def _project(self) -> Project:
        with self._service.store.read() as conn:
            return projects.get(conn, self._project_id)

    def _sample(self, project: Project, stage: Stage) -> None:
        done = 0
        while more := sample_ahead(self._service, project):
            done += more
            stage.at(done)
        with self._service.store.read() as conn:
            problems = candidates.problems(conn, self._project_id, version=project.active_version)
        for task_id, (problem, _) in problems.items():
            self._say(f"task {task_id}: {problem}")

    def _push(self, project: Project, ours: Collection[int]) -> None:
        """Push what Label Studio lacks: a killed process may have pushed without noting it."""
        has = [
            task.task_id
            for task in self._door.opened_tasks(self._project_id, ours)
            if any(one.get("model_version") == project.active_version for one in task.predictions)
        ]
        key = {"version": project.active_version, "plan": self._service.sampler.key(project)}
        with self._service.store.write() as conn:
            candidates.mark_pushed(conn, self._project_id, has, now=self._service.clock(), **key)
        while push_ahead(self._service, project, everything=True):
            pass

    # -- comparing ---------------------------------------------------------------------------------

    def _preferences(self, ours: Collection[int]) -> list[Preference]:
        with self._service.store.read() as conn:
            return [p for p in judgements.preferences_in(conn, self._project_id) if p.task_id in ours]

    def _delivery(self, ours: Mapping[int, WorldTask], said: Sequence[Preference]) -> Delivery:
        meant: list[Tick] = []
        held: list[Tick] = []
        annotations = 0
        for task in self._door.opened_tasks(self._project_id, ours):
            if task.predictions:
                meant += meant_by(self._annotators, ours[task.task_id], task.task_id, task.predictions[0])
            annotations += len(task.annotations)
            held += [tick for one in task.annotations for tick in held_by(self._project_id, one)]
        return compare(meant, held, ticks_of(said), annotations=annotations, sent_again=self._team.sent_again)
