"""The background loops: apply events, sample ahead, push, start and carry out runs.

Any number of worker processes may run: the loop of a project is done by whoever holds its lease, a run by
whoever claimed it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable

from backend.old_predictions import remove_old_predictions
from backend.presample import push_ahead, sample_ahead
from backend.retrain import Retrain, due
from backend.service import Service
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


class Worker:
    """Two threads: one for events, sampling and pushing, one for runs."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.retrain = Retrain(service, owner=self.owner)
        self.stop = threading.Event()
        #: (project, active version) -> when it is worth looking for work again, on the monotonic clock
        self._look_again: dict[tuple[int, str], float] = {}
        #: project -> when to look for old predictions again
        self._clear_again: dict[int, float] = {}

    def run(self, *, handle_signals: bool = True) -> None:
        """Work until SIGTERM or Ctrl-C (or until `stop` is set)."""
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.shut_down())
        runner = threading.Thread(target=self._forever, args=("runs", self._runs), name="runs")
        runner.start()
        self._forever("loop", self._round)
        runner.join()
        self._give_back()

    def shut_down(self) -> None:
        """Ask both threads to end; a run in progress goes back to be taken up again."""
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

    def _round(self) -> bool:
        busy = self.service.apply_events() > 0
        if busy:
            self._look_again.clear()
        with self.service.store.read() as conn:
            known = projects.every(conn)
        for project in known:
            if self.stop.is_set():
                break
            if self._ours(project):
                busy = self._serve(project) or busy
        return busy

    def _serve(self, project: Project) -> bool:
        look = (project.project_id, project.active_version)
        started = time.monotonic()
        if started < self._look_again.get(look, 0.0):
            return False
        if due(self.service, project.project_id):
            run, new = self.service.request_training(project.project_id, trigger="threshold")
            if new:
                log.info("project %d: run %d is due", project.project_id, run.run_id)
        sampled = sample_ahead(self.service, project, stop=self.stop.is_set)
        pushed = push_ahead(self.service, project, everything=not sampled)
        busy = sampled > 0 or pushed > 0
        if not busy:
            self._clear_out(project)
            # Looking at 100,000 tasks takes 0.2 s: a project with nothing to do costs at most 5 % of a core.
            self._look_again[look] = time.monotonic() + 20 * (time.monotonic() - started)
        return busy

    def _clear_out(self, project: Project) -> None:
        """Now and then remove from Label Studio what versions that served before had proposed."""
        if time.monotonic() < self._clear_again.get(project.project_id, 0.0):
            return
        self._clear_again[project.project_id] = time.monotonic() + CLEAR_OUT_S
        remove_old_predictions(self.service, project)

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
