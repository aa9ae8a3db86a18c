"""What the doctor said, for tests of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.doctor import Check, Finding, Outcome
from illume_plugin.store import Store, leases


def wrong(checks: Iterable[Check]) -> dict[str, Finding]:
    """Name of the check -> what it found, of those that found something."""
    found = {check.name: check.finding for check in checks if check.finding is not None}
    assert all(finding for finding in found.values())
    return found


def the(checks: Iterable[Check], finding: Finding) -> Check:
    """The one check that found this."""
    every = list(checks)
    (check,) = [check for check in every if check.finding is finding] or [Check("", Outcome.OK, str(every))]
    assert check.finding is finding, f"{finding.label} is not among {[(c.name, c.detail) for c in every]}"
    assert check.outcome is finding.outcome
    assert check.detail, "it must say what was seen"
    assert check.todo, "it must say what to do"
    return check


def working(store: Store, projects: Sequence[int], *, owner: str, until: float) -> None:
    """Let a worker hold the leases of projects."""
    with store.write() as conn:
        for number in projects:
            leases.take(conn, f"project {number}", owner=owner, now=until - 120.0, seconds=120.0)
