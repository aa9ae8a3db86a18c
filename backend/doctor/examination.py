"""The whole examination, each part as far as the ones before it allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backend.doctor import (
    adapters,
    base_model,
    connection,
    disk,
    pictures,
    processes,
    project,
    pushing,
    registration,
    releases,
)
from backend.doctor.checks import Check, found, good, of_error
from backend.doctor.findings import Finding, Outcome
from backend.service import Service
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import projects
from illume_plugin.store.dialect import clock_of
from illume_plugin.types import Project

#: A lease of a minute leaves room for so much, seconds.
CLOCKS_DIFFER_S = 10.0

Say = Callable[[str], None]


def examine(
    service: Service,
    *,
    model: bool = True,
    probing: bool = True,
    project_id: int | None = None,
    say: Say = lambda _: None,
) -> Iterator[Check]:
    """Run all checks. Nothing is changed, here or in Label Studio.

    Args:
        model: load the base model (or meet the vLLM server) too: seconds, or minutes for a large one.
        probing: fetch pictures past the cache, and let Label Studio judge our address.
        project_id: look at this project alone.
        say: is told what is looked at next, for whoever waits.

    Raises:
        NotFoundError: that project is not connected.
    """
    with service.store.read() as conn:
        known = projects.every(conn) if project_id is None else [projects.get(conn, project_id)]
    say("this machine")
    yield from _here(service, known)
    if model:
        say("the base model")
        yield from base_model.runs(service)
    if service.label_studio is None:
        yield found("token", Finding.TOKEN_MISSING, "ILLUME_LABEL_STUDIO_TOKEN is not set")
        return
    say(f"Label Studio at {service.label_studio.url}")
    reached = list(_there(service, service.label_studio, probing=probing))
    yield from reached
    if any(check.outcome is Outcome.FAILED and check.name in ("label studio", "token") for check in reached):
        return
    if not known:
        yield found("projects", Finding.NO_PROJECT, "no project is connected")
        return
    flags = service.label_studio.flags()
    for each in known:
        say(f"project {each.project_id}")
        yield from _project(service, service.label_studio, each, flags, probing=probing)


def _here(service: Service, known: list[Project]) -> Iterator[Check]:
    """What needs no Label Studio."""
    yield from releases.packages()
    yield from disk.rooms(service)
    yield from processes.backend_answers(service.settings)
    if known:
        yield from processes.workers_at_work(service)
    yield _database(service)
    yield from adapters.store_works(service)
    for each in known:
        yield from adapters.serving_adapter(service, each)
    yield from base_model.folder_is_whole(service)


def _there(service: Service, label_studio: LabelStudio, *, probing: bool) -> Iterator[Check]:
    """Label Studio as a whole."""
    answered = list(connection.answers(label_studio))
    yield from answered
    if answered[0].outcome is Outcome.FAILED:
        return
    token = connection.token_accepted(label_studio)
    yield token
    if probing and token.outcome is Outcome.OK:
        yield connection.calls_us(label_studio, service.settings.backend_url)


def _project(
    service: Service, label_studio: LabelStudio, known: Project, flags: dict[str, bool], *, probing: bool
) -> Iterator[Check]:
    name = f"project {known.project_id}"
    try:
        theirs = label_studio.project(known.project_id)
        yield from project.settings_fit(service, theirs)
        yield from registration.registered(service, label_studio, theirs)
    except LabelStudioError as error:
        yield of_error(name, Finding.PROJECT_CLOSED, error)
        return
    yield from pushing.bulk_is_cheap(flags, theirs)
    yield from project.in_step(service, known)
    yield from pictures.one_of_each_kind(service, known, anew=probing)
    yield project.progress(service, known)


def _database(service: Service) -> Check:
    """Leases are times, so the clocks of this machine and of the database's must agree."""
    with service.store.read() as conn:
        theirs = clock_of(conn)
    where = service.store.url.render_as_string()
    ahead = service.clock() - theirs if theirs is not None else 0.0
    if abs(ahead) < CLOCKS_DIFFER_S:
        return good("database", where)
    detail = (
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {where}"
    )
    return found("database", Finding.CLOCK_DATABASE, detail)
