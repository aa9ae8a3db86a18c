"""A run that this process has claimed: kept its own while it lasts, and given up when it is not.

A lease in the database says whose a run is; the lock of its folder (`run_lock`) says who may touch its files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from backend.pulse import Pulse
from backend.run_lock import alone
from backend.run_log import RunLog
from backend.service import Service
from backend.settings import Settings
from illume_plugin.errors import ConflictError, RunError, UnavailableError
from illume_plugin.store import runs
from illume_plugin.types import Run

log = logging.getLogger(__name__)

#: Seconds between two heartbeats of a run.
HEARTBEAT_S = 1.0


class StoppingError(Exception):
    """This worker is being stopped; the run is to be taken up by the next one."""


class HeldRun:
    """A claimed run.

    Args:
        owner: the worker that claimed it.
        stopping: whether that worker is being stopped.

    Attributes:
        lock: descriptor of the folder's lock, for the training process.
    """

    def __init__(self, service: Service, run: Run, *, owner: str, stopping: Callable[[], bool]) -> None:
        self.run = run
        self.lock: int | None = None
        self._service = service
        self._owner = owner
        self._stopping = stopping
        self._log = RunLog(run.run_id)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease through every stage of the block, and let nobody else touch the run's folder."""
        path = lock_file(self._service.settings, self.run.run_id)
        with (
            Pulse(self._renew, every_s=runs.LEASE_S / 4, name=f"run {self.run.run_id}"),
            alone(path, wait=self._wait) as self.lock,
        ):
            yield

    def beat(self, progress: Mapping[str, Any] | None) -> None:
        """Renew the lease and note the progress; a database that is away for a moment is no reason to end.

        Raises:
            StoppingError: the worker is being stopped.
            ConflictError: the run is not ours any more.
            RunError: it was cancelled.
        """
        if self._stopping():
            raise StoppingError
        self._log.note(progress)
        try:
            with self._service.store.write() as conn:
                self.hold(conn, progress)
        except UnavailableError as error:
            log.warning("run %d goes on, its heartbeat is late: %s", self.run.run_id, error)

    def hold(self, conn: Connection, progress: Mapping[str, Any] | None = None) -> None:
        """Renew the lease within a transaction: what else it writes counts only while the run is ours.

        Raises:
            ConflictError: the run is not ours any more.
            RunError: it was cancelled.
        """
        run_id, now = self.run.run_id, self._service.clock()
        if runs.heartbeat(conn, run_id, owner=self._owner, now=now, progress=progress):
            return
        if not runs.cancel_requested(conn, run_id):
            raise ConflictError(f"Run {run_id} went to another worker.")
        raise RunError("The run was cancelled.", why="Nothing was changed.")

    def _renew(self) -> bool:
        with self._service.store.write() as conn:
            return runs.heartbeat(conn, self.run.run_id, owner=self._owner, now=self._service.clock())

    def _wait(self) -> None:
        """Another process that had this run has its folder open: it was stopped, or is about to end."""
        self.beat({"stage": "waiting for the process that had this run"})
        time.sleep(HEARTBEAT_S)


def lock_file(settings: Settings, run_id: int) -> Path:
    """The lock of a run's folder: outside that folder, which comes and goes."""
    return settings.data_dir / "locks" / f"run-{run_id:06d}"
