"""The background loops: apply events, reconcile, sample ahead, push, start and carry out runs.

Any number of worker processes may run: the loop of a project is done by whoever holds its lease, a run by
whoever claimed it.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

from backend.keeping_step import KeepingStep
from backend.leasing import new_owner
from backend.old_predictions import remove_old_predictions
from backend.presample import push_again, push_ahead, sample_ahead
from backend.pulse import Pulse
from backend.retrain import Retrain, due
from backend.service import Service
from backend.trials import review
from illume_plugin.errors import IllumeError
from illume_plugin.store import leases, projects
from illume_plugin.types import Project

log = logging.getLogger(__name__)

#: Pause between two looks when there is nothing to do, seconds.
IDLE_S = 0.5
#: A loop's lease; a dead worker's projects go to another one after so long.
LEASE_S = 120.0
#: Between two looks for predictions of versions that served before, seconds.
CLEAR_OUT_S = 3600.0
#: Pause after an error nobody has handled, seconds.
AFTER_ERROR_S = 5.0
#: At shut-down, a question to Label Studio that is under way is waited for so long, seconds.
STEP_ENDS_WITHIN_S = 10.0


class Worker:
    """Three threads: for events, sampling and pushing; for runs; for what no event tells."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.owner = new_owner()
        self.retrain = Retrain(service, owner=self.owner)
        self.stop = threading.Event()
        #: the project whose loop is gone through at this moment
        self._serving: Project | None = None
        self.keeping_step = KeepingStep(service, owner=self.owner, stop=self.stop.is_set)
        #: (project, versions that draw for it) -> when to look for work again, on the monotonic clock
        self._look_again: dict[tuple[int, tuple[str, ...]], float] = {}
        #: project -> when to look for old predictions again
        self._clear_again: dict[int, float] = {}
        #: project -> the versions that drew for it when it was last seen to what Label Studio shows
        self._seen_to: dict[int, tuple[str, ...]] = {}

    def run(self, *, handle_signals: bool = True) -> None:
        """Work until SIGTERM or Ctrl-C (or until `stop` is set)."""
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.shut_down())
        runner = threading.Thread(target=self._forever, args=("runs", self._runs), name="runs")
        # a daemon: it may be waiting for Label Studio, and what it does may be broken off at any instant
        stepper = threading.Thread(
            target=self._forever, args=("in step", self._keep_step), name="in step", daemon=True
        )
        runner.start()
        stepper.start()
        with Pulse(self._renew, every_s=LEASE_S / 4, name="leases"):
            self._forever("loop", self._round)
        runner.join()
        stepper.join(STEP_ENDS_WITHIN_S)
        self._give_back()

    def shut_down(self) -> None:
        """Ask the threads to end; a run in progress goes back to be taken up again."""
        self.retrain.stopping = True
        self.stop.set()

    def _forever(self, name: str, work: Callable[[], bool]) -> None:
        while not self.stop.is_set():
            try:
                busy = work()
            except IllumeError as error:
                log.error("%s: %s", name, error)  # noqa: TRY400 - a plain sentence, the trace adds nothing
                self.stop.wait(AFTER_ERROR_S)
                continue
            except Exception:
                # A loop is a boundary: it must outlive a full disk or a locked database. Say it, go on.
                log.exception("%s", name)
                self.stop.wait(AFTER_ERROR_S)
                continue
            if not busy:
                self.stop.wait(IDLE_S)

    def _runs(self) -> bool:
        return self.retrain.claim_and_run() is not None

    def _keep_step(self) -> bool:
        found = self.keeping_step.rounds()
        if found:
            self._look_again.clear()
        return found

    def _round(self) -> bool:
        busy = self.service.apply_events() > 0
        if busy:
            self._look_again.clear()
        with self.service.store.read() as conn:
            known = projects.every(conn)
        for project in known:
            if self.stop.is_set():
                break
            self._serving = project
            if self._ours(project):
                busy = self._serve_alone(project) or busy
        self._serving = None
        return busy

    def _serve_alone(self, project: Project) -> bool:
        """Serve a project; what is wrong with it (a configuration without our tags) keeps up no other one."""
        try:
            return self._serve(project)
        except IllumeError as error:
            log.error("project %d: %s", project.project_id, error)  # noqa: TRY400 - a plain sentence
            self._look_again[project.project_id, project.adapters] = time.monotonic() + AFTER_ERROR_S
            return False

    def _serve(self, project: Project) -> bool:
        look = (project.project_id, project.adapters)
        started = time.monotonic()
        if started < self._look_again.get(look, 0.0):
            return False
        if review(self.service, project):
            return True
        if due(self.service, project.project_id):
            run, new = self.service.request_training(project.project_id, trigger="threshold")
            if new:
                log.info("project %d: run %d is due", project.project_id, run.run_id)
        sampled = sample_ahead(self.service, project, stop=self.stop.is_set)
        pushed = push_ahead(self.service, project, everything=not sampled)
        busy = sampled > 0 or pushed > 0 or self._overtaken(project)
        if not busy:
            self._clear_out(project)
            # Looking at 100,000 tasks takes 0.2 s: a project with nothing to do costs at most 5 % of a core.
            self._look_again[look] = time.monotonic() + 20 * (time.monotonic() - started)
        return busy

    def _overtaken(self, project: Project) -> bool:
        """Whether something is to be pushed again; looked at once for every change of who draws."""
        if self._seen_to.get(project.project_id) == project.adapters:
            return False
        found = push_again(self.service, project)
        self._seen_to[project.project_id] = project.adapters
        return found > 0

    def _clear_out(self, project: Project) -> None:
        """Now and then remove from Label Studio what versions that served before had proposed."""
        if time.monotonic() < self._clear_again.get(project.project_id, 0.0):
            return
        self._clear_again[project.project_id] = time.monotonic() + CLEAR_OUT_S
        remove_old_predictions(self.service, project)

    def _renew(self) -> bool:
        """Sampling for a project may take longer than its lease lasts."""
        project = self._serving
        if project is not None:
            self._ours(project)
        return True

    def _ours(self, project: Project) -> bool:
        with self.service.store.write() as conn:
            return leases.take(
                conn,
                f"project {project.project_id}",
                owner=self.owner,
                now=self.service.clock(),
                seconds=LEASE_S,
            )

    def _give_back(self) -> None:
        with self.service.store.write() as conn:
            for project in projects.every(conn):
                leases.give_back(conn, f"project {project.project_id}", owner=self.owner)
