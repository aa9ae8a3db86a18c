"""The answer to a call of /predict: what is stored, and where nothing is, what the model says now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from backend.sampling import Sampled, Sampler
from backend.scheduling import Priority, Scheduler
from backend.settings import Settings
from illume_plugin import live_rounds
from illume_plugin.errors import (
    BadRequestError,
    IllumeError,
    TooLargeError,
    UnavailableError,
    in_words,
)
from illume_plugin.generation.stopping import never
from illume_plugin.label_config import LabelConfig
from illume_plugin.predictions import check_prediction, render_prediction
from illume_plugin.store import Store, candidates, projects
from illume_plugin.types import MAX_ID, CandidateSet, Json, Project, Wish

log = logging.getLogger(__name__)

#: /predict calls that may sample live or wait for it at once; more are told to come back.
LIVE_CALLS = 24


@dataclass(frozen=True, slots=True)
class _AtHand:
    """What the store has for a call of /predict.

    Attributes:
        sets: candidate sets by task, of the tasks that have one.
        given: Label Studio has all of them, as far as we know.
    """

    project: Project
    sets: Mapping[int, CandidateSet]
    given: bool


class Predictor:
    """Answers calls of /predict. Safe to share between threads.

    Args:
        settings: those of the moment.
        parse: reads a labelling configuration.
        take_note: of a project's labelling configuration, which may be new.
        prepare: makes sure that a project's version can be sampled with.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        store: Store,
        sampler: Sampler,
        scheduler: Scheduler,
        *,
        parse: Callable[[str], LabelConfig],
        take_note: Callable[[int, str], object],
        prepare: Callable[[int, str], object],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._key = sampler.key
        self._scheduler = scheduler
        self._parse = parse
        self._take_note = take_note
        self._prepare = prepare
        self._clock = clock
        self._live = threading.BoundedSemaphore(LIVE_CALLS)

    def predict(
        self,
        project_id: int,
        label_config: str | None,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        *,
        gone: Callable[[], bool] = never,
    ) -> list[dict[str, Json]]:
        """One item per task, in order: a prediction, or `{"error": reason}` without a result.

        Label Studio stores nothing for an item without a result, so the task opens and is asked for again.

        Args:
            gone: asked now and then; true ends the sampling, because nobody reads the answer any more.

        Raises:
            BadRequestError: a task has no id or no data.
            NotFoundError: the project is not connected.
            TooLargeError: more tasks would have to be sampled than one call may.
        """
        data = _task_data(tasks)
        at_hand = self._at_hand(project_id, label_config, list(data))
        project = at_hand.project
        config = self._parse(project.label_config)
        if context is not None:
            answer = self._live_round(project, config, data, context, gone)
            return [answer for _ in tasks]
        found = self._candidates(at_hand, data, gone)
        items = {
            task_id: self._item(project, found.sets[task_id])
            if task_id in found.sets
            else _reason(project, task_id, found.problems[task_id])
            for task_id in data
        }
        if not at_hand.given or len(found.sets) > len(at_hand.sets):
            self._note_given(project, found.sets.values())
        return [items[task["id"]] for task in tasks]

    def _live_round(
        self,
        project: Project,
        config: LabelConfig,
        data: Mapping[int, Mapping[str, Any]],
        context: Mapping[str, Any],
        gone: Callable[[], bool],
    ) -> dict[str, Json]:
        """The answer to an interactive call. A failure is an answer too: Label Studio shows no other one."""
        asked = live_rounds.live_round(config, context)
        if asked is None or len(data) != 1:
            return live_rounds.nothing(project.active_version)
        if not asked.wish.rows:
            return live_rounds.nothing_new(config, asked, project.active_version)
        (task_id,) = data
        try:
            alone = replace(project, challenger=None)
            sampled = self._sample_live(alone, data, Priority.INTERACTIVE, gone, asked.wish)
            if task_id in sampled.problems:
                raise sampled.problems[task_id]
        except IllumeError as error:
            log.warning("project %d, task %d: no new candidates: %s", project.project_id, task_id, error)
            return live_rounds.failed(config, asked, project.active_version)
        answer = live_rounds.answered(config, asked, sampled.sets[task_id])
        problems = check_prediction(config, answer)
        if problems:
            log.warning("project %d, task %d: answer held back: %s", project.project_id, task_id, problems)
            return live_rounds.failed(config, asked, project.active_version)
        return answer

    def _at_hand(self, project_id: int, label_config: str | None, task_ids: Sequence[int]) -> _AtHand:
        """What the store has for a call; a labelling configuration that is new is taken note of."""
        with self._store.read() as conn:
            known = projects.find(conn, project_id)
            if known and (not label_config or label_config == known.label_config):
                return self._stored(conn, known, task_ids)
        if label_config:
            self._take_note(project_id, label_config)
        with self._store.read() as conn:
            return self._stored(conn, projects.get(conn, project_id), task_ids)

    def _stored(self, conn: Connection, project: Project, task_ids: Sequence[int]) -> _AtHand:
        sets: dict[int, CandidateSet] = {}
        given = True
        alone = replace(project, challenger=None)
        for each in dict.fromkeys((alone, project)):  # during a trial its own sets come before the others
            found, all_given = candidates.look_up(
                conn,
                project.project_id,
                task_ids,
                version=project.active_version,
                plan=self._key(each),
            )
            sets, given = {**sets, **found}, given and all_given
        return _AtHand(project, sets, given)

    def _candidates(
        self, at_hand: _AtHand, data: Mapping[int, Mapping[str, Any]], gone: Callable[[], bool]
    ) -> Sampled:
        """What is there; the rest by the active version alone: nobody who waits waits for a trial too."""
        project, stored = at_hand.project, at_hand.sets
        alone = replace(project, challenger=None)
        missing = {task_id: fields for task_id, fields in data.items() if task_id not in stored}
        if not missing:
            return Sampled(stored, {})
        if len(missing) > self._settings().predict_max_tasks:
            raise TooLargeError(
                f"{len(missing)} of the {len(data)} tasks of this call have no candidates yet; "
                f"one call may sample {self._settings().predict_max_tasks}.",
                why="Label Studio gives up on a /predict call after 100 s.",
                todo=f"Run: illume presample --project {project.project_id}",
            )
        sampled = self._sample_live(alone, missing, Priority.OPEN, gone)
        return Sampled({**stored, **sampled.sets}, sampled.problems)

    def _sample_live(
        self,
        project: Project,
        data: Mapping[int, Mapping[str, Any]],
        priority: Priority,
        gone: Callable[[], bool],
        wish: Wish | None = None,
    ) -> Sampled:
        """Candidates that somebody waits for.

        Raises:
            UnavailableError: as many calls as may are sampling already.
            IllumeError: no task can be sampled.
        """
        deadline = time.monotonic() + self._settings().predict_deadline_s
        if not self._live.acquire(blocking=False):
            raise UnavailableError(
                f"{LIVE_CALLS} calls are sampling already.", todo="Ask again in a few seconds."
            )
        try:
            self._prepare(project.project_id, project.active_version)
            return self._scheduler.sample(
                project, data, priority=priority, wish=wish, deadline=deadline, gone=gone
            )
        finally:
            self._live.release()

    def _item(self, project: Project, candidate_set: CandidateSet) -> dict[str, Json]:
        prediction = self.prediction(project, candidate_set)
        if isinstance(prediction, IllumeError):
            return _reason(project, candidate_set.task_id, prediction)
        return prediction

    def prediction(self, project: Project, candidate_set: CandidateSet) -> dict[str, Json] | IllumeError:
        """The candidate set as Label Studio takes it, or the reason why it must not leave."""
        config = self._parse(project.label_config)
        prediction = render_prediction(config, candidate_set)
        problems = check_prediction(config, prediction)
        if problems:
            return BadRequestError(
                f"Task {candidate_set.task_id}: the prediction does not fit the labelling configuration: "
                + "; ".join(problems)
            )
        return prediction

    def _note_given(self, project: Project, sets: Collection[CandidateSet]) -> None:
        for plan in {one.plan for one in sets}:
            key = {"version": project.active_version, "plan": plan}
            task_ids = [one.task_id for one in sets if one.plan == plan]
            with self._store.read() as conn:
                if candidates.all_given(conn, project.project_id, task_ids, **key):
                    continue  # the usual case: no call needs to wait for a writer
            with self._store.write() as conn:
                candidates.mark_pushed(conn, project.project_id, task_ids, now=self._clock(), **key)


def _task_data(tasks: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    data: dict[int, Mapping[str, Any]] = {}
    for position, task in enumerate(tasks):
        task_id = task.get("id") if isinstance(task, Mapping) else None
        if not isinstance(task_id, int) or isinstance(task_id, bool) or not 1 <= task_id <= MAX_ID:
            raise BadRequestError(f"tasks[{position}] has no usable id ({in_words(task_id)}).")
        fields = task.get("data")
        data[task_id] = fields if isinstance(fields, Mapping) else {}
    return data


def _reason(project: Project, task_id: int, problem: IllumeError) -> dict[str, Json]:
    log.warning("task %d of project %d: %s", task_id, project.project_id, problem)
    return {"error": str(problem), "model_version": project.active_version}
