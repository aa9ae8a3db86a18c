"""Whose turn it is at the model: people who wait come before what is sampled ahead.

One thread does the sampling of a process, batch by batch. A call puts its tasks into the queue and waits for
them. Calls that want the same task share one result. What nobody waits for any more leaves the queue, and a
batch that is sampled ahead is given up, between two tokens, when somebody comes who waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count, takewhile
from typing import Any

from backend.sampling import Sampled, too_late
from illume_plugin.errors import IllumeError, UnavailableError
from illume_plugin.generation.stopping import SamplingStopped
from illume_plugin.types import CandidateSet, Project, Wish

#: Seconds between two looks at whether a caller is still there.
LOOK_S = 0.1

Fields = Mapping[str, Any]
#: Project, the versions that draw for it, what an annotator wishes for, task.
_Key = tuple[int, tuple[str, ...], Wish | None, int]
#: Samples tasks of one project: (project, task id -> task data, wish, whether to stop) -> what came of it.
Work = Callable[[Project, Mapping[int, Fields], Wish | None, Callable[[], bool]], Sampled]


class Priority(IntEnum):
    """Who waits; the smaller, the sooner."""

    INTERACTIVE = 0
    """Somebody asked for it by hand and looks at the screen."""
    OPEN = 1
    """Label Studio waits for it to open a task."""
    AHEAD = 2
    """Nobody waits: it is for later."""


@dataclass(eq=False)
class _Job:
    """One task that somebody wants sampled."""

    project: Project
    task_id: int
    fields: Fields
    priority: Priority
    number: int
    wish: Wish | None = None
    waiting: int = 0
    outcome: CandidateSet | IllumeError | None = None
    crash: BaseException | None = None

    @property
    def key(self) -> _Key:
        """What makes two jobs the same."""
        return self.project.project_id, self.project.adapters, self.wish, self.task_id

    @property
    def turn(self) -> tuple[int, int]:
        """Sorts the queue."""
        return self.priority, self.number

    @property
    def done(self) -> bool:
        """Whether there is an outcome; then the job is in the queue no longer."""
        return self.outcome is not None or self.crash is not None


@dataclass
class _Queue:
    """Jobs that wait and the batch that is sampled; only used under the scheduler's lock."""

    jobs: dict[_Key, _Job] = field(default_factory=dict)
    batch: list[_Job] = field(default_factory=list)

    def in_turn(self) -> list[_Job]:
        """The jobs that have not begun, the next one first."""
        begun = set(map(id, self.batch))
        return sorted((job for job in self.jobs.values() if id(job) not in begun), key=lambda job: job.turn)

    def take(self, limit: int) -> list[_Job]:
        """Begin the next jobs that one batch can hold: of one project, its adapters, wish and priority."""
        queue = self.in_turn()
        first = queue[0]
        alike = takewhile(lambda job: job.priority == first.priority, queue)
        same = [job for job in alike if job.key[:3] == first.key[:3]]
        self.batch = same[:limit]
        return self.batch


