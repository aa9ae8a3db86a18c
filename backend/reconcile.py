"""Asks Label Studio what changed. Webhooks are hints, and some changes have none; this is the truth.

What is read goes through the verbs that apply events, page by page: a page and the note of how far we have
come are one transaction, so a process killed at any instant goes on where the last page ended.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection

from backend.service import Service
from illume_plugin.errors import LabelStudioError
from illume_plugin.fault_points import point
from illume_plugin.generation.stopping import never
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.labelstudio.changes import PAGE, Span, Step, changed_since, differing, start, walk
from illume_plugin.labelstudio.pages import Page, ProjectNow, Where
from illume_plugin.preferences import TaskNow, Totals
from illume_plugin.store import intake, projects, reconciliations
from illume_plugin.store.intake import Found
from illume_plugin.store.reconciliations import Reconciliation

log = logging.getLogger(__name__)

#: Tasks taken in within one transaction: the webhook's listener must not wait for long.
AT_ONCE = 100
#: Totals that stay different after everything was read twice are looked into again after so long, seconds.
LOOK_AGAIN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did.

    Attributes:
        in_step: whether the totals were the same on both sides at its end; None where people were at work.
        requests: questions to Label Studio.
        seconds: how long it took.
    """

    found: Found
    in_step: bool | None
    requests: int
    seconds: float


