"""The retrain hook: when a run is due, and a run from snapshot to switch.

Every step can be repeated: a worker that takes over a dead one's run finds what is finished (the child's
result, the published adapter) and goes on from there.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from backend import trials
from backend.child import TrainingChild, until_it_ends
from backend.held_run import HEARTBEAT_S, HeldRun, StoppingError, lock_file
from backend.sampling import base_model_source
from backend.service import Service
from backend.settings import Settings
from backend.snapshot import refuse_unready, snapshot_with_sources
from backend.versions import clean_parent
from illume_plugin.dataset import content_of
from illume_plugin.errors import ConflictError, IllumeError, ImageError, RunError, UnavailableError
from illume_plugin.fault_points import point
from illume_plugin.gate import decide
from illume_plugin.gate_policy import GatePolicy
from illume_plugin.images import pin
from illume_plugin.lineage import Source
from illume_plugin.quantization import Quantization
from illume_plugin.store import judgements, lineage, projects, runs
from illume_plugin.training.config import TrainConfig
from illume_plugin.training.estimate import Pace
from illume_plugin.training.spec import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    ERROR_FILE,
    RESULT_FILE,
    RunResult,
    RunSpec,
    read_result,
    read_spec,
    write_spec,
)
from illume_plugin.types import (
    BASE_VERSION,
    AdapterMeta,
    GateDecision,
    GateVerdict,
    Run,
    RunState,
    Task,
    TrainingSet,
)

log = logging.getLogger(__name__)

#: Within a run's folder: the pictures that it learns from.
PICTURES_FOLDER = "pictures"


def due(service: Service, project_id: int) -> bool:
    """Whether so many preferences are new since the last run was asked for that another one is due.

    None is due during a trial: what it made would have to wait until people have decided.
    """
    wanted = service.settings.train_after
    if not wanted:
        return False
    with service.store.read() as conn:
        on_trial = projects.get(conn, project_id).challenger is not None
        if on_trial or runs.live_run(conn, project_id) is not None:
            return False
        since = runs.last_created_at(conn, project_id)
        return judgements.count_preferences(conn, project_id, since=since) >= wanted


class Retrain:
    """Carries out runs, one at a time, as the worker called `owner`."""

    def __init__(self, service: Service, *, owner: str, config: TrainConfig | None = None) -> None:
        self.service = service
        self.owner = owner
        self.config = config or service.settings.train_config()
        self.stopping = False

    def claim_and_run(self) -> Run | None:
        """Take the next run, if any, and carry it to its end; returns it as it ended."""
        store = self.service.store
        with store.write() as conn:
            run = runs.claim(conn, owner=self.owner, now=self.service.clock())
        if run is None:
            return None
        point("run.claimed")
        held = HeldRun(self.service, run, owner=self.owner, stopping=lambda: self.stopping)
        try:
            with held.kept():
                self._carry_out(held)
        except StoppingError:
            with store.write() as conn:
                runs.give_back(conn, run.run_id, owner=self.owner)
            log.info("run %d waits for the next worker", run.run_id)
        except ConflictError as error:
            log.warning("run %d: %s", run.run_id, error)
        except UnavailableError as error:
            # Nothing is wrong with the run: when its lease has run out it is taken up where it is.
            log.warning("run %d waits: %s", run.run_id, error)
        except IllumeError as error:
            self._fail(run, str(error))
        except Exception as error:
            # A run is a boundary: whatever goes wrong in it ends it, is told, and harms nothing else.
            log.exception("run %d", run.run_id)
            self._fail(run, f"{type(error).__name__}: {error}")
        with store.read() as conn:
            return runs.get(conn, run.run_id)

    def _fail(self, run: Run, reason: str) -> None:
        with self.service.store.write() as conn:
            cancelled = runs.cancel_requested(conn, run.run_id)
            state = RunState.CANCELLED if cancelled else RunState.FAILED
            reason = "cancelled" if cancelled else reason
            if self._can_go_on(run):
                reason = f"{reason.rstrip('.')}. It can go on: illume train --resume {run.run_id}"
            try:
                runs.finish(conn, run.run_id, state, owner=self.owner, now=self.service.clock(), error=reason)
            except ConflictError as error:
                log.warning("run %d: %s What went wrong here: %s", run.run_id, error, reason)
                return
        log.error("run %d of project %d %s: %s", run.run_id, run.project_id, state.value, reason)

    def _can_go_on(self, run: Run) -> bool:
        """Whether it has a checkpoint, and did not end by an error of its own, which would come again."""
        folder = run_folder(self.service.settings, run.run_id)
        return any((folder / CHECKPOINTS_FOLDER).glob("step-*")) and not (folder / ERROR_FILE).exists()

    def _carry_out(self, held: HeldRun) -> None:
        run = held.run
        folder = run_folder(self.service.settings, run.run_id)
        policy = self.service.settings.gate_limits()  # before the hours of training, not after them
        if policy.blind.enabled:
            trials.refuse_single_row(self.service, run.project_id)
        meta = self._published(run)
        result = read_result(folder) if (folder / RESULT_FILE).is_file() else None
        if result is None:
            spec = self._interrupted(run, folder) or self._begun(held, folder)
            write_spec(folder, spec)
            result = self._train(held, folder)
            point("run.trained")
        decision = decide(result.active, result.challenger, policy)
        if meta is None:
            meta = self._publish(held, result, decision, folder)
        self._switch(run, meta, result, decision, policy)
        self._tidy(run)

    def _tidy(self, run: Run) -> None:
        """Remove the folder of a run that is over, and those of earlier ones that could have been resumed."""
        with self.service.store.read() as conn:
            earlier = runs.recent(conn, run.project_id, limit=100)
        for each in earlier:
            if each.run_id <= run.run_id:
                shutil.rmtree(run_folder(self.service.settings, each.run_id), ignore_errors=True)
            if each.run_id < run.run_id:  # our own is held, and goes when it is let go
                lock_file(self.service.settings, each.run_id).unlink(missing_ok=True)
        self.service.registry.sweep()  # what a process left that died while it published

    def _interrupted(self, run: Run, folder: Path) -> RunSpec | None:
        """The run as it was begun, compared with what serves now; None where it cannot be gone on with."""
        if run.training_set is None or not (folder / CHECKPOINTS_FOLDER).is_dir():
            return None
        try:
            spec = read_spec(folder)
        except RunError as error:
            log.warning("run %d begins anew: %s", run.run_id, error)
            return None
        needed = (spec.parent_adapter, *spec.images.values())
        gone = [each for each in needed if each and not Path(each).exists()]
        same = (spec.training_set.content_hash, spec.base_model, spec.parent_version) == (
            run.training_set,
            base_model_source(self.service.settings),
            run.parent,
        )
        if gone or not same:
            why = f"{gone[0]} is gone" if gone else "its data or its base model is another one by now"
            log.warning("run %d begins anew: %s", run.run_id, why)
            return None
        active = self._active(run)
        return replace(spec, active_adapter=self._folder(run.project_id, active), active_version=active)

    def _published(self, run: Run) -> AdapterMeta | None:
        found = self.service.registry.versions(run.project_id)
        return next((meta for meta in found if meta.config.get("run_id") == run.run_id), None)

    def _snapshot(self, held: HeldRun) -> tuple[TrainingSet, dict[str, Path]]:
        """Freeze what there is to learn from, and fetch the pictures it needs.

        Raises:
            RunError: there is nothing to learn from; the reason is in it.
        """
        self.service.apply_events()
        run = held.run
        without: set[int] = set()
        while True:
            training_set, sources = snapshot_with_sources(
                self.service, run.project_id, without=without, objectives=self.config.objectives
            )
            refuse_unready(self.service, run.project_id, training_set, self.config.objectives)
            pictures, lost = self._pictures(held, training_set)
            if not lost:
                break
            without |= lost
        self._keep(held, training_set, sources)
        return training_set, pictures

    def _keep(self, held: HeldRun, training_set: TrainingSet, sources: Sequence[Source]) -> None:
        run = held.run
        content = content_of(training_set)
        clean = clean_parent(self.service, run.project_id) if run.without_deleted else None
        with self.service.store.write() as conn:
            held.hold(conn)
            now = self.service.clock()
            parent = clean or projects.get(conn, run.project_id).active_version
            runs.keep_training_set(conn, training_set.content_hash, run.project_id, content, now=now)
            lineage.keep(conn, run.run_id, run.project_id, sources)
            runs.note(conn, run.run_id, training_set=training_set.content_hash, parent=parent)
        point("run.snapshot_kept")

    def _begun(self, held: HeldRun, folder: Path) -> RunSpec:
        """The run on what there is to learn from now, in an empty folder."""
        run = held.run
        shutil.rmtree(folder, ignore_errors=True)
        training_set, pictures = self._snapshot(held)
        with self.service.store.read() as conn:
            parent = runs.get(conn, run.run_id).parent
        active = self._active(run)
        return RunSpec(
            base_model=base_model_source(self.service.settings),
            device=self.service.settings.device,
            dtype=self.service.settings.dtype,
            quantization=self.service.settings.quantization,
            trust_remote_code=self.service.settings.trust_remote_code,
            parent_adapter=self._folder(run.project_id, parent),
            parent_version=parent,
            active_adapter=self._folder(run.project_id, active),
            active_version=active,
            training_set=training_set,
            images={image: str(path) for image, path in pictures.items()},
            config=self.config,
        )

    def _train(self, held: HeldRun, folder: Path) -> RunResult:
        with self._adapters(held.run.project_id, read_spec(folder)):
            return until_it_ends(folder, partial(self._trained, held, folder))

    def _trained(self, held: HeldRun, folder: Path) -> RunResult:
        settings = self.service.settings
        threads, processes = settings.torch_threads, settings.train_processes
        with TrainingChild(folder, threads=threads, processes=processes, lock=held.lock) as child:
            while child.running():
                held.beat(child.progress())
                child.wait(HEARTBEAT_S)
        held.beat(child.progress())
        return child.result()

    @contextmanager
    def _adapters(self, project_id: int, spec: RunSpec) -> Iterator[None]:
        """Keep the adapters that a run begins with and is compared with on this machine until it is over."""
        with ExitStack() as held:
            for version in {spec.parent_version, spec.active_version} - {BASE_VERSION, ""}:
                held.enter_context(self.service.registry.hold(project_id, version))
            yield

    def _pace(self, meta: AdapterMeta, result: RunResult) -> Pace:
        """For the estimates of later runs."""
        return Pace(
            base_model=meta.base_model,
            batch_size=int(meta.config["batch_size"]),
            micro_batch_size=int(meta.config["micro_batch_size"]),
            step_s=result.step_s,
            other_s=max(result.seconds - result.step_s * result.steps, 0.0),
            peak_memory=result.peak_memory,
            quantization=str(meta.config.get("quantization", Quantization.NONE)),
        )

    def _active(self, run: Run) -> str:
        with self.service.store.read() as conn:
            return projects.get(conn, run.project_id).active_version

    def _folder(self, project_id: int, version: str) -> str | None:
        if version == BASE_VERSION:
            return None
        return str(self.service.registry.folder(project_id, version))

    def _pictures(self, held: HeldRun, training_set: TrainingSet) -> tuple[dict[str, Path], set[int]]:
        """(image URL -> local file, ids of tasks whose picture cannot be had).

        The files are pinned in the run's folder: the cache may drop a picture hours before it is read.
        """
        run = held.run
        kept = run_folder(self.service.settings, run.run_id) / PICTURES_FOLDER
        wanted = {record.task_id: record.image for record in training_set.records}
        found: dict[str, Path] = {}
        lost: set[int] = set()
        last = time.monotonic()
        for done, (task_id, image) in enumerate(wanted.items(), start=1):
            try:
                picture = self.service.images.fetch(Task(run.project_id, task_id, image, "", ""))
                found[image] = pin(picture, kept)
            except ImageError as error:
                log.warning("run %d goes on without task %d: %s", run.run_id, task_id, error)
                lost.add(task_id)
            if time.monotonic() - last > HEARTBEAT_S:
                last = time.monotonic()
                held.beat({"stage": "pictures", "step": done, "steps": len(wanted)})
        return found, lost

    def _publish(self, held: HeldRun, result: RunResult, decision: GateDecision, folder: Path) -> AdapterMeta:
        run = held.run
        with self.service.store.write() as conn:
            held.hold(conn)  # a version cannot be taken back
            noted = runs.get(conn, run.run_id)
        spec = read_spec(folder)  # of a run that was resumed not as the settings are now
        config = spec.config
        return self.service.registry.publish(
            run.project_id,
            folder / ADAPTER_FOLDER,
            parent=noted.parent,
            base_model=self.service.settings.base_model,
            base_model_hash=result.base_model_hash,
            training_set=noted.training_set or "",
            config={
                **config.to_json(),
                "quantization": spec.quantization.value,
                "run_id": run.run_id,
            },
            seed=config.seed,
            metrics={
                "challenger": asdict(result.challenger)["metrics"],
                "active": asdict(result.active)["metrics"],
                "gate": decision.verdict.value,
            },
            versions=result.versions,
            created_at=self.service.clock(),
        )

    def _switch(
        self, run: Run, meta: AdapterMeta, result: RunResult, decision: GateDecision, policy: GatePolicy
    ) -> None:
        """End the run and, if the gate says so, let the new version serve or try it: one transaction."""
        if decision.verdict is GateVerdict.PROMOTE or policy.blind.tries(decision):
            # Loads it beside the old one: an adapter that cannot be served is never switched to.
            with self.service.engine.adapters.using(run.project_id, meta.version):
                pass
        report: dict[str, Any] = {
            "policy": asdict(policy),
            "active": {name: asdict(metric) for name, metric in result.active.metrics.items()},
            "challenger": {name: asdict(metric) for name, metric in result.challenger.metrics.items()},
            "rows": result.rows,
            "steps": result.steps,
            "seconds": result.seconds,
            "notes": list(result.notes),
            "pace": asdict(self._pace(meta, result)),
        }
        with self.service.store.write() as conn:
            now = self.service.clock()
            state, told = trials.let_in(conn, run, meta.version, decision, policy.blind, now=now)
            report["reasons"] = [*told, *decision.reasons]
            runs.finish(
                conn, run.run_id, state, owner=self.owner, now=now, version=meta.version, report=report
            )
            point("switch.before_commit")
        point("switch.after_commit")
        log.info(
            "run %d of project %d: %s %s (%s)",
            run.run_id,
            run.project_id,
            meta.version,
            decision.verdict.value,
            " ".join(decision.reasons),
        )


def run_folder(settings: Settings, run_id: int) -> Path:
    """Where a run's files are until it is over, and longer where it can be resumed."""
    return settings.data_dir / "runs" / f"run-{run_id:06d}"