class Scheduler:
    """Runs `work` for everybody, in one thread of its own.

    Args:
        at_a_time: tasks in one batch.
        most: tasks in the queue; a call that would make it longer is refused.
    """

    def __init__(self, work: Work, *, at_a_time: Callable[[], int], most: int = 2000) -> None:
        self._work = work
        self._at_a_time = at_a_time
        self._most = most
        self._changed = threading.Condition()
        self._queue = _Queue()
        self._numbers = count()
        self._closed = False
        self._thread: threading.Thread | None = None

    def sample(
        self,
        project: Project,
        data: Mapping[int, Fields],
        *,
        priority: Priority,
        wish: Wish | None = None,
        deadline: float | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Sampled:
        """Sample tasks when their turn comes, and wait for it.

        Args:
            data: task id -> task data.
            wish: what an annotator asks for in place of the candidates that are there.
            deadline: on the monotonic clock; what is not done by then is given up with an UnavailableError.
            gone: asked now and then; true gives everything up that is not done.

        Raises:
            UnavailableError: the queue is full, or the process is ending.
            IllumeError: no task at all can be sampled.
        """
        jobs = self._join(project, data, priority, wish)
        try:
            self._wait(jobs, deadline, gone)
        finally:
            self._leave(jobs)
        return _outcomes(jobs)

    @property
    def waiting(self) -> int:
        """Tasks in the queue, those that are being sampled included."""
        with self._changed:
            return len(self._queue.jobs)

    def close(self) -> None:
        """End the thread; whoever waits gets an UnavailableError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _join(
        self, project: Project, data: Mapping[int, Fields], priority: Priority, wish: Wish | None
    ) -> list[_Job]:
        with self._changed:
            self._must_have_room(project, data, wish)
            jobs = []
            for task_id, fields in data.items():
                job = _Job(project, task_id, fields, priority, next(self._numbers), wish)
                job = self._queue.jobs.setdefault(job.key, job)
                job.priority = min(job.priority, priority)
                job.waiting += 1
                jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return jobs

    def _must_have_room(self, project: Project, data: Mapping[int, Fields], wish: Wish | None) -> None:
        if self._closed:
            raise UnavailableError("The backend is ending.", todo="Ask again when it is back.")
        who = project.project_id, project.adapters, wish
        known = sum((*who, task_id) in self._queue.jobs for task_id in data)
        waiting = len(self._queue.jobs)
        if waiting and waiting + len(data) - known > self._most:
            raise UnavailableError(
                f"{waiting} tasks wait to be sampled already; {self._most} may.",
                todo="Ask again in a few seconds, or let the worker sample ahead: illume presample",
            )

    def _wait(self, jobs: Iterable[_Job], deadline: float | None, gone: Callable[[], bool]) -> None:
        with self._changed:
            while not self._closed and not all(job.done for job in jobs) and not gone():
                left = LOOK_S if deadline is None else min(LOOK_S, deadline - time.monotonic())
                if left <= 0:
                    return
                self._changed.wait(left)

    def _leave(self, jobs: Iterable[_Job]) -> None:
        with self._changed:
            for job in jobs:
                job.waiting -= 1
                if not job.waiting and not any(job is one for one in self._queue.batch):
                    self._queue.jobs.pop(job.key, None)
            self._changed.notify_all()

    def _run(self) -> None:
        while self._has_work():
            size = self._size()
            with self._changed:
                if not self._queue.in_turn():
                    continue  # whoever asked has left meanwhile
                batch = self._queue.take(size if isinstance(size, int) else 1)
            outcome = self._outcome(batch) if isinstance(size, int) else size
            with self._changed:
                self._end(batch, outcome)
                self._changed.notify_all()

    def _has_work(self) -> bool:
        """Wait for a job; false when there will be none any more."""
        with self._changed:
            while not self._closed and not self._queue.in_turn():
                self._changed.wait()
            return not self._closed

    def _size(self) -> int | BaseException:
        """Tasks in a batch. Asked without the lock: the first time, the base model is loaded for it."""
        try:
            return max(1, self._at_a_time())
        except BaseException as crash:  # noqa: BLE001 - raised again by a call that waits
            return crash

    def _outcome(self, batch: list[_Job]) -> Sampled | BaseException | None:
        """What became of the batch: candidates, the error it ended with, or nothing where it was given up."""
        data = {job.task_id: job.fields for job in batch}
        try:
            return self._work(batch[0].project, data, batch[0].wish, self._to_give_up)
        except SamplingStopped:
            return None
        except BaseException as crash:  # noqa: BLE001 - raised again by every call that waits for it
            return crash

    def _end(self, batch: list[_Job], outcome: Sampled | BaseException | None) -> None:
        """Tell the jobs; those with an outcome and those that nobody waits for leave the queue."""
        self._queue.batch = []
        for job in batch:
            if isinstance(outcome, BaseException):
                job.crash = outcome
            elif outcome is not None:
                found = outcome.sets.get(job.task_id) or outcome.problems.get(job.task_id)
                job.outcome = found or too_late()
            if outcome is not None or not job.waiting:
                self._queue.jobs.pop(job.key, None)

    def _to_give_up(self) -> bool:
        """Whether the batch is wanted no longer, or has to make room for somebody who waits."""
        with self._changed:
            batch = self._queue.batch
            if self._closed or not any(job.waiting for job in batch):
                return True
            queue = self._queue.in_turn()
            ahead = min(job.priority for job in batch) == Priority.AHEAD
            return ahead and bool(queue) and queue[0].priority < Priority.AHEAD


def _outcomes(jobs: Iterable[_Job]) -> Sampled:
    sets: dict[int, CandidateSet] = {}
    problems: dict[int, IllumeError] = {}
    for job in jobs:
        if job.crash is not None:
            raise job.crash
        if isinstance(job.outcome, CandidateSet):
            sets[job.task_id] = job.outcome
        else:
            problems[job.task_id] = job.outcome or too_late()
    return Sampled(sets, problems)
