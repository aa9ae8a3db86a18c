"""The one door to Label Studio's API, on top of label-studio-sdk.

Nothing is repeated behind the caller's back: the SDK would send a failing POST three times, so its
retries are off, and a failure is a LabelStudioError with what was asked and what to do.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import server_facts
from illume_plugin.labelstudio.failures import DoorClient
from illume_plugin.labelstudio.pages import Page, ProjectNow, Where, read_page, read_project
from illume_plugin.labelstudio.push_costs import PushCosts
from illume_plugin.labelstudio.records import (
    BackendInfo,
    LocalStorageInfo,
    ProjectInfo,
    TaskInfo,
    UserInfo,
    WebhookInfo,
    backend_info,
    number,
    project_info,
    text,
    webhook_info,
)
from illume_plugin.labelstudio.tokens import AccessTokens, TokenAuth
from illume_plugin.types import Json

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio as Sdk
    from label_studio_sdk.core.request_options import RequestOptions

#: A bulk request recounts the whole project: seconds to minutes (contract: up to 313 s measured).
BULK_TIMEOUT_S = 900.0
#: Connecting and training make Label Studio call us back, with its own limits of up to 100 s.
CALLBACK_TIMEOUT_S = 120.0


class LabelStudio:
    """A Label Studio server, seen through one user's token. Safe to share between threads.

    Args:
        url: address under which Label Studio opens in a browser, with its path if it has one.
        token: personal access token, or a legacy token where the organisation allows those.
        timeout_s: seconds to connect, and between bytes, for ordinary calls.

    Raises:
        LabelStudioError: by every method, when Label Studio cannot be reached, refuses or answers nonsense.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = 10.0) -> None:
        self.url = _checked_url(url)
        self._http = DoorClient(self.url, timeout_s=timeout_s)
        self._tokens = AccessTokens(token, self._exchange)
        self._http.auth = TokenAuth(self._tokens)
        self._sdk_lock = threading.Lock()
        self._made_sdk: Sdk | None = None
        self._push_costs = PushCosts()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> LabelStudio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- access ------------------------------------------------------------------------------------

    def access_token(self) -> str:
        """A token that Label Studio accepts now, for use outside this class."""
        return self._tokens.access()

    def auth_headers(self) -> dict[str, str]:
        """The Authorization header for requests made elsewhere (pictures)."""
        return self._tokens.headers()

    def version(self) -> str:
        """Label Studio's version, such as "1.23.2"."""
        return text(self._sdk.versions.get().release)

    def greeting(self) -> server_facts.Greeting:
        """Its version and clock, asked without the token."""
        return server_facts.greet(self._http)

    def flags(self) -> dict[str, bool]:
        """Its feature flags, on or off; empty where it does not tell."""
        return server_facts.flags(self._http, self.auth_headers())

    def judgement(self, url: str) -> server_facts.Judgement:
        """Whether it would call a backend at this address and its webhook; nothing is made."""
        return server_facts.judge(self._http, url)

    def current_user(self) -> UserInfo:
        """The user our token belongs to."""
        user = self._sdk.users.whoami()
        return UserInfo(user_id=number(user.id), email=text(user.email))

    # -- projects and tasks ------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        """One project."""
        return project_info(self._sdk.projects.get(project_id))

    def projects_titled(self, title: str) -> list[ProjectInfo]:
        """The projects with exactly this title, oldest first, among the first 100 that contain it."""
        # Not iterated as the SDK would: it asks for a page past the last one, which answers 404.
        found: Sequence[Any] | None = self._sdk.projects.list(title=title, page_size=100, ordering="id").items
        projects = [project_info(each) for each in found or () if each.title == title]
        return sorted(projects, key=lambda project: project.project_id)

    def create_project(self, title: str, label_config: str, description: str = "") -> ProjectInfo:
        """Make a project in which predictions are shown to annotators."""
        made = self._sdk.projects.create(
            title=title, label_config=label_config, description=description, show_collab_predictions=True
        )
        return self.project(number(made.id))

    def update_project(self, project_id: int, **fields: Any) -> ProjectInfo:
        """Change fields of a project: title, description, label_config, show_collab_predictions,
        model_version, sampling.
        """
        self._sdk.projects.update(project_id, **fields)
        return self.project(project_id)

    def set_model_version(self, project_id: int, version: str) -> None:
        """Choose whose predictions annotators see: a backend's title (live) or a prediction version."""
        self._sdk.projects.update(project_id, model_version=version)

    def tasks(self, project_id: int, *, page_size: int = 1000, after: int = 0) -> Iterator[TaskInfo]:
        """All tasks with an id above `after`, by id, fetched page by page (0.4 s per 1000).

        Pages are asked for by id and not by number: tasks that come or go meanwhile shift nothing.
        """
        while True:
            page: Sequence[Any] | None = self._sdk.tasks.list(
                project=project_id,
                page_size=page_size,
                fields="task_only",
                include="id,data,is_labeled",
                resolve_uri=False,
                query=_tasks_above(after),
            ).items
            if not page:
                return
            for task in page:
                after = number(task.id)
                yield TaskInfo(after, task.data or {}, bool(getattr(task, "is_labeled", False)))

    def project_now(self, project_id: int) -> ProjectNow:
        """A project's title, configuration and totals (0.1 to 0.5 s)."""
        return read_project(self._http, project_id)

    def task_page(self, project_id: int, where: Where, size: int) -> Page:
        """The first tasks that match, with their annotations; see labelstudio.changes for what to ask."""
        return read_page(self._http, project_id, where, size)

    def import_tasks(self, project_id: int, data: Sequence[Mapping[str, Json]]) -> list[int]:
        """Make one task per mapping; returns their ids in the same order.

        Raises:
            LabelStudioError: also when fewer tasks were made than sent.
        """
        answer = self._sdk.projects.import_tasks(
            project_id,
            request=[{"data": dict(each)} for each in data],  # type: ignore[misc]
            return_task_ids=True,
            request_options=_patient(BULK_TIMEOUT_S),
        )
        ids = [number(each) for each in getattr(answer, "task_ids", None) or []]
        if len(ids) != len(data):
            raise LabelStudioError(
                f"Label Studio made {len(ids)} of the {len(data)} tasks sent to project {project_id}.",
                todo="Compare the project's tasks with what was sent before importing again.",
            )
        return ids

    def create_local_storage(self, project_id: int, path: str, title: str) -> int:
        """Let the project serve pictures from a folder below Label Studio's document root; its id."""
        made = self._sdk.import_storage.local.create(
            project=project_id, path=path, title=title, use_blob_urls=True
        )
        return number(made.id)

    def local_storages(self, project_id: int) -> list[LocalStorageInfo]:
        """The project's local-files storages."""
        found = self._sdk.import_storage.local.list(project=project_id)
        return [LocalStorageInfo(number(each.id), text(each.path), text(each.title)) for each in found]

    # -- predictions -------------------------------------------------------------------------------

    def push_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Json]]) -> int:
        """Store predictions (each with task, result, score, model_version); returns how many.

        One by one or in one bulk request, whichever was cheaper in this project before: Label Studio may
        recount the whole project at each bulk request. Repeating a push stores duplicates.

        Raises:
            LabelStudioError: also when Label Studio says that it stored fewer than were sent.
        """
        if not predictions:
            return 0
        number_sent, began = len(predictions), time.monotonic()
        if self._push_costs.one_by_one(project_id, number_sent):
            stored = self._push_each(project_id, predictions)
            self._push_costs.note_each(number_sent, time.monotonic() - began)
        else:
            stored = self._push_bulk(project_id, predictions)
            self._push_costs.note_bulk(project_id, number_sent, time.monotonic() - began)
        if stored != len(predictions):
            raise LabelStudioError(
                f"Label Studio stored {stored} of the {len(predictions)} predictions "
                f"sent to project {project_id}.",
                why="It drops predictions that do not fit the labelling configuration without naming them.",
                todo="Compare the candidates' format with the project's labelling configuration.",
            )
        return stored

    def _push_each(self, project_id: int, predictions: Sequence[Mapping[str, Json]]) -> int:
        for stored, prediction in enumerate(predictions):
            try:
                self._sdk.predictions.create(**prediction)
            except LabelStudioError as error:
                raise LabelStudioError(
                    f"{stored} of {len(predictions)} predictions were stored in project {project_id}, then "
                    f"the one for task {prediction.get('task')} was not: {error.what}",
                    why=error.why,
                    todo=error.todo,
                ) from error
        return len(predictions)

    def _push_bulk(self, project_id: int, predictions: Sequence[Mapping[str, Json]]) -> int:
        answer = self._sdk.projects.import_predictions(
            project_id,
            request=list(predictions),  # type: ignore[arg-type]
            request_options=_patient(BULK_TIMEOUT_S),
        )
        return number(answer.created)

    def predictions_by_version(self, project_id: int) -> dict[str, int]:
        """Model version -> how many predictions the project holds of it."""
        found = self._http.get(f"api/projects/{int(project_id)}/model-versions/").json()
        if not isinstance(found, dict):
            raise LabelStudioError(
                f"Label Studio answered {found!r:.60} where it counts predictions by version."
            )
        return {version: number(count) for version, count in found.items() if count}

    def delete_predictions(self, project_id: int, version: str) -> int:
        """Delete every prediction of one version, in one transaction of Label Studio's; returns how many.

        Whoever has a task open that shows such a prediction cannot submit it any more (400): the submit names
        the prediction that it began with.
        """
        answer = self._http.request(
            "DELETE",
            f"api/projects/{int(project_id)}/model-versions/",
            json={"model_version": version},
            timeout=BULK_TIMEOUT_S,
        ).json()
        return number(answer.get("deleted_predictions") if isinstance(answer, dict) else None)

    # -- backends and webhooks ---------------------------------------------------------------------

    def backends(self, project_id: int) -> list[BackendInfo]:
        """The project's ML backends. Label Studio calls each one's /health and /setup for this."""
        found = self._sdk.ml.list(project=project_id, request_options=_patient(CALLBACK_TIMEOUT_S))
        return [backend_info(each) for each in found]

    def add_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        *,
        user: str = "",
        password: str = "",
        is_interactive: bool = False,
    ) -> BackendInfo:
        """Connect an ML backend; Label Studio calls it at once and makes a webhook to `url`/webhook.

        Raises:
            LabelStudioError: also when Label Studio may not call the address (SSRF protection).
        """
        made = self._sdk.ml.create(
            project=project_id,
            url=url,
            title=title,
            is_interactive=is_interactive,
            request_options=_patient(CALLBACK_TIMEOUT_S),
            **_basic_auth(user, password),
        )
        return backend_info(made)

    def update_backend(
        self,
        backend_id: int,
        project_id: int,
        url: str,
        title: str,
        *,
        user: str = "",
        password: str = "",
        is_interactive: bool = False,
    ) -> BackendInfo:
        """Change a backend. Label Studio leaves the webhook at the old address."""
        changed = self._sdk.ml.update(
            backend_id,
            project=project_id,
            url=url,
            title=title,
            is_interactive=is_interactive,
            request_options=_patient(CALLBACK_TIMEOUT_S),
            **_basic_auth(user, password),
        )
        return backend_info(changed)

    def delete_backend(self, backend_id: int) -> None:
        """Disconnect a backend. Label Studio leaves its webhook behind."""
        self._sdk.ml.delete(backend_id)

    def train(self, backend_id: int) -> None:
        """Press Start Training. Label Studio answers 200 whatever its call to the backend gave."""
        self._sdk.ml.train(backend_id, request_options=_patient(CALLBACK_TIMEOUT_S))

    def webhooks(self, project_id: int) -> list[WebhookInfo]:
        """The project's webhooks."""
        return [webhook_info(each) for each in self._sdk.webhooks.list(project=str(project_id))]

    def add_webhook(
        self, project_id: int, url: str, *, headers: Mapping[str, str] | None = None
    ) -> WebhookInfo:
        """Send every event of the project to `url`, with these headers (our secret)."""
        made = self._sdk.webhooks.create(
            project=project_id,
            url=url,
            headers=dict(headers or {}),
            send_payload=True,
            send_for_all_actions=True,
            is_active=True,
        )
        return webhook_info(made)

    def update_webhook(
        self, webhook_id: int, url: str, *, headers: Mapping[str, str] | None = None
    ) -> WebhookInfo:
        """Point a webhook to `url` with these headers, all events, active."""
        changed = self._sdk.webhooks.update(
            webhook_id,
            url=url,
            headers=dict(headers or {}),
            send_payload=True,
            send_for_all_actions=True,
            is_active=True,
        )
        return webhook_info(changed)

    def delete_webhook(self, webhook_id: int) -> None:
        """Remove a webhook."""
        self._sdk.webhooks.delete(webhook_id)

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _sdk(self) -> Sdk:
        """The SDK on our HTTP client. It is imported late: that takes over a second."""
        with self._sdk_lock:
            if self._made_sdk is None:
                from label_studio_sdk import LabelStudio as Sdk

                # Our client puts the token on each request; the SDK gets a placeholder, so that it
                # neither keeps the token nor picks one up from the environment.
                self._made_sdk = Sdk(  # type: ignore[no-untyped-call]
                    base_url=self.url, api_key="placeholder", httpx_client=self._http, max_retries=0
                )
            return self._made_sdk

    def _exchange(self, token: str) -> str:
        answer = self._http.post("api/token/refresh/", json={"refresh": token}, auth=httpx.Auth()).json()
        access = answer.get("access") if isinstance(answer, dict) else None
        if not isinstance(access, str):
            raise LabelStudioError("Label Studio answered POST /api/token/refresh/ without an access token.")
        return access


def _checked_url(url: str) -> str:
    """The address with a trailing slash: without it the path of a sub-path installation gets lost."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise LabelStudioError(
            f"Label Studio's address {url!r} is not of the form http://host:port or https://host.",
            todo="Give the address under which Label Studio opens in a browser.",
        )
    return str(parsed).rstrip("/") + "/"


def _tasks_above(task_id: int) -> str:
    condition = {
        "filter": "filter:tasks:id",
        "operator": "greater",
        "type": "Number",
        "value": task_id,
    }
    return json.dumps(
        {"filters": {"conjunction": "and", "items": [condition]}, "ordering": ["tasks:id"]},
        separators=(",", ":"),
    )


def _patient(seconds: float) -> RequestOptions:
    return {"timeout": seconds, "max_retries": 0}


def _basic_auth(user: str, password: str) -> dict[str, Any]:
    if not user:
        return {"auth_method": "NONE"}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
