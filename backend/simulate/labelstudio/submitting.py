"""Annotators at work in Label Studio: they open a task, tick what it shows, and press Submit, once each."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence

from backend.service import Service
from backend.simulate.labelstudio.door import OpenedTask, SimulationDoor
from backend.simulate.labelstudio.listening import ARRIVES_WITHIN_S, arrives
from backend.simulate.progress import Say, Stage
from backend.simulate.submission import ticked
from illume_plugin.annotators import Annotator
from illume_plugin.embedded import WorldTask
from illume_plugin.errors import LabelStudioError
from illume_plugin.store import judgements
from illume_plugin.types import CandidateSet, Json

#: Seconds that an annotator is said to have looked at each candidate.
LOOK_S = 1.0


class Submitting:
    """The annotators of one project, who share the account of the token.

    An annotation carries a `unique_id` that follows from task and annotator, so that Label Studio itself
    refuses a second one even where the first one's request, of a killed process, is still under way.
    """

    def __init__(
        self,
        service: Service,
        door: SimulationDoor,
        project_id: int,
        annotators: Sequence[Annotator],
        say: Say,
    ) -> None:
        self._service = service
        self._door = door
        self._project_id = project_id
        self._annotators = annotators
        self._say = say
        #: annotations whose event had to be repeated
        self.sent_again = 0

    def submit(self, ours: Mapping[int, WorldTask], shown: Mapping[int, CandidateSet], stage: Stage) -> None:
        """Let every annotator submit every task, and wait until what they submitted has arrived here.

        Args:
            ours: task id -> the task drawn.
            shown: task id -> the candidates that were pushed.

        Raises:
            LabelStudioError: a task shows something else, or Label Studio refuses an annotation.
        """
        opened = self._door.opened_tasks(self._project_id, shown)
        before = {task.task_id: task.annotations for task in opened}
        arrived = self._arrived()
        there = [one for annotations in before.values() for one in annotations]
        self._send_again([one for one in there if int(one["id"]) not in arrived])
        submitted: list[int] = []
        for done, (task_id, found) in enumerate(shown.items(), start=1):
            if len(before[task_id]) < len(self._annotators):
                # opened as its page would be, and all the annotators get to know is what that shows
                page = self._door.open_task(task_id)
                submitted += self._annotate(page, seen(page, found), ours[task_id])
            stage.at(done)
        self._wait_for(submitted)

    def _annotate(self, opened: OpenedTask, prediction: Mapping[str, Json], task: WorldTask) -> Iterator[int]:
        """Let those annotators submit who have not; their annotations stand in the order of the team."""
        (shown,) = prediction["result"]
        texts = shown["value"]["text"]
        for place in range(len(opened.annotations), len(self._annotators)):
            # Label Studio never gives a task's number again, so this names the annotation for ever.
            name = f"{self._door.url}tasks/{opened.task_id}#simulated-annotator-{place + 1}"
            annotation = {
                "unique_id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                "result": ticked(prediction, self._annotators[place].ticks(task, texts)),
                "was_cancelled": False,
                "ground_truth": False,
                "lead_time": LOOK_S * len(texts),
                "parent_prediction": prediction["id"],
                "parent_annotation": None,
            }
            yield self._submit_once(opened.task_id, annotation, place)

    def _submit_once(self, task_id: int, annotation: Mapping[str, Json], place: int) -> int:
        """Submit one annotation; its id.

        Where that fails and the annotation is there nevertheless, only the answer got lost, or a request
        of a killed process was faster. Whether its event came is unknown then, so it is sent again.
        """
        try:
            return self._door.submit(task_id, annotation)
        except LabelStudioError:
            there = self._door.open_task(task_id).annotations
            if len(there) != place + 1:
                raise
            self._send_again([there[place]])
            return int(there[place]["id"])

    def _send_again(self, annotations: Sequence[Mapping[str, Json]]) -> None:
        """Have the events repeated that may have come when no process of ours was there to take them."""
        for one in annotations:
            self._door.submit_again(int(one["id"]), one["result"])
        self.sent_again += len(annotations)
        if annotations:
            self._say(f"sent {len(annotations)} annotations again whose events had not arrived")
        self._wait_for([int(one["id"]) for one in annotations])

    def _wait_for(self, annotation_ids: Collection[int]) -> None:
        wanted = set(annotation_ids)
        if wanted and not arrives(lambda: wanted <= self._arrived()):
            self._say(
                f"{len(wanted - self._arrived())} of {len(wanted)} annotations have not arrived "
                f"within {ARRIVES_WITHIN_S:g} s"
            )

    def _arrived(self) -> set[int]:
        self._service.apply_events()
        with self._service.store.read() as conn:
            return {one.annotation_id for one in judgements.preferences_in(conn, self._project_id)}


def seen(opened: OpenedTask, pushed: CandidateSet) -> Mapping[str, Json]:
    """The prediction that an annotator sees on a task.

    Raises:
        LabelStudioError: Label Studio shows none of the version, or other texts.
    """
    if not opened.predictions or opened.predictions[0].get("model_version") != pushed.version:
        raise LabelStudioError(
            f"Task {opened.task_id} shows no candidates of {pushed.version}, which were pushed.",
            todo="See its predictions in Label Studio's Data Manager.",
        )
    prediction = opened.predictions[0]
    (shown,) = prediction["result"]
    if list(shown["value"]["text"]) != pushed.texts:
        raise LabelStudioError(
            f"Task {opened.task_id} shows {shown['value']['text']!r:.200}, "
            f"and {pushed.texts!r:.200} was pushed."
        )
    return prediction
