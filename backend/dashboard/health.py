"""Health of every piece: what is cheap is looked at now, the doctor is asked in the background."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Connection, func, select

from backend.dashboard.views import HealthView, Piece
from backend.dashboard.words import duration, plural
from backend.doctor import Check, Outcome, examine
from backend.doctor.disk import rooms
from backend.service import Service
from illume_plugin.errors import IllumeError
from illume_plugin.store import projects
from illume_plugin.store.tables import events, leases

log = logging.getLogger(__name__)

#: The doctor is asked again when what it said is older than this and somebody looks, seconds.
AGAIN_S = 60.0
#: Checks of the doctor's that the page makes itself, at every look.
_SHOWN_ALREADY = ("worker", "disk")


class Doctor:
    """What `illume doctor` says, asked in a thread of its own so that no page waits for Label Studio."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._asked: float | None = None
        self._said: tuple[tuple[Piece, ...], float | None] = ((), None)

    def said(self) -> tuple[tuple[Piece, ...], float | None]:
        """(checks, when they were made in seconds since the epoch); nothing and None before the first."""
        with self._lock:
            due = self._asked is None or time.monotonic() - self._asked > AGAIN_S
            if due:
                self._asked = time.monotonic()
                threading.Thread(target=self._ask, name="doctor", daemon=True).start()
            return self._said

    def _ask(self) -> None:
        try:
            checks = examine(self._service, model=False, probing=False)
            found = tuple(_piece(one) for one in checks if not _is_shown(one))
        except IllumeError as error:
            found = (Piece("doctor", Outcome.FAILED.value, error.what, error.todo),)
        except Exception as error:
            # A thread's end: what went wrong must be seen on the page, not only in the log.
            log.exception("the doctor failed")
            found = (Piece("doctor", Outcome.FAILED.value, f"{type(error).__name__}: {error}"),)
        with self._lock:
            self._said = (found, self._service.clock())


def health(service: Service, doctor: Doctor) -> HealthView:
    """Every piece, ours first."""
    now = service.clock()
    started = time.perf_counter()
    with service.store.read() as conn:
        ours = [_database(service, conn, started), _worker(conn, now), _events(conn, now)]
    checks, examined_at = doctor.said()
    return HealthView((*ours, *map(_piece, rooms(service)), *checks), examined_at)


def _is_shown(check: Check) -> bool:
    well = check.outcome is Outcome.OK
    return check.name.startswith(_SHOWN_ALREADY) or (well and check.name == "database")


def _piece(check: Check) -> Piece:
    detail = f"{check.detail}. {check.why}" if check.why else check.detail
    return Piece(check.name, check.outcome.value, detail, check.todo)


def _database(service: Service, conn: Connection, started: float) -> Piece:
    known = len(projects.every(conn))
    took = 1000 * (time.perf_counter() - started)
    told = f"{service.store.dialect}, {plural(known, 'project')}; answers in {took:.0f} ms"
    return Piece("database", Outcome.OK.value, told)


def _worker(conn: Connection, now: float) -> Piece:
    held = [name for name, until in conn.execute(select(leases.c.name, leases.c.until)) if until > now]
    if held:
        return Piece("worker", Outcome.OK.value, f"at work on {', '.join(sorted(held))}")
    return Piece(
        "worker",
        Outcome.FAILED.value,
        "none is at work: nothing is sampled ahead, no event is taken in, no run begins",
        "start one: illume worker (or illume serve --with-worker)",
    )


def _events(conn: Connection, now: float) -> Piece:
    waiting = select(func.count(), func.min(events.c.received_at)).where(events.c.applied_at.is_(None))
    count, oldest = conn.execute(waiting).one()
    last = conn.execute(
        select(events.c.received_at).order_by(events.c.event_id.desc()).limit(1)
    ).scalar_one_or_none()
    told = f"the last one came {duration(now - last)} ago" if last else "none has come yet"
    if count and now - oldest > AGAIN_S:
        return Piece(
            "events", Outcome.WARNING.value, f"{count} wait to be taken in; {told}", "see the worker"
        )
    return Piece("events", Outcome.OK.value, f"{count} wait to be taken in; {told}")
