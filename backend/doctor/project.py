"""One project: what it is set to in Label Studio, and how far we have come with it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import Finding
from backend.service import Service
from illume_plugin.errors import IllumeError
from illume_plugin.labelstudio.records import ProjectInfo
from illume_plugin.store import candidates, events, judgements, projects, reconciliations
from illume_plugin.store.tables import events as event_rows
from illume_plugin.types import Project

#: A round of reconciliation that is so late is worth a word, seconds.
LATE_S = 300.0


def settings_fit(service: Service, project: ProjectInfo) -> Iterator[Check]:
    """Labelling configuration, and whether annotators are shown predictions."""
    number = project.project_id
    name = f"project {number}: label config"
    try:
        service.setup_check(project.label_config)
        yield good(name, f"{project.title!r}: the labelling configuration fits")
    except IllumeError as error:
        detail = " ".join(part for part in (error.what, error.why) if part)
        yield found(name, Finding.LABEL_CONFIG, detail, project=number)
    if not project.show_collab_predictions:
        detail = "'Use predictions to prelabel' is off"
        yield found(f"project {number}: prelabel", Finding.PRELABEL_OFF, detail, project=number)


def in_step(service: Service, project: Project) -> Iterator[Check]:
    """When Label Studio was last asked what changed, and whether events come at all."""
    number = project.project_id
    name = f"project {number}: in step"
    with service.store.read() as conn:
        known = reconciliations.find(conn, number)
        received = conn.execute(select(event_rows.c.event_id).filter_by(project_id=number).limit(1)).first()
    if known is not None and known.problem:
        detail = f"Label Studio could not be asked what changed ({known.attempts} tries): {known.problem}"
        yield found(name, Finding.READING_FAILS, detail, project=number)
        return
    if known is None or known.checked_at is None:
        yield found(name, Finding.NEVER_READ, "Label Studio was never asked what it holds", project=number)
        return
    ago = service.clock() - known.checked_at
    detail = f"Label Studio was asked {ago:.0f} s ago; changes found that no event had told: {known.found}"
    late = ago > LATE_S + service.settings.reconcile_every_s
    yield found(name, Finding.READ_LATE, detail, project=number) if late else good(name, detail)
    if known.found and received is None:
        detail = f"{known.found} changes came to be known by asking, and not one event has come"
        yield found(f"project {number}: events", Finding.EVENTS_SILENT, detail, project=number)


def progress(service: Service, project: Project) -> Check:
    """How many tasks have candidates, and what is in the way of the others."""
    number = project.project_id
    name = f"project {number}: progress"
    key = {"version": project.active_version, "plan": service.sampler.key(project)}
    with service.store.read() as conn:
        tasks = projects.count_tasks(conn, number)
        sampled, pushed = candidates.count(conn, number, **key)
        judged = len(judgements.judged_tasks(conn, number))
        failed = candidates.problems(conn, number, version=project.active_version)
        odd = events.problems(conn, limit=1)
    detail = (
        f"{tasks} tasks, {sampled} with candidates of {project.active_version}, {pushed} of these in "
        f"Label Studio, {judged} judged"
    )
    if failed:
        task_id, (problem, _) = next(iter(failed.items()))
        detail = f"{detail}; {len(failed)} could not be sampled, the first one is task {task_id}: {problem}"
        return found(name, Finding.SAMPLING_FAILS, detail)
    if odd:
        event_id, problem = odd[0][0], odd[0][1]
        return found(name, Finding.EVENT_ODD, f"{detail}; event {event_id} was not understood: {problem}")
    if tasks > sampled + judged:
        return found(name, Finding.CANDIDATES_WANTING, detail, project=number)
    return good(name, detail)
