"""What the status page of one process knows: the service, what is kept, and the views that are asked for."""

from __future__ import annotations

from flask import current_app

from backend.dashboard import queries, tallies
from backend.dashboard.access import Gatekeeper
from backend.dashboard.browsing import Which, page
from backend.dashboard.health import Doctor, health
from backend.dashboard.keeping import Kept
from backend.dashboard.pictures import Thumbnails
from backend.dashboard.views import (
    AnnotatorsView,
    Counts,
    CurveView,
    HealthView,
    ProjectView,
    RunView,
    TaskPage,
    VersionView,
)
from backend.service import Service
from backend.trials import Standing, standing
from illume_plugin.errors import NotFoundError
from illume_plugin.store import projects, runs
from illume_plugin.store.tables import tasks
from illume_plugin.types import Project, Switch

EXTENSION = "illume_dashboard"
RUNS = 50


class Board:
    """Views of the service, those that are dear to count kept for a moment."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.kept = Kept()
        self.gatekeeper = Gatekeeper(
            service.settings.dashboard_password, proxies=service.settings.trusted_proxies
        )
        self.doctor = Doctor(service)
        self.thumbnails = Thumbnails()

    def projects(self) -> list[Project]:
        """Every connected project."""
        with self.service.store.read() as conn:
            return projects.every(conn)

    def project(self, project_id: int) -> Project:
        """The project; NotFoundError where it is not connected."""
        with self.service.store.read() as conn:
            return projects.get(conn, project_id)

    def glance(self, project_id: int) -> ProjectView:
        """The project at a glance."""
        project = self.project(project_id)
        with self.service.store.read() as conn:
            live = runs.live_run(conn, project_id)
            until = queries.worker_until(conn, project_id)
        return ProjectView(
            project_id,
            project.title,
            project.active_version,
            self.service.settings.train_after,
            self.counts(project),
            queries.run_view(live) if live else None,
            until if until and until > self.service.clock() else None,
        )

    def counts(self, project: Project) -> Counts:
        """How far the project is, kept for a moment."""

        def count() -> Counts:
            with self.service.store.read() as conn:
                return queries.counts(conn, project, self.service.sampler.key(project))

        return self.kept.get(("counts", project.project_id, project.adapters), count)

    def curve(self, project_id: int) -> CurveView:
        """Fit rates and learning curve, kept for a moment."""

        def count() -> CurveView:
            with self.service.store.read() as conn:
                return tallies.curve(conn, project_id)

        self.project(project_id)
        return self.kept.get(("curve", project_id), count)

    def trial(self, project_id: int) -> Standing | None:
        """The trial that goes on, or the last one, kept for a moment."""
        return self.kept.get(("trial", project_id), lambda: standing(self.service, project_id))

    def annotators(self, project_id: int) -> AnnotatorsView:
        """The annotators, kept for a moment."""

        def count() -> AnnotatorsView:
            with self.service.store.read() as conn:
                return tallies.annotators(conn, project_id)

        self.project(project_id)
        return self.kept.get(("annotators", project_id), count)

    def runs(self, project_id: int) -> list[RunView]:
        """The newest runs, newest first."""
        self.project(project_id)
        with self.service.store.read() as conn:
            return queries.recent_runs(conn, project_id, limit=RUNS)

    def run(self, project_id: int, run_id: int) -> RunView:
        """One run of the project; NotFoundError where it has none of this number."""
        with self.service.store.read() as conn:
            run = runs.get(conn, run_id)
        if run.project_id != project_id:
            raise NotFoundError(f"Project {project_id} has no run {run_id}.")
        return queries.run_view(run)

    def versions(self, project_id: int) -> tuple[VersionView, ...]:
        """Every version, newest first."""
        project = self.project(project_id)
        rates = {one.version: one for one in self.curve(project_id).versions}
        key = ("versions", project_id, project.active_version)
        return self.kept.get(key, lambda: queries.version_views(self.service, project, rates))

    def switches(self, project_id: int) -> tuple[Switch, ...]:
        """The newest changes of the serving version."""
        with self.service.store.read() as conn:
            return queries.recent_switches(conn, project_id)

    def tasks(
        self,
        project_id: int,
        *,
        version: str | None = None,
        which: Which = Which.ALL,
        after: int | None = None,
        before: int | None = None,
    ) -> TaskPage:
        """A page of tasks with candidates: of a version, or as people saw them or would see them now."""
        project = self.project(project_id)
        with self.service.store.read() as conn:
            return page(
                conn,
                self.service,
                project,
                version=version,
                which=which,
                after=after,
                before=before,
            )

    def picture(self, project_id: int, task_id: int) -> bytes:
        """A task's picture, small, as WebP; NotFoundError where there is no such task."""
        project = self.project(project_id)
        key = {"project_id": project_id, "task_id": task_id, "deleted": False}
        with self.service.store.read() as conn:
            data = conn.execute(tasks.select().with_only_columns(tasks.c.data).filter_by(**key)).scalar()
        if data is None:
            raise NotFoundError(f"Project {project_id} has no task {task_id}.")
        return self.thumbnails.of(lambda: self.service.picture(project, task_id, data))

    def health(self) -> HealthView:
        """Health of every piece."""
        return health(self.service, self.doctor)


def board() -> Board:
    """The app's board."""
    found: Board = current_app.extensions[EXTENSION]
    return found