class Reconciler:
    """Brings what is stored of one project in step with Label Studio.

    Args:
        dry_run: find out what would change, and keep nothing.
        page: tasks asked for at a time.
        stop: asked between pages; true ends the round, to be gone on with later.
    """

    def __init__(
        self,
        service: Service,
        label_studio: LabelStudio,
        project_id: int,
        *,
        dry_run: bool = False,
        page: int = PAGE,
        stop: Callable[[], bool] = never,
    ) -> None:
        self.service = service
        self.label_studio = label_studio
        self.project_id = project_id
        self.dry_run = dry_run
        self.stop = stop
        self._page = page
        self._requests = 0
        self._asked_at = 0.0
        #: task -> its state, of those taken in during this round: pages overlap
        self._done: dict[int, str] = {}
        #: totals that could not be brought in step -> when that was
        self._unexplained: dict[tuple[Totals, Totals], float] = {}

    def round(self, *, full: bool = False) -> Round:
        """Take in what changed since the last round; the first one reads everything.

        Args:
            full: read everything again.

        Raises:
            LabelStudioError: Label Studio failed us; what was read before is kept.
        """
        began, self._requests, self._done = time.monotonic(), 0, {}
        self.service.apply_events()
        before = self._project()
        self._note_config(before)
        found, in_step = self._read(before.totals, full=full)
        if not self.stop():
            with self._write() as conn:
                reconciliations.succeeded(conn, self.project_id, found=found.count, now=self.service.clock())
        return Round(found, in_step, self._requests, time.monotonic() - began)

    def _read(self, totals: Totals, *, full: bool) -> tuple[Found, bool | None]:
        known, found, settled = self._known(), Found(), None
        if full or _unread(known):
            found, settled = self._walk_all(totals, Reconciliation() if full else known)
        if not self.stop():
            # the walk of a dry run has settled nothing
            found += self._changes(settled if self.dry_run and settled is not None else self._known().settled)
        in_step: bool | None = self._in_step(totals, found)
        if in_step or self.dry_run or self.stop():
            return found, in_step
        in_step, more = self._bring_in_step(totals)
        return found + more, in_step

    # -- the three readings ------------------------------------------------------------------------

    def _walk_all(self, theirs: Totals, known: Reconciliation) -> tuple[Found, str]:
        """Read all tasks by id, or go on with a walk that was broken off.

        Returns:
            What was found, and the moment up to which it settles everything.
        """
        self._check_listed(theirs)
        token, settles, found = known.walk, known.walk_settles, Found()
        if token is None:
            token, settles = uuid.uuid4().hex, start(self._ask)
            with self._write() as conn:
                reconciliations.begin_walk(conn, self.project_id, token, settles)
        for known_up_to, span in self._spans(known.walked):
            more, ours = self._take_span(span, known_up_to, token=token)
            found += more
            if self.stop() or not ours:  # another process may have begun anew
                break
        return found, settles

    def _changes(self, settled: str) -> Found:
        """Read the tasks that changed after a moment."""
        found = Found()
        for step in changed_since(self._ask, settled, page=self._page):
            found += self._take_step(step)
            if self.stop():
                break
        return found

    def _bring_in_step(self, theirs: Totals) -> tuple[bool | None, Found]:
        """Read the ranges of ids whose totals differ; returns (whether that mended it, what was found)."""
        now = self._project().totals
        if now != theirs:
            return None, Found()  # people are at work; the next round will tell
        with self.service.store.read() as conn:
            ours = intake.totals(conn, self.project_id)
        pair = (theirs, ours)
        if time.monotonic() < self._unexplained.get(pair, 0.0):
            return False, Found()
        log.info("project %d: Label Studio has %s, here are %s; looking where", self.project_id, theirs, ours)
        self._done = {}  # what changed without a note of when looks as if it had been taken in
        found = self._read_differing(theirs)
        in_step = self._in_step(now, found)
        if not in_step and not self.stop():
            found += self._walk_all(theirs, Reconciliation())[0]
            in_step = self._in_step(now, found)
        if not in_step:
            again = LOOK_AGAIN_S if pair in self._unexplained else 0.0
            self._unexplained[pair] = time.monotonic() + again
        return in_step, found

    def _check_listed(self, theirs: Totals) -> int:
        """Make sure that the list of tasks is whole before anything that it lacks is taken for deleted.

        Returns:
            The greatest id of a task, 0 where there is none.
        """
        listed = self._ask(Where(last=True, ids_only=True), 1)
        if listed.total < theirs.tasks:
            raise LabelStudioError(
                f"Label Studio counts {theirs.tasks} tasks in project {self.project_id} and lists "
                f"{listed.total}.",
                why="Tasks are being deleted at this moment, or the token's user does not see all of them. "
                "Nothing was taken for deleted.",
                todo="It is tried again by itself; if it stays so, use a token whose user sees every task.",
            )
        return listed.last_id

    def _read_differing(self, theirs: Totals) -> Found:
        last = self._check_listed(theirs)
        with self.service.store.read() as conn:
            high = max(intake.last_task(conn, self.project_id), last)
        found = Found()
        for low, up_to in list(differing(self._ask, self._count, high, page=self._page)) if high else ():
            for known_up_to, span in self._spans(low, up_to):
                found += self._take_span(span, known_up_to)[0]
        return found

    # -- taking in ---------------------------------------------------------------------------------

    def _take_step(self, step: Step) -> Found:
        first, last = self._all_but_last(step.tasks)
        with self._write() as conn:
            found = self._take(conn, last)
            reconciliations.settle(conn, self.project_id, step.settled)
            point("reconcile.before_commit")
        point("reconcile.after_commit")
        return first + found

    def _take_span(self, span: Span, known_up_to: int, *, token: str = "") -> tuple[Found, bool]:
        """Take in tasks, and take out those in their range that are there no more.

        Returns:
            What was found, and whether the walk (where one is given) is still ours.
        """
        high = known_up_to if span.high is None else min(span.high, known_up_to)
        with self.service.store.read() as conn:
            held = intake.task_ids(conn, self.project_id, span.low, high)
        shown = {task.task_id for task in span.tasks}
        gone = [task_id for task_id in held if task_id not in shown]
        found = Found()
        for begin in range(0, len(gone), AT_ONCE):
            with self._write() as conn:
                found += intake.take_out(conn, self.project_id, gone[begin : begin + AT_ONCE])
        first, last = self._all_but_last(span.tasks)
        with self._write() as conn:
            found += first + self._take(conn, last)
            ours = not token or self._note_walked(conn, token, span)
            point("reconcile.before_commit")
        point("reconcile.after_commit")
        return found, ours

    def _all_but_last(self, tasks: Sequence[TaskNow]) -> tuple[Found, Sequence[TaskNow]]:
        """Take in the tasks of a page but for some, whose transaction is to note how far we have come.

        Returns:
            What was found, and the tasks left.
        """
        found = Found()
        while len(tasks) > AT_ONCE:
            with self._write() as conn:
                found += self._take(conn, tasks[:AT_ONCE])
            tasks = tasks[AT_ONCE:]
        return found, tasks

    def _note_walked(self, conn: Connection, token: str, span: Span) -> bool:
        if self.dry_run:
            return True
        if span.high is None:
            return reconciliations.end_walk(conn, self.project_id, token)
        return reconciliations.walked(conn, self.project_id, token, span.high)

    def _take(self, conn: Connection, tasks: Sequence[TaskNow]) -> Found:
        new = [task for task in tasks if self._done.get(task.task_id) != task.updated_at]
        self._done |= {task.task_id: task.updated_at for task in new}
        now = self.service.clock()
        return intake.take_in(conn, self.project_id, new, now=now, asked_at=self._asked_at)

    def _note_config(self, project: ProjectNow) -> None:
        with self.service.store.read() as conn:
            known = projects.find(conn, self.project_id)
        if known and (known.label_config, known.title) != (project.label_config, project.title):
            with self._write() as conn:
                projects.update_config(conn, self.project_id, project.label_config, project.title)

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, where: Where, size: int) -> Page:
        self._requests += 1
        self._asked_at = self.service.clock()
        return self.label_studio.task_page(self.project_id, where, size)

    def _project(self) -> ProjectNow:
        self._requests += 1
        return self.label_studio.project_now(self.project_id)

    def _spans(self, low: int, high: int | None = None) -> Iterator[tuple[int, Span]]:
        """The spans of a walk, each with the greatest task id that was known before it was asked for.

        A task that came while Label Studio was asked is not in the answer, and not gone.
        """
        spans = walk(self._ask, low, high, page=self._page)
        while True:
            with self.service.store.read() as conn:
                known_up_to = intake.last_task(conn, self.project_id)
            span = next(spans, None)
            if span is None:
                return
            yield known_up_to, span

    def _count(self, low: int, high: int) -> tuple[int, int]:
        with self.service.store.read() as conn:
            ours = intake.totals(conn, self.project_id, within=(low, high))
        return ours.tasks, ours.submitted

    def _in_step(self, theirs: Totals, found: Found) -> bool:
        with self.service.store.read() as conn:
            ours = intake.totals(conn, self.project_id)
        if not self.dry_run:
            return ours == theirs
        # nothing of what was found is kept
        annotations = ours.submitted + ours.skipped + found.new_annotations - found.gone_annotations
        tasks = ours.tasks + found.new_tasks - found.gone_tasks
        return (tasks, annotations) == (theirs.tasks, theirs.submitted + theirs.skipped)

    def _known(self) -> Reconciliation:
        with self.service.store.read() as conn:
            return reconciliations.find(conn, self.project_id) or Reconciliation()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction, which a dry run takes back at its end."""
        with suppress(_NotKeptError), self.service.store.write() as conn:
            yield conn
            if self.dry_run:
                raise _NotKeptError


class _NotKeptError(Exception):
    """Ends the transaction of a dry run."""


def _unread(known: Reconciliation) -> bool:
    """Whether a project was never read to the end."""
    return known.walk is not None or (known.checked_at is None and not known.settled)
