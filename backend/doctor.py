"""`illume doctor`: what is wrong between Label Studio and this backend, and the exact thing that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import httpx

from backend.connect import TITLE
from backend.service import Service
from backend.settings import SECRET_HEADER, Settings
from illume_plugin.errors import IllumeError, LabelStudioError, SettingsError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, events, judgements, projects, reconciliations
from illume_plugin.store.dialect import clock_of
from illume_plugin.types import Project

HEALTH_TIMEOUT_S = 3.0
#: A round of reconciliation that is so late is worth a word, seconds.
LATE_S = 300.0
#: A lease of a minute leaves room for so much, seconds.
CLOCKS_DIFFER_S = 10.0


class Outcome(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, how it went, what was seen, and what to do where something is to be done."""

    name: str
    outcome: Outcome
    detail: str
    todo: str = ""


def examine(service: Service, *, model: bool = True) -> Iterator[Check]:
    """Run all checks, each as far as the ones before it allow.

    Args:
        model: load the base model (or meet the vLLM server) too: seconds, or minutes for a large one.
    """
    settings = service.settings
    yield _backend_answers(settings)
    yield _database(service)
    yield _adapters(service)
    if model:
        yield _model(service)
    if service.label_studio is None:
        yield _failure("token", _error_of(settings.token))
        return
    label_studio = service.label_studio
    reached = list(_label_studio_answers(label_studio))
    yield from reached
    if reached[-1].outcome is Outcome.FAILED:
        return
    with service.store.read() as conn:
        known = projects.every(conn)
    if not known:
        yield Check("projects", Outcome.WARNING, "no project is connected", "illume connect --project N")
    for project in known:
        yield from _project(service, label_studio, project)


def _error_of(call: Callable[[], object]) -> IllumeError:
    try:
        call()
    except IllumeError as error:
        return error
    return SettingsError("no problem found")


def _failure(name: str, error: IllumeError) -> Check:
    return Check(name, Outcome.FAILED, " ".join(part for part in (error.what, error.why) if part), error.todo)


