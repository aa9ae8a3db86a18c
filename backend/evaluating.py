"""Evaluating versions on the held-out tasks of this moment, in this process; each evaluation is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.metadata import version as version_of
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from backend.sampling import base_model_source
from backend.service import Service
from backend.snapshot import snapshot
from illume_plugin.errors import BadRequestError, ImageError
from illume_plugin.evaluated import metrics_of
from illume_plugin.evaluation_documents import EvaluationDocument, EvaluationDocuments, hash_of
from illume_plugin.fit_rate import TaskSums, fit_rate
from illume_plugin.images import pin
from illume_plugin.quantization import Quantization
from illume_plugin.store import judgements
from illume_plugin.types import BASE_VERSION, JudgedTask, Metric, Origin, Task, Verdict

if TYPE_CHECKING:
    from illume_plugin.evaluation import Extent

log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates versions of one project on the same held-out tasks.

    Args:
        progress: told the version, the tasks done and the tasks in all.
    """

    def __init__(
        self,
        service: Service,
        project_id: int,
        *,
        extent: Extent,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._service = service
        self._project_id = project_id
        self._extent = extent
        self._progress = progress
        self.documents = EvaluationDocuments(service.registry)
        self.held_out = snapshot(service, project_id).held_out
        if not self.held_out:
            raise BadRequestError(
                f"Project {project_id} has no held-out tasks.",
                why="They are drawn by a hash of picture, question and answer; it has too few tasks.",
                todo="Import more tasks, or raise ILLUME_HELD_OUT_FRACTION.",
            )
        self.tasks_hash = hash_of(self.held_out)

    def evaluation(self, version: str) -> EvaluationDocument:
        """The kept evaluation of a version on these tasks to this extent, or a new one."""
        kept = self.documents.find(self._project_id, version, self.tasks_hash)
        return kept if kept and kept.config == self._config() else self.evaluate(version)

    def evaluate(self, version: str) -> EvaluationDocument:
        """Evaluate a version and keep the document.

        Raises:
            NotFoundError, ModelError: there is no such version, or it is damaged.
            BadRequestError: no held-out task has a picture that can be had.
        """
        from illume_plugin.base_model import load_base_model
        from illume_plugin.evaluation import evaluate_tasks

        settings = self._service.settings
        with self._folder(version) as folder, TemporaryDirectory(prefix="illume-evaluating-") as pinned:
            tasks, images = self._with_pictures(Path(pinned))
            base = load_base_model(
                base_model_source(settings),
                device=settings.device,
                dtype=settings.dtype,
                quantization=settings.quantization,
                trust_remote_code=settings.trust_remote_code,
            )
            if folder:
                base.adapters.load(version, folder)
            found = evaluate_tasks(
                base,
                version if folder else None,
                tasks,
                images,
                extent=self._extent,
                progress=lambda done, total: self._progress(version, done, total),
            )
        metrics, outcomes = metrics_of(found, seed=self._extent.seed)
        document = EvaluationDocument(
            project_id=self._project_id,
            version=version,
            tasks_hash=self.tasks_hash,
            held_out=len(self.held_out),
            config=self._config(),
            libraries={
                name: version_of(name) for name in ("illume-label-studio", "torch", "transformers", "peft")
            },
            metrics=metrics | self._fit_rate(version),
            tasks=tuple(found),
            created_at=self._service.clock(),
            outcomes=outcomes,
        )
        self.documents.put(document)
        return document

    def _config(self) -> dict[str, object]:
        from illume_plugin.evaluation import DRAWS

        settings = self._service.settings
        quantised = settings.quantization is not Quantization.NONE  # else as in documents from before
        return {
            "extent": asdict(self._extent),
            "draws": DRAWS.hash,
            "held_out_fraction": settings.held_out_fraction,
            "base_model": settings.base_model,
            "dtype": settings.dtype,
            **({"quantization": settings.quantization.value} if quantised else {}),
        }

    def _folder(self, version: str) -> AbstractContextManager[Path | None]:
        if version == BASE_VERSION:
            return nullcontext()
        return self._service.registry.hold(self._project_id, version)

    def _with_pictures(self, pinned: Path) -> tuple[Sequence[JudgedTask], dict[str, Path]]:
        """Held-out tasks whose picture can be had, and these: the cache may drop one before it is read."""
        tasks, images = [], {}
        for task in self.held_out:
            wanted = Task(self._project_id, task.task_id, task.image, task.question, task.answer)
            try:
                images[task.image] = pin(self._service.images.fetch(wanted), pinned)
            except ImageError as error:
                log.warning("evaluated without task %d: %s", task.task_id, error)
                continue
            tasks.append(task)
        if not tasks:
            raise BadRequestError(
                f"No picture of the {len(self.held_out)} held-out tasks can be had.",
                todo="Run: illume doctor",
            )
        return tasks, images

    def _fit_rate(self, version: str) -> dict[str, Metric]:
        """Share of this version's shown candidates that people ticked, on all judged tasks."""
        with self._service.store.read() as conn:
            preferences = judgements.preferences_in(conn, self._project_id)
        shown: dict[int, list[bool]] = {}
        for one in preferences:
            if version in (one.version, one.shared_with) and one.origin is Origin.CANDIDATE:
                shown.setdefault(one.annotation_id, []).append(one.verdict is Verdict.FITS)
        sums = TaskSums.of((len(ticks), sum(ticks)) for ticks in shown.values())
        return {"fit_rate": fit_rate(sums)} if sums.shown else {}
