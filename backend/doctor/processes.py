"""Our own processes: whether serve and worker are there, and are of one version."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from sqlalchemy import func, select

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import Finding
from backend.leasing import version_of
from backend.service import Service
from backend.settings import Settings
from backend.worker import LEASE_S
from illume_plugin import __version__
from illume_plugin.store.tables import leases

HEALTH_TIMEOUT_S = 3.0
#: What our backend calls itself.
_OURS = "IllumeBackend"
#: A worker renews its lease twice a second, or every half minute while it samples; then this is too long.
SILENT_S = LEASE_S / 4 + 15.0


def backend_answers(settings: Settings) -> Iterator[Check]:
    """Whether `illume serve` answers at the address that Label Studio is given."""
    url = f"{settings.backend_url}/health"
    try:
        answer = httpx.get(url, timeout=HEALTH_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        yield found(
            "backend", Finding.BACKEND_SILENT, f"nothing answers at {url} ({type(error).__name__}: {error})"
        )
        return
    told = _json(answer)
    kind = str(told.get("model_class"))
    if answer.status_code != 200 or _OURS not in kind:
        detail = f"{url} answered {answer.status_code}, but not as our backend does"
        yield found("backend", Finding.BACKEND_OTHER, detail)
        return
    yield good("backend", f"answers at {settings.backend_url}")
    # under label-studio-ml's own scaffold the class has its module before it, and no version is told
    if kind == _OURS and told.get("version") != __version__:
        theirs = told.get("version") or "that says no version"
        detail = f"the backend is of version {theirs}, this program of {__version__}"
        yield found("backend's version", Finding.PROCESSES_DIFFER, detail)


def workers_at_work(service: Service) -> Iterator[Check]:
    """Whether a worker holds the projects' leases, and when each of them was last heard of."""
    now = service.clock()
    query = (
        select(leases.c.owner, func.max(leases.c.until))
        .where(leases.c.name.like("project %"), leases.c.until > now)
        .group_by(leases.c.owner)
        .order_by(leases.c.owner)
    )
    with service.store.read() as conn:
        workers = [(str(owner), float(until)) for owner, until in conn.execute(query)]
    if not workers:
        yield found("worker", Finding.WORKER_MISSING, "none is at work on any project")
    for owner, until in workers:
        # of its leases the newest: while it is at one project it renews that one's alone
        yield from _worker(owner, silent_s=LEASE_S - (until - now))


def _worker(owner: str, *, silent_s: float) -> Iterator[Check]:
    detail = f"{owner} was last heard of {max(silent_s, 0):.0f} s ago"
    if silent_s > SILENT_S:
        yield found("worker", Finding.WORKER_SILENT, detail)
    else:
        yield good("worker", detail)
    theirs = version_of(owner)
    if theirs != __version__:
        detail = f"{owner} is of version {theirs or 'unknown'}, this program of {__version__}"
        yield found("worker's version", Finding.PROCESSES_DIFFER, detail)


def _json(answer: httpx.Response) -> dict[str, object]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