def _backend_answers(settings: Settings) -> Check:
    url = f"{settings.backend_url}/health"
    try:
        answer = httpx.get(url, timeout=HEALTH_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return Check(
            "backend",
            Outcome.FAILED,
            f"nothing answers at {url} ({type(error).__name__})",
            "start it with `illume serve`, or set ILLUME_BACKEND_URL to where it listens",
        )
    if answer.status_code != 200 or "IllumeBackend" not in answer.text:
        return Check(
            "backend",
            Outcome.FAILED,
            f"{url} answered {answer.status_code}, but not as our backend does",
            "another program may hold the port: choose another one with ILLUME_PORT and ILLUME_BACKEND_URL",
        )
    return Check("backend", Outcome.OK, f"answers at {settings.backend_url}")


def _database(service: Service) -> Check:
    """Leases are times: with clocks that differ a worker takes over what another one still works at."""
    with service.store.read() as conn:
        theirs = clock_of(conn)
    where = service.store.url.render_as_string()
    ahead = service.clock() - theirs if theirs is not None else 0.0
    if abs(ahead) < CLOCKS_DIFFER_S:
        return Check("database", Outcome.OK, where)
    return Check(
        "database",
        Outcome.FAILED,
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {where}",
        "synchronise the clocks of all machines (NTP)",
    )


def _adapters(service: Service) -> Check:
    """Whether versions can be written, read and removed where they are kept."""
    store = service.registry.store
    try:
        caution = store.try_out()
    except IllumeError as error:
        return _failure("adapters", error)
    here = str(store.root.absolute())
    detail = f"kept in {store.address}" + (f", copies in {here}" if here != store.address else "")
    return Check("adapters", Outcome.WARNING if caution else Outcome.OK, detail, caution)


def _model(service: Service) -> Check:
    """How this machine would sample; the process that serves has a model of its own."""
    try:
        generator = service.engine.generator()
        facts = generator.facts()
    except IllumeError as error:
        return _failure("model", error)
    detail = (
        f"{service.settings.base_model} on {facts.place}, {generator.rows} rows at a time; decoding: "
        f"{facts.decoding}; scoring: {facts.scoring}; without the picture: {facts.blind}"
    )
    if facts.concern:
        return Check("model", Outcome.WARNING, detail, f"slower or less than it could be: {facts.concern}")
    return Check("model", Outcome.OK, detail)


def _label_studio_answers(label_studio: LabelStudio) -> Iterator[Check]:
    try:
        yield Check("label studio", Outcome.OK, f"version {label_studio.version()} at {label_studio.url}")
    except LabelStudioError as error:
        yield _failure("label studio", error)
        return
    try:
        yield Check("token", Outcome.OK, f"belongs to {label_studio.current_user().email}")
    except LabelStudioError as error:
        yield _failure("token", error)


def _project(service: Service, label_studio: LabelStudio, project: Project) -> Iterator[Check]:
    name = f"project {project.project_id}"
    again = f"illume connect --project {project.project_id}"
    try:
        found = label_studio.project(project.project_id)
    except LabelStudioError as error:
        yield _failure(name, error)
        return
    try:
        service.setup_check(found.label_config)
        yield Check(name, Outcome.OK, f"{found.title!r}: the labelling configuration fits")
    except IllumeError as error:
        yield _failure(name, error)
    if not found.show_collab_predictions:
        yield Check(
            f"{name}: prelabel",
            Outcome.FAILED,
            "'Use predictions to prelabel' is off, so annotators see no candidates",
            f"{again} (or: Settings, Annotation, Use predictions to prelabel tasks)",
        )
    yield from _backend_registered(service, label_studio, project, found.model_version, again)
    yield _webhook(service, label_studio, project, again)
    yield _in_step(service, project)
    yield _picture(service, project)
    yield _progress(service, project)


def _backend_registered(
    service: Service, label_studio: LabelStudio, project: Project, shown: str, again: str
) -> Iterator[Check]:
    name = f"project {project.project_id}: backend"
    url = service.settings.backend_url
    backends = label_studio.backends(project.project_id)
    ours = [backend for backend in backends if backend.url.rstrip("/") == url]
    if not ours:
        others = ", ".join(backend.url for backend in backends) or "none"
        yield Check(name, Outcome.FAILED, f"{url} is not registered (registered: {others})", again)
        return
    if ours[0].state != "CO":
        yield Check(
            name,
            Outcome.FAILED,
            f"Label Studio does not get through to {url}: {ours[0].error or 'no reason given'}",
            "start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false when the "
            "backend has a local or private address; behind Docker set ILLUME_BACKEND_URL to an address "
            "that Label Studio's container reaches",
        )
    elif backends[0].backend_id != ours[0].backend_id:
        yield Check(
            name,
            Outcome.WARNING,
            f"{backends[0].url} was registered first, and Label Studio asks only the first for predictions",
            "remove the other backend in Settings, Model",
        )
    else:
        yield Check(name, Outcome.OK, f"{url} is registered and connected")
    if shown != ours[0].title:
        yield Check(
            f"project {project.project_id}: shown version",
            Outcome.WARNING,
            f"annotators see predictions of {shown!r}, not of {ours[0].title or TITLE!r}",
            again,
        )


def _webhook(service: Service, label_studio: LabelStudio, project: Project, again: str) -> Check:
    name = f"project {project.project_id}: webhook"
    address = f"{service.settings.backend_url}/webhook"
    ours = [hook for hook in label_studio.webhooks(project.project_id) if hook.url == address]
    if not ours:
        return Check(
            name,
            Outcome.FAILED,
            f"there is none to {address}: ticks do not arrive, so nothing is learnt",
            f"{again}; if Label Studio refuses with 403, start it with ML_BLOCK_LOCAL_IP=false and "
            "SSRF_PROTECTION_ENABLED=false (with only the first it makes the backend without its webhook)",
        )
    if not ours[0].is_active or not ours[0].send_payload:
        return Check(name, Outcome.FAILED, "it is switched off or sends no payload", again)
    if ours[0].headers.get(SECRET_HEADER) != service.settings.shared_secret():
        return Check(name, Outcome.FAILED, f"its {SECRET_HEADER} header is missing or old", again)
    return Check(name, Outcome.OK, f"sends events to {address} with the secret")


def _in_step(service: Service, project: Project) -> Check:
    """When Label Studio was last asked what changed."""
    name = f"project {project.project_id}: in step"
    with service.store.read() as conn:
        known = reconciliations.find(conn, project.project_id)
    if known is not None and known.problem:
        detail = f"Label Studio could not be asked what changed ({known.attempts} tries): {known.problem}"
        return Check(
            name, Outcome.FAILED, detail, f"mend that, then: illume sync --project {project.project_id}"
        )
    if known is None or known.checked_at is None:
        return Check(name, Outcome.WARNING, "Label Studio was never asked what it holds", "illume worker")
    ago = service.clock() - known.checked_at
    detail = (
        f"Label Studio was asked {ago:.0f} s ago; {known.found} changes were found that no event had told"
    )
    if ago > LATE_S + service.settings.reconcile_every_s:
        return Check(name, Outcome.WARNING, detail, "the worker does it: illume worker; or once: illume sync")
    return Check(name, Outcome.OK, detail)


def _picture(service: Service, project: Project) -> Check:
    name = f"project {project.project_id}: picture"
    with service.store.read() as conn:
        data = projects.task_data(conn, project.project_id)
    if not data:
        return Check(
            name, Outcome.WARNING, "no task is known", f"illume connect --project {project.project_id}"
        )
    task_id, fields = next(iter(data.items()))
    try:
        service.picture(project, task_id, fields)
    except IllumeError as error:
        return _failure(name, error)
    return Check(name, Outcome.OK, f"the picture of task {task_id} can be read")


def _progress(service: Service, project: Project) -> Check:
    key = {"version": project.active_version, "plan": service.sampler.key(project)}
    with service.store.read() as conn:
        tasks = projects.count_tasks(conn, project.project_id)
        sampled, pushed = candidates.count(conn, project.project_id, **key)
        judged = len(judgements.judged_tasks(conn, project.project_id))
        failed = candidates.problems(conn, project.project_id, version=project.active_version)
        odd = events.problems(conn, limit=1)
    detail = (
        f"{tasks} tasks, {sampled} with candidates of {project.active_version}, {pushed} of these in "
        f"Label Studio, {judged} judged"
    )
    name = f"project {project.project_id}: progress"
    if failed:
        task_id, (problem, _) = next(iter(failed.items()))
        return Check(
            name, Outcome.WARNING, f"{detail}; {len(failed)} could not be sampled", f"{task_id}: {problem}"
        )
    if odd:
        return Check(name, Outcome.WARNING, f"{detail}; event {odd[0][0]} was not understood", odd[0][1])
    if tasks > sampled + judged:
        return Check(name, Outcome.WARNING, detail, "candidates are on their way while `illume worker` runs")
    return Check(name, Outcome.OK, detail)
