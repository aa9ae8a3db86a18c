"""Named leases, so that of any number of workers only one does a given loop's work at a time."""

from __future__ import annotations

from sqlalchemy import Connection, delete, update

from illume_plugin.store.dialect import insert_or_ignore
from illume_plugin.store.tables import leases


def take(conn: Connection, name: str, *, owner: str, now: float, seconds: float) -> bool:
    """Take or renew the lease; False while somebody else holds it."""
    values = {"owner": owner, "until": now + seconds}
    if conn.execute(insert_or_ignore(conn, leases).values(name=name, **values)).rowcount:
        return True
    ours_or_stale = (leases.c.owner == owner) | (leases.c.until < now)
    return bool(
        conn.execute(update(leases).filter_by(name=name).where(ours_or_stale).values(**values)).rowcount
    )


def give_back(conn: Connection, name: str, *, owner: str) -> None:
    """Release the lease if it is ours."""
    conn.execute(delete(leases).filter_by(name=name, owner=owner))
