"""Rounds of reconciliation for all projects: now and then, later after failures, one process at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from backend.reconcile import Reconciler, Round
from backend.service import Service
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import leases, projects, reconciliations
from illume_plugin.store.reconciliations import Reconciliation

log = logging.getLogger(__name__)

#: A round's lease, renewed between pages: another worker goes on so long after one died, seconds.
LEASE_S = 120.0
#: Rounds take at most this share of the time: Label Studio may be slow, or the project large.
SHARE = 0.05


class KeepingStep:
    """Keeps what is stored in step with Label Studio.

    Args:
        owner: name of this process in leases.
        stop: asked between pages; true ends a round, which is gone on with later.
    """

    def __init__(self, service: Service, *, owner: str, stop: Callable[[], bool]) -> None:
        self.service = service
        self.owner = owner
        self.stop = stop
        self._reconcilers: dict[int, Reconciler] = {}
        #: project -> when its next round may begin, on the monotonic clock
        self._not_before: dict[int, float] = {}

    def rounds(self) -> bool:
        """One round for every project that is due; returns whether something was found."""
        label_studio = self.service.label_studio
        if label_studio is None:
            return False
        with self.service.store.read() as conn:
            known = {p.project_id: reconciliations.find(conn, p.project_id) for p in projects.every(conn)}
        found = 0
        for project_id, state in known.items():
            if self._due(project_id, state) and not self.stop():
                done = self._round(project_id, label_studio)
                found += done.found.count if done else 0
        return found > 0

    def _due(self, project_id: int, known: Reconciliation | None) -> bool:
        if time.monotonic() < self._not_before.get(project_id, 0.0):
            return False
        now = self.service.clock()
        if known is not None and known.retry_at is not None:
            return now >= known.retry_at
        last = known.checked_at if known else None
        return last is None or now - last >= self.service.settings.reconcile_every_s

    def _round(self, project_id: int, label_studio: LabelStudio) -> Round | None:
        if not self._take_lease(project_id):
            return None
        try:
            done = self._reconciler(project_id, label_studio).round()
        except LabelStudioError as error:
            self._note_failure(project_id, error)
            return None
        finally:
            with self.service.store.write() as conn:
                leases.give_back(conn, _lease(project_id), owner=self.owner)
        self._not_before[project_id] = time.monotonic() + done.seconds / SHARE
        if done.found.count:
            log.info("project %d: Label Studio has %s that no event had told", project_id, done.found)
        return done

    def _note_failure(self, project_id: int, error: LabelStudioError) -> None:
        with self.service.store.write() as conn:
            now = self.service.clock()
            again = reconciliations.failed(conn, project_id, str(error), now=now)
        log.warning("project %d: next try in %.0f s: %s", project_id, again - now, error)

    def _reconciler(self, project_id: int, label_studio: LabelStudio) -> Reconciler:
        known = self._reconcilers.get(project_id)
        if known is None or known.label_studio is not label_studio:
            known = Reconciler(self.service, label_studio, project_id, stop=self._stopper(project_id))
            self._reconcilers[project_id] = known
        return known

    def _stopper(self, project_id: int) -> Callable[[], bool]:
        """Whether a round is to end; asking renews its lease."""
        renewed = time.monotonic()

        def stop() -> bool:
            nonlocal renewed
            if self.stop():
                return True
            if time.monotonic() - renewed < LEASE_S / 4:
                return False
            renewed = time.monotonic()
            return not self._take_lease(project_id)

        return stop

    def _take_lease(self, project_id: int) -> bool:
        with self.service.store.write() as conn:
            now = self.service.clock()
            return leases.take(conn, _lease(project_id), owner=self.owner, now=now, seconds=LEASE_S)


def _lease(project_id: int) -> str:
    return f"reconcile {project_id}"
