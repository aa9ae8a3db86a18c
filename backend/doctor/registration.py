"""What Label Studio knows of us in one project: backend, version shown, webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import httpx

from backend.connect import TITLE
from backend.doctor.checks import Check, found, good
from backend.doctor.containers import is_this_machine
from backend.doctor.findings import Finding
from backend.service import Service
from backend.settings import SECRET_HEADER
from illume_plugin.errors import LabelConfigError
from illume_plugin.label_config import parse_label_config
from illume_plugin.labelstudio import BackendInfo, LabelStudio, WebhookInfo
from illume_plugin.labelstudio.records import ProjectInfo
from illume_plugin.live_rounds import has_live_rounds

_WEBHOOK = "/webhook"
#: Label Studio's signs for a backend that is well, and for one that answered /setup with an error.
_CONNECTED, _ERROR = "CO", "ER"
_HEALTH_TIMEOUT_S = 3.0


def registered(service: Service, label_studio: LabelStudio, project: ProjectInfo) -> Iterator[Check]:
    """Backend, shown version and webhooks. Label Studio calls each of the project's backends for this."""
    backends = label_studio.backends(project.project_id)
    url = service.settings.backend_url
    ours = [backend for backend in backends if backend.url.rstrip("/") == url]
    yield _backend(url, label_studio.url, project.project_id, project.label_config, backends, ours)
    if ours and project.show_collab_predictions and project.model_version != ours[0].title:
        detail = f"annotators see predictions of {project.model_version!r}, not of {ours[0].title or TITLE!r}"
        name = f"project {project.project_id}: shown version"
        yield found(name, Finding.VERSION_HIDDEN, detail, project=project.project_id)
    hooks = label_studio.webhooks(project.project_id)
    yield _webhook(service, project.project_id, hooks, has_backend=bool(ours))
    yield from _left_behind(service, project.project_id, hooks, backends)


def _backend(
    url: str,
    their_url: str,
    number: int,
    label_config: str,
    backends: Sequence[BackendInfo],
    ours: Sequence[BackendInfo],
) -> Check:
    name = f"project {number}: backend"
    if not ours:
        others = ", ".join(backend.url for backend in backends) or "none"
        detail = f"{url} is not registered (registered: {others})"
        return found(name, Finding.BACKEND_UNREGISTERED, detail, project=number)
    if ours[0].state == _ERROR:
        return found(name, Finding.BACKEND_REFUSES, f"{url} answers, but with {ours[0].error or 'an error'}")
    if ours[0].state != _CONNECTED:
        return _unreached(name, url, their_url, ours[0])
    if backends[0].backend_id != ours[0].backend_id:
        return found(name, Finding.BACKEND_NOT_FIRST, f"{backends[0].url} was registered first")
    if not ours[0].is_interactive and _has_live_rounds(label_config):
        detail = f"{url} is not interactive in Label Studio: wishes for new candidates reach nobody"
        return found(name, Finding.BACKEND_NOT_INTERACTIVE, detail, project=number)
    return good(name, f"{url} is registered and connected")


def _has_live_rounds(label_config: str) -> bool:
    try:
        return has_live_rounds(parse_label_config(label_config))
    except LabelConfigError:
        return False  # said of the project itself


def _unreached(name: str, url: str, their_url: str, ours: BackendInfo) -> Check:
    """Label Studio does not get through; whether we do tells on which side the cause lies."""
    detail = f"Label Studio does not get through to {url}: {ours.error or 'it gives no reason'}"
    if not _answers_here(url):
        return found(
            name, Finding.BACKEND_UNREACHED, f"{detail}; nor do we", todo=Finding.BACKEND_SILENT.mend
        )
    if not is_this_machine(url):
        return found(name, Finding.BACKEND_UNREACHED, f"{detail}; we do")
    where = "its own machine" if not is_this_machine(their_url) else "its own container, if it runs in one"
    todo = (
        "set ILLUME_BACKEND_URL to this machine's name in the network, or to "
        f"http://host.docker.internal:{urlsplit(url).port or 80} where Label Studio runs in a container of "
        "this machine; then connect again"
    )
    return found(
        name, Finding.BACKEND_UNREACHED, f"{detail}; we do. For Label Studio localhost is {where}", todo=todo
    )


def _answers_here(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=_HEALTH_TIMEOUT_S, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _webhook(service: Service, number: int, hooks: Sequence[WebhookInfo], *, has_backend: bool) -> Check:
    name = f"project {number}: webhook"
    address = f"{service.settings.backend_url}{_WEBHOOK}"
    ours = [hook for hook in hooks if hook.url == address]
    if not ours:
        state = "the backend is registered and" if has_backend else "no backend, and"
        detail = f"{state} there is no webhook to {address}: ticks are not told"
        return found(name, Finding.WEBHOOK_MISSING, detail, project=number)
    if not ours[0].is_active or not ours[0].send_payload:
        detail = f"{address} is switched off or sends no payload"
        return found(name, Finding.WEBHOOK_OFF, detail, project=number)
    if ours[0].headers.get(SECRET_HEADER) != service.settings.shared_secret():
        detail = f"its {SECRET_HEADER} header is missing or old"
        return found(name, Finding.WEBHOOK_SECRET, detail, project=number)
    if len(ours) > 1:
        return found(name, Finding.WEBHOOK_TWICE, f"{len(ours)} lead to {address}", project=number)
    return good(name, f"sends events to {address} with the secret")


def _left_behind(
    service: Service, number: int, hooks: Sequence[WebhookInfo], backends: Sequence[BackendInfo]
) -> Iterator[Check]:
    """Webhooks of backends that are somewhere else by now, or nowhere."""
    known = {backend.url.rstrip("/") for backend in backends} | {service.settings.backend_url}
    for hook in hooks:
        if not hook.is_active or not hook.url.endswith(_WEBHOOK):
            continue
        if hook.url.removesuffix(_WEBHOOK) in known:
            continue
        # a secret of an earlier data folder counts too: nobody else uses this header
        finding = Finding.WEBHOOK_OLD_URL if SECRET_HEADER in hook.headers else Finding.WEBHOOK_ORPHAN
        detail = f"webhook {hook.webhook_id} leads to {hook.url}, where no backend of the project is"
        yield found(
            f"project {number}: old webhook {hook.webhook_id}",
            finding,
            detail,
            todo=f"in Label Studio: Settings of project {number}, Webhooks, delete {hook.url}",
        )
