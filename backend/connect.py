"""`illume connect`: what has to change in a Label Studio project, said first, then done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from backend.reconcile import Reconciler
from backend.service import Service
from backend.settings import BASIC_USER, SECRET_HEADER
from illume_plugin.errors import LabelConfigError, LabelStudioError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.labelstudio.records import BackendInfo, ProjectInfo
from illume_plugin.store import projects

#: Title of our backend in Label Studio; a project whose model version is this title asks us live.
TITLE = "ILLUME"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that `connect` does."""

    text: str
    apply: Callable[[], object]


class Connector:
    """Connects one Label Studio project to this backend.

    Args:
        annotations: take in the annotations that are there; without it they are left to their events.
    """

    def __init__(
        self, service: Service, label_studio: LabelStudio, project_id: int, *, annotations: bool = True
    ) -> None:
        self.service = service
        self.label_studio = label_studio
        self.project_id = project_id
        self.annotations = annotations
        self.url = service.settings.backend_url
        self.secret = service.settings.shared_secret()

    def changes(self, *, label_config: str | None = None) -> Iterator[Change]:
        """What is to be done, in order; each must be applied before the next one is asked for.

        Args:
            label_config: replace the project's labelling configuration by this one.

        Raises:
            LabelConfigError: the configuration does not fit and none was given to replace it.
            LabelStudioError: Label Studio cannot be reached or refuses.
        """
        project = self.label_studio.project(self.project_id)
        yield from self._label_config(project, label_config)
        if not project.show_collab_predictions:
            yield Change(
                "switch on 'Use predictions to prelabel' (without it annotators see no candidates)",
                lambda: self.label_studio.update_project(self.project_id, show_collab_predictions=True),
            )
        yield self._remember(project, label_config)
        yield from self._backend()
        yield from self._webhook()
        yield from self._model_version()
        yield self._read(project)

    def _label_config(self, project: ProjectInfo, wanted: str | None) -> Iterator[Change]:
        if wanted is not None and wanted.strip() != project.label_config.strip():
            kept = "" if project.task_number == 0 else " (annotations made so far are kept)"
            yield Change(
                f"replace the labelling configuration of project {self.project_id}{kept}",
                lambda: self.label_studio.update_project(self.project_id, label_config=wanted),
            )
            return
        try:
            self.service.setup_check(project.label_config)
        except LabelConfigError as error:
            raise LabelConfigError(
                error.what,
                why=error.why,
                todo=f"Run: illume connect --project {self.project_id} --label-config select "
                "(add --dry-run to see first what changes).",
            ) from error

    def _remember(self, project: ProjectInfo, label_config: str | None) -> Change:
        def keep() -> None:
            with self.service.store.write() as conn:
                projects.put(
                    conn,
                    self.project_id,
                    title=project.title,
                    label_config=label_config or project.label_config,
                    now=self.service.clock(),
                )

        return Change(f"remember project {self.project_id} ({project.title!r}) here", keep)

    def _backend(self) -> Iterator[Change]:
        access = {"user": BASIC_USER, "password": self.secret}
        ours = [b for b in self.label_studio.backends(self.project_id) if b.url.rstrip("/") == self.url]
        if not ours:
            yield Change(
                f"add the ML backend {TITLE} at {self.url}",
                lambda: self.label_studio.add_backend(
                    self.project_id, self.url, TITLE, is_interactive=True, **access
                ),
            )
        elif ours[0].state == "CO" and not ours[0].is_interactive:
            yield Change(
                f"let annotators ask the ML backend at {self.url} for new candidates (interactive)",
                self._updates(ours[0], access),
            )
        elif ours[0].state != "CO":
            yield Change(
                f"bring the ML backend at {self.url} up to date (state {ours[0].state}: {ours[0].error})",
                self._updates(ours[0], access),
            )

    def _updates(self, backend: BackendInfo, access: Mapping[str, str]) -> Callable[[], object]:
        return lambda: self.label_studio.update_backend(
            backend.backend_id, self.project_id, self.url, TITLE, is_interactive=True, **access
        )

    def _webhook(self) -> Iterator[Change]:
        address = f"{self.url}/webhook"
        headers = {SECRET_HEADER: self.secret}
        ours = [hook for hook in self.label_studio.webhooks(self.project_id) if hook.url == address]
        if not ours:
            yield Change(
                f"add the webhook to {address} with its secret",
                lambda: self.label_studio.add_webhook(self.project_id, address, headers=headers),
            )
        elif not (
            dict(ours[0].headers) == headers
            and ours[0].is_active
            and ours[0].send_payload
            and ours[0].send_for_all_actions
        ):
            yield Change(
                f"give the webhook to {address} its secret, all events, and switch it on",
                lambda: self.label_studio.update_webhook(ours[0].webhook_id, address, headers=headers),
            )
        for double in ours[1:]:
            yield Change(
                f"remove the second webhook to {address} (every event would come twice)",
                lambda hook=double: self.label_studio.delete_webhook(hook.webhook_id),  # type: ignore[misc]
            )

    def _model_version(self) -> Iterator[Change]:
        ours = [b for b in self.label_studio.backends(self.project_id) if b.url.rstrip("/") == self.url]
        title = ours[0].title if ours else TITLE
        if self.label_studio.project(self.project_id).model_version != title:
            yield Change(
                f"show annotators the predictions of {title} (the version that serves at the time)",
                lambda: self.label_studio.set_model_version(self.project_id, title),
            )

    def _read(self, project: ProjectInfo) -> Change:
        if not self.annotations:
            return Change(f"read the project's {project.task_number} tasks", self._read_tasks)
        return Change(
            f"read the project's {project.task_number} tasks and the annotations that are there",
            lambda: Reconciler(self.service, self.label_studio, self.project_id).round(),
        )

    def _read_tasks(self) -> None:
        rows = [(task.task_id, task.data) for task in self.label_studio.tasks(self.project_id)]
        with self.service.store.write() as conn:
            projects.put_tasks(conn, self.project_id, rows)


def check_reachable(label_studio: LabelStudio, project_id: int, url: str) -> None:
    """Make sure that Label Studio itself reaches us.

    Raises:
        LabelStudioError: it does not; its own words are in the error.
    """
    ours = [b for b in label_studio.backends(project_id) if b.url.rstrip("/") == url]
    if ours and ours[0].state != "CO":
        raise LabelStudioError(
            f"Label Studio does not get through to {url} "
            f"(state {ours[0].state}: {ours[0].error or 'no reason given'}).",
            why="It can neither show live candidates nor send annotations.",
            todo="Start it with `illume serve`, and set ILLUME_BACKEND_URL to where Label Studio reaches it.",
        )
