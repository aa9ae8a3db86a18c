"""The engine behind every face (our Flask app, label-studio-ml's scaffold, worker, CLI): one per process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backend.data_folder import Using
from backend.inbox import Inbox
from backend.logs import quiet_libraries
from backend.predicting import Predictor
from backend.sampling import Engine, Sampled, Sampler, choice_of, sampling_plan
from backend.scheduling import Scheduler
from backend.settings import Settings
from illume_plugin.errors import (
    BadRequestError,
    NotFoundError,
    in_words,
)
from illume_plugin.fault_points import armed, point
from illume_plugin.images import ImageStore
from illume_plugin.label_config import LabelConfig, parse_label_config, read_task
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.preferences import observe_kept, strip_secrets
from illume_plugin.registry import is_version, open_registry
from illume_plugin.store import Store, events, projects, runs, versions
from illume_plugin.types import BASE_VERSION, Json, Project, Run, Wish

log = logging.getLogger(__name__)


class Service:
    """What the plugin does, free of HTTP."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        _say_if_armed()
        quiet_libraries()
        self.settings = settings
        self.clock = clock
        self.using = Using(settings.data_dir)
        self.store = Store(settings.store_url)
        self.store.migrate()
        self.inbox = Inbox(self.store)
        self.registry = open_registry(
            settings.adapters, settings.data_dir, cache_bytes=settings.adapters_cache_mb * 2**20
        )
        self.label_studio = self._label_studio()
        self.images = self.pictures_in(settings.data_dir / "pictures")
        self.engine = Engine(settings, self.registry)
        self.plan = sampling_plan(settings)
        self.sampler = Sampler(
            self.store, self.engine, self.images, self.plan, choice_of(settings), clock=clock
        )
        self.scheduler = Scheduler(self._sample, at_a_time=self._tasks_at_a_time)
        self.predictor = Predictor(
            lambda: self.settings,
            self.store,
            self.sampler,
            self.scheduler,
            parse=self._parse,
            take_note=self.setup,
            prepare=self.engine.adapters.prepare,
            clock=lambda: self.clock(),
        )
        self._connections = ExitStack()
        self._connections.callback(self.images.close)
        if self.label_studio is not None:
            self._connections.callback(self.label_studio.close)

    def _label_studio(self) -> LabelStudio | None:
        token = self.settings.label_studio_token
        return LabelStudio(self.settings.label_studio_url, token.get_secret_value()) if token else None

    def pictures_in(self, root: Path) -> ImageStore:
        """A store of pictures in a folder, with the rights and limits that the settings give."""
        return ImageStore(
            root,
            label_studio_url=self.settings.label_studio_url,
            auth_headers=self.label_studio.auth_headers if self.label_studio else None,
            allowed_hosts=self.settings.allowed_image_hosts,
            max_kept_bytes=self.settings.pictures_cache_mb * 2**20,
        )

    @property
    def keys(self) -> tuple[str, str]:
        """Keys of question and answer in the task data."""
        return self.settings.question_key, self.settings.answer_key

    def close(self) -> None:
        """End the sampling, give back all connections and the data folder."""
        self.scheduler.close()
        self._connections.close()
        self.store.close()
        self.using.close()

    def _sample(
        self,
        project: Project,
        data: Mapping[int, Mapping[str, Any]],
        wish: Wish | None,
        stop: Callable[[], bool],
    ) -> Sampled:
        if wish is not None:
            return self.sampler.sample_for_wish(project, data, wish, keys=self.keys, stop=stop)
        return self.sampler.sample(project, data, keys=self.keys, stop=stop)

    def _tasks_at_a_time(self) -> int:
        return max(1, self.engine.generator().rows // self.plan.size)

    def setup_check(self, label_config: str) -> None:
        """Raise LabelConfigError when the configuration lacks tags that we need."""
        self._parse(label_config)

    def picture(self, project: Project, task_id: int, data: Mapping[str, Any]) -> Path:
        """Fetch the picture of a task; returns the local file.

        Raises:
            TaskError: the task's data lacks something, or the picture cannot be used.
        """
        return self.images.fetch(
            read_task(self._parse(project.label_config), project.project_id, task_id, data)
        )

    # -- Label Studio's calls ---------------------------------------------------------------------------

    def setup(self, project_id: int, label_config: str | None) -> str:
        """Take note of a project's labelling configuration; returns the version that serves it.

        Raises:
            LabelConfigError: the configuration lacks tags that we need.
            NotFoundError: no configuration came along and the project is unknown.
        """
        if label_config:
            self._parse(label_config)
        with self.store.read() as conn:
            known = projects.find(conn, project_id)
            if known and (not label_config or label_config == known.label_config):
                return known.active_version
            if not label_config:
                projects.get(conn, project_id)
        with self.store.write() as conn:
            title = known.title if known else f"project {project_id}"
            projects.put(conn, project_id, title=title, label_config=label_config or "", now=self.clock())
            return projects.get(conn, project_id).active_version

    def _parse(self, label_config: str) -> LabelConfig:
        question, answer = self.keys
        return parse_label_config(label_config, question_key=question, answer_key=answer)

    def receive(self, body: Mapping[str, Any]) -> dict[str, Json]:
        """Keep one webhook event durably; a request for training becomes a run at once.

        Raises:
            BadRequestError: the body is no event of Label Studio.
            NotFoundError: training was asked for in a project that is not connected.
        """
        body = strip_secrets(body)
        observe_kept(body)  # raises on what will never be understood, while the sender can still be told
        if body.get("action") == "START_TRAINING":
            run, new = self.request_training(_project_of(body), trigger="label studio")
            return {"job": str(run.run_id), "new": new}
        return {"stored": self.inbox.keep(events.row(body, now=self.clock()))}

    def request_training(
        self, project_id: int, *, trigger: str, without_deleted: bool = False
    ) -> tuple[Run, bool]:
        """Queue a run, or point to the one that is live; returns (run, whether it is new).

        Args:
            without_deleted: go on from the nearest adapter that learnt from no deleted or changed annotation.
        """
        with self.store.write() as conn:
            run_id, new = runs.enqueue(
                conn, project_id, trigger=trigger, now=self.clock(), without_deleted=without_deleted
            )
            run = runs.get(conn, run_id)
        point("run.queued")
        return run, new

    def versions(self, project_id: int | None = None) -> list[str]:
        """Versions that can serve, newest last, of one project or of all together."""
        with self.store.read() as conn:
            ids = [project_id] if project_id is not None else [p.project_id for p in projects.every(conn)]
            gone = {one: versions.retired(conn, one) for one in ids}
        found = {
            meta.version
            for one in ids
            for meta in self.registry.versions(one)
            if meta.version not in gone[one]
        }
        return [BASE_VERSION, *sorted(found)]

    def check_version(self, project_id: int, version: str) -> None:
        """Make sure that a version can serve.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: it is retired.
            ModelError: its files are damaged.
        """
        if not is_version(version):
            raise NotFoundError(
                f"{in_words(version)} is not an adapter version.", why="Versions are v0001, v0002, ..."
            )
        with self.store.read() as conn:
            versions.refuse_retired(conn, project_id, version)
        if version != BASE_VERSION:
            self.registry.verify(project_id, version)

    def switch(self, project_id: int, version: str, *, reason: str, who: str = "") -> str:
        """Let `version` serve the project from now on; returns the version that served before.

        People promote through `backend.versions.promote`, which asks for a reason where the gate said no.

        Raises:
            NotFoundError: there is no such version or project.
            ConflictError: the version is retired.
            ModelError: the version's files are damaged.
        """
        self.check_version(project_id, version)
        with self.store.write() as conn:
            before = versions.switch(conn, project_id, version, reason=reason, who=who, now=self.clock())
            point("promote.before_commit")
        point("promote.after_commit")
        return before

    def previous_version(self, project_id: int) -> tuple[str, str]:
        """(active version, the one that served before it).

        Raises:
            BadRequestError: nothing served before.
        """
        with self.store.read() as conn:
            active = projects.get(conn, project_id).active_version
            previous = versions.previous_version(conn, project_id)
        if previous is None:
            raise BadRequestError(
                f"Project {project_id} has had no version before {active}.",
                why="There is nothing to go back to.",
            )
        return active, previous

    def rollback(self, project_id: int, *, reason: str, who: str = "") -> tuple[str, str]:
        """Go back to the version that served before; returns (from, to).

        Raises:
            BadRequestError: nothing served before.
        """
        active, previous = self.previous_version(project_id)
        self.switch(project_id, previous, reason=reason, who=who)
        return active, previous

    def apply_events(self) -> int:
        """Apply every event not applied yet; returns how many there were."""
        total = 0
        while True:
            with self.store.write() as conn:
                done = events.apply_pending(conn, now=self.clock())
                if done:
                    point("fold.before_commit")
            total += done
            if not done:
                return total
            point("fold.after_commit")


def _say_if_armed() -> None:
    if fault := armed():
        log.warning("ILLUME_FAULT is set: this process kills itself at %s", fault.name)


def _project_of(body: Mapping[str, Any]) -> int:
    project = body.get("project")
    project_id = project.get("id") if isinstance(project, Mapping) else None
    if not isinstance(project_id, int) or isinstance(project_id, bool):
        raise BadRequestError(f"The event names no project ({in_words(project_id)}).")
    return project_id
