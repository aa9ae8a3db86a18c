"""What each run learnt from, and which of it is not what it was any more."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select

from illume_plugin.lineage import Change, Source, said
from illume_plugin.store import judgements
from illume_plugin.store.tables import annotations, run_sources


def keep(conn: Connection, run_id: int, project_id: int, sources: Sequence[Source]) -> None:
    """Keep what a run learns from, in place of what an earlier try of the same run kept."""
    conn.execute(delete(run_sources).where(run_sources.c.run_id == run_id))
    rows = [{"run_id": run_id, "project_id": project_id, **asdict(source)} for source in sources]
    if rows:
        conn.execute(insert(run_sources), rows)


def of_run(conn: Connection, run_id: int) -> list[Source]:
    """The annotations that a run learnt from or measured with, by id; none for runs that kept none."""
    rows = conn.execute(
        select(run_sources).where(run_sources.c.run_id == run_id).order_by(run_sources.c.annotation_id)
    )
    return [_read(row) for row in rows]


def runs_with(conn: Connection, project_id: int, annotation_id: int) -> dict[int, Source]:
    """Run id -> the annotation as it was in that run, for every run that it had a part in."""
    rows = conn.execute(
        select(run_sources)
        .filter_by(project_id=project_id, annotation_id=annotation_id)
        .order_by(run_sources.c.run_id)
    )
    return {row.run_id: _read(row) for row in rows}


def departed(conn: Connection, project_id: int) -> dict[int, dict[int, Change]]:
    """Run id -> annotations that it learnt from and that were deleted or say something else now.

    An annotation whose state is new but which says the same (a comment, a corrected time) has not changed.
    """
    same = and_(
        annotations.c.project_id == run_sources.c.project_id,
        annotations.c.annotation_id == run_sources.c.annotation_id,
    )
    touched = or_(annotations.c.deleted.is_(True), annotations.c.digest != run_sources.c.digest)
    rows = conn.execute(
        select(run_sources.c.run_id, run_sources.c.annotation_id, run_sources.c.said, annotations.c.deleted)
        .join(annotations, same)
        .where(run_sources.c.project_id == project_id, run_sources.c.held_out.is_(False), touched)
        .order_by(run_sources.c.run_id, run_sources.c.annotation_id)
    ).all()
    now = _said_now(conn, project_id, {row.annotation_id for row in rows if not row.deleted})
    found: dict[int, dict[int, Change]] = {}
    for row in rows:
        if row.deleted or now[row.annotation_id] != row.said:
            change = Change.DELETED if row.deleted else Change.CHANGED
            found.setdefault(row.run_id, {})[row.annotation_id] = change
    return found


def _said_now(conn: Connection, project_id: int, annotation_ids: set[int]) -> dict[int, str]:
    held = judgements.preferences_of_annotations(conn, project_id, annotation_ids)
    return {annotation_id: said(held.get(annotation_id, ())) for annotation_id in annotation_ids}


def _read(row: Row[tuple[object, ...]]) -> Source:
    return Source(**{each.name: row._mapping[each.name] for each in fields(Source)})
