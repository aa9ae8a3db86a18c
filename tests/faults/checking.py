"""What must be true when everything runs again, and has had time to heal."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from live.test_reconcile_live import in_order
from sqlalchemy import func, select

from faults.patience import Awake
from faults.world import World
from illume_plugin.errors import IllumeError
from illume_plugin.preferences import preferences_of, read_annotation
from illume_plugin.store import candidates, intake, judgements, projects, runs
from illume_plugin.store.tables import annotations, candidate_sets, events, leases, preferences
from illume_plugin.types import Preference, RunState

#: Patience with healing: what was shortened heals within seconds. Seconds of running time.
HEALS_WITHIN_S = 180.0
#: Beginnings of the names that unfinished files and folders have.
UNFINISHED = (".staging-", ".fetching-", ".draft-", ".restoring-", ".result", ".spec")


@dataclass
class Findings:
    """What was found after a round; it is well where `problems` is empty.

    Attributes:
        annotations: in Label Studio.
        lost: annotations of Label Studio that we lack, or hold otherwise.
        doubled: annotations that we hold and Label Studio does not, or twice.
        predictions_twice: predictions of one task and version that Label Studio holds beyond the first.
        runs: state -> runs.
        unfinished: files that a dead process left; what removes them is tried at the end of a chapter.
    """

    annotations: int = 0
    preferences: int = 0
    lost: int = 0
    doubled: int = 0
    predictions: int = 0
    predictions_twice: int = 0
    versions: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    healed_in_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Truth:
    """What Label Studio says of the project."""

    def __init__(self, world: World) -> None:
        self.tasks = world.people.export()
        self.said = {
            one["id"]: {"task": task["id"], **one} for task in self.tasks for one in task["annotations"]
        }
        held = [preferences_of(read_annotation(world.project_id, one)) for one in self.said.values()]
        self.preferences = in_order([each for some in held for each in some])


def stored(world: World) -> list[Preference]:
    with world.store.read() as conn:
        return in_order(judgements.preferences_in(conn, world.project_id))


def healed(world: World) -> str:
    """What is not yet as it must be; nothing when all is."""
    try:
        return next(_unhealed(world), "")
    except (IllumeError, httpx.HTTPError) as error:
        return f"{type(error).__name__}: {error}"[:300]


def _unhealed(world: World) -> Iterator[str]:
    if not world.answers():
        yield "the backend does not answer"
    with world.store.read() as conn:
        waiting = conn.execute(select(func.count()).where(events.c.applied_at.is_(None))).scalar_one()
        live = runs.live_run(conn, world.project_id)
        project = projects.get(conn, world.project_id)
        held = judgements.digests(conn, world.project_id)
        tasks = set(intake.task_ids(conn, world.project_id, 0, 2**62))
        judged = judgements.judged_tasks(conn, world.project_id)
        key = {"project_id": world.project_id, "version": project.active_version}
        sets = conn.execute(select(candidate_sets).filter_by(**key)).all()
        told = set(candidates.problems(conn, world.project_id, version=project.active_version))
    if waiting:
        yield f"{waiting} events are not applied"
    if live is not None:
        yield f"run {live.run_id} is {live.state.value}: {live.progress.get('stage')}"
    truth = Truth(world)
    if set(held) != set(truth.said):
        yield f"annotations {sorted(set(held) ^ set(truth.said))[:5]} differ"
    if tasks != {task["id"] for task in truth.tasks}:
        yield "tasks differ"
    if stored(world) != truth.preferences:
        yield "preferences differ"
    # of which the model says nothing usable, that is told, and they open all the same
    if lacking := tasks - judged - told - {row.task_id for row in sets}:
        yield f"{len(lacking)} unjudged tasks have no candidates of {project.active_version}"
    if unpushed := {row.task_id for row in sets if row.pushed_at is None} & (tasks - judged):
        yield f"{len(unpushed)} candidate sets are not in Label Studio"


def check(world: World, *, interrupted: int) -> Findings:
    """Wait until all is healed, and look at everything.

    Args:
        interrupted: deaths and failures after which a push may be repeated: each may leave Label Studio with
            one prediction of a task too many.
    """
    found, awake = Findings(), Awake()

    def well() -> bool:
        awake.look()
        return not healed(world)

    if not world.until(well, HEALS_WITHIN_S, look_s=0.5):
        found.problems.append(f"not healed: {healed(world)}")
    found.healed_in_s = round(awake.look(), 1)
    _compare(world, found)
    _candidates(world, found)
    _predictions(world, found, interrupted)
    _runs(world, found)
    _versions(world, found)
    _leases(world, found)
    _serving(world, found)
    found.unfinished = sorted(path.name for path in unfinished(world))
    found.problems += [f"broken while it served: {one}" for one in world.broken]
    return found


def _compare(world: World, found: Findings) -> None:
    truth, ours = Truth(world), stored(world)
    with world.store.read() as conn:
        held = judgements.digests(conn, world.project_id)
        rows = conn.execute(
            select(annotations.c.annotation_id).filter_by(project_id=world.project_id, deleted=False)
        ).scalars()
        twice = [number for number, count in Counter(rows).items() if count > 1]
    by_annotation, theirs = _grouped(ours), _grouped(truth.preferences)
    found.annotations, found.preferences = len(truth.said), len(truth.preferences)
    found.lost = sum(
        number not in held or by_annotation.get(number) != theirs.get(number) for number in truth.said
    )
    found.doubled = len(twice) + len(set(held) - set(truth.said))
    if found.lost or found.doubled or ours != truth.preferences:
        found.problems.append(f"{found.lost} annotations lost, {found.doubled} doubled")


def _grouped(some: list[Preference]) -> Mapping[int, list[Preference]]:
    grouped: dict[int, list[Preference]] = {}
    for one in some:
        grouped.setdefault(one.annotation_id, []).append(one)
    return grouped


def _candidates(world: World, found: Findings) -> None:
    with world.store.read() as conn:
        rows = conn.execute(select(candidate_sets)).all()
        doubled = conn.execute(
            select(func.count())
            .select_from(preferences)
            .group_by(preferences.c.annotation_id, preferences.c.position, preferences.c.text)
            .having(func.count() > 1)
        ).all()
    identities = Counter((row.project_id, row.task_id, row.version, row.plan) for row in rows)
    found.problems += [f"candidates twice: {one}" for one, count in identities.items() if count > 1]
    found.problems += [f"a preference is there {row[0]} times" for row in doubled]


def _predictions(world: World, found: Findings, interrupted: int) -> None:
    """Label Studio keeps what it is given twice; that happens where a process died between push and note."""
    given = world.people.call("GET", "/api/predictions/", params={"project": world.project_id})
    counted = Counter((one["task"], one["model_version"]) for one in given)
    found.predictions = len(given)
    found.predictions_twice = sum(count - 1 for count in counted.values())
    worst = max(counted.values(), default=1) - 1
    if worst > interrupted:
        found.problems.append(f"a task has {worst} predictions too many after {interrupted} interruptions")


def _runs(world: World, found: Findings) -> None:
    with world.store.read() as conn:
        recent = runs.recent(conn, world.project_id, limit=1000)
    found.runs = dict(Counter(run.state.value for run in recent))
    for run in recent:
        # killed twice at the same place it waits for a person, and says so
        if run.state is RunState.FAILED and "with code -9" not in str(run.error):
            found.problems.append(f"run {run.run_id} failed: {run.error}")
        if run.state in (RunState.PROMOTED, RunState.HELD) and not run.version:
            found.problems.append(f"run {run.run_id} ended without a version")


def _versions(world: World, found: Findings) -> None:
    """Every version is whole, and each run has published one at most."""
    metas = world.registry.versions(world.project_id)
    found.versions = len(metas)
    for meta in metas:
        try:
            world.registry.verify(world.project_id, meta.version)
        except IllumeError as error:
            found.problems.append(f"{meta.version} is broken: {error}")
        if world.light:
            _check_light(world, meta.version, meta.training_set, found)
    made = Counter(meta.config.get("run_id") for meta in metas)
    found.problems += [
        f"run {run_id} has published {count} versions" for run_id, count in made.items() if count > 1
    ]


def _check_light(world: World, version: str, training_set: str, found: Findings) -> None:
    """A run that was broken off and gone on with has made every step once, on its own data."""
    with world.registry.hold(world.project_id, version) as folder:
        made = json.loads((folder / "adapter_model.safetensors").read_text())
    if made != {"training_set": training_set, "steps": [1, 2, 3, 4, 5, 6]}:
        found.problems.append(f"{version} was made by {made}, its training set is {training_set[:12]}")


def _leases(world: World, found: Findings) -> None:
    """A lease is held by a process that lives, or has run out."""
    alive = {program.pid for program in world.programs}
    with world.store.read() as conn:
        held = conn.execute(select(leases)).all()
    for row in held:
        owner = int(row.owner.split(":")[1])
        if owner not in alive and row.until > time.time() + 1:
            found.problems.append(f"the lease {row.name!r} of dead process {owner} has not run out")


def _serving(world: World, found: Findings) -> None:
    """/setup and a live /predict answer, both with the version that is active."""
    with world.store.read() as conn:
        active = projects.get(conn, world.project_id).active_version
        data = projects.task_data(conn, world.project_id)
    said = world.ask_setup()
    if said != active:
        found.problems.append(f"/setup says {said}, {active} is active")
    task_id, fields = next(iter(data.items()))
    body = {"project": f"{world.project_id}.1", "tasks": [{"id": task_id, "data": fields}], "params": {}}
    try:
        answer = world.own.post("/predict", json=body, timeout=120).raise_for_status().json()
    except httpx.HTTPError as error:
        found.problems.append(f"/predict: {error}")
        return
    (one,) = answer["results"]
    if one.get("model_version") != active or not one.get("result"):
        found.problems.append(f"/predict gives {str(one)[:200]}, {active} is active")


def unfinished(world: World) -> Iterator[Path]:
    """Files and folders that were being made, folders of runs that are over, and the locks of those."""
    with world.store.read() as conn:
        live = runs.live_run(conn, world.project_id)
    kept = f"run-{live.run_id:06d}" if live else ""
    for path in world.data_dir.rglob("*"):
        if path.name.startswith(UNFINISHED) or (path.parent.name in ("runs", "locks") and path.name != kept):
            yield path


def grow_old(world: World, seconds: float) -> int:
    """Make what dead processes left look as if it had lain there for so long; returns how much there is."""
    then = time.time() - seconds
    left = list(unfinished(world))
    for path in left:
        os.utime(path, (then, then))
    return len(left)
