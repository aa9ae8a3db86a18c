"""The adapter versions of a project as people deal with them: their states, who may serve, what is kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import Connection

from backend.service import Service
from illume_plugin.errors import BadRequestError, NotFoundError
from illume_plugin.lineage import Change, Source, ancestry, clean_ancestor, inherited
from illume_plugin.store import lineage, projects, runs, versions
from illume_plugin.types import BASE_VERSION, AdapterMeta, GateVerdict, Retirement, Switch

log = logging.getLogger(__name__)


class State(StrEnum):
    """What may be done with a version."""

    SERVES = "serves"
    READY = "ready"  # its weights are there and it may be promoted
    RETIRED = "retired"
    REMOVED = "removed"  # only its meta.json is left


@dataclass(frozen=True, slots=True)
class Standing:
    """One version as it stands.

    Attributes:
        departed: annotations that it or an adapter before it learnt from and that were deleted or changed.
        retirement: by whom and why it may not serve again.
        switches: when it came to serve, by whom and why.
    """

    meta: AdapterMeta
    state: State
    departed: Mapping[int, Change] = field(default_factory=dict)
    retirement: Retirement | None = None
    switches: tuple[Switch, ...] = ()

    @property
    def version(self) -> str:
        """Its number, such as `v0007`."""
        return self.meta.version

    @property
    def gate(self) -> str:
        """What the gate said: `promote`, `hold`, or nothing where it was not asked."""
        return str(self.meta.metrics.get("gate", ""))


@dataclass(frozen=True, slots=True)
class Origin:
    """What one version's own run learnt from; `run_id` is None where the run is not known."""

    meta: AdapterMeta
    run_id: int | None
    sources: tuple[Source, ...]


def standings(service: Service, project_id: int) -> list[Standing]:
    """Every version that was ever published, oldest first, the base model left out.

    Raises:
        NotFoundError: the project is not connected.
    """
    there, metas = _published(service, project_id)
    with service.store.read() as conn:
        active = projects.get(conn, project_id).active_version
        retired = versions.retired(conn, project_id)
        switches = versions.switched(conn, project_id)
        departed = _departed(conn, project_id, metas)
    parents = {meta.version: meta.parent for meta in metas.values()}
    return [
        Standing(
            meta,
            _state(version, active, there, retired),
            inherited(version, parents, departed),
            retired.get(version),
            tuple(one for one in switches if one.to_version == version),
        )
        for version, meta in metas.items()
    ]


def promote(service: Service, project_id: int, version: str, *, who: str, reason: str = "") -> str:
    """Let a version serve because a person says so; returns the version that served before.

    Args:
        who: the person.
        reason: why; needed where the gate said hold, and kept with the switch.

    Raises:
        BadRequestError: the gate said hold, and there is no reason.
        NotFoundError, ConflictError, ModelError: it cannot serve.
    """
    refuse_without_reason(service, project_id, version, reason)
    return service.switch(project_id, version, reason=reason or "promoted", who=who)


def refuse_without_reason(service: Service, project_id: int, version: str, reason: str) -> None:
    """Say no to an override of the gate that gives no reason.

    Raises:
        BadRequestError: the gate said hold, and there is no reason.
        NotFoundError, ConflictError, ModelError: the version cannot serve at all.
    """
    service.check_version(project_id, version)
    if version == BASE_VERSION or reason.strip():
        return
    if service.registry.meta(project_id, version).metrics.get("gate") == GateVerdict.HOLD.value:
        raise BadRequestError(
            f"The gate holds {version} back.",
            why="Whoever lets it serve all the same says why; it is kept with the switch.",
            todo=f'Say it with: illume promote {version} --reason "..."',
        )


def retire(service: Service, project_id: int, version: str, *, who: str, reason: str) -> Retirement:
    """Take a version out of service for good; its weights stay until `collect` removes them.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: it serves now, or it is the base model.
    """
    if version != BASE_VERSION:
        service.registry.meta(project_id, version)
    with service.store.write() as conn:
        return versions.retire(conn, project_id, version, who=who, reason=reason, now=service.clock())


def reinstate(service: Service, project_id: int, version: str) -> None:
    """Let a retired version serve again.

    Raises:
        NotFoundError: it is not retired, or its weights are not there any more.
    """
    service.registry.meta(project_id, version)
    with service.store.write() as conn:
        if not versions.reinstate(conn, project_id, version):
            raise NotFoundError(f"{version} of project {project_id} is not retired.")


def collectable(service: Service, project_id: int, *, keep: int) -> list[str]:
    """Versions whose weights `collect` would remove, oldest first.

    Kept are: the one that serves, the one on trial, the one a rollback would go back to, the parent of a live
    run, and of those not retired the newest `keep`.
    """
    there = [meta.version for meta in service.registry.versions(project_id)]
    with service.store.read() as conn:
        return _collectable(conn, project_id, there, keep)


def collect(service: Service, project_id: int, *, keep: int, who: str) -> list[str]:
    """Remove the weights of versions that nobody needs; returns them, oldest first.

    They are retired in one transaction first, so that none of them comes to serve while its files go.
    """
    reason = f"its weights were removed (the newest {keep} are kept)"
    # asked before the transaction: a store of adapters may be slow, and nobody else can write meanwhile
    there = [meta.version for meta in service.registry.versions(project_id)]
    with service.store.write() as conn:
        chosen = _collectable(conn, project_id, there, keep)
        for version in chosen:
            versions.retire(conn, project_id, version, who=who, reason=reason, now=service.clock())
    for version in chosen:
        service.registry.remove(project_id, version)
        log.info("project %d: the weights of %s are removed", project_id, version)
    service.registry.sweep()
    return chosen


def line_of(service: Service, project_id: int, version: str) -> list[Origin]:
    """The version and the adapters it goes back to, newest first, each with what its own run learnt from.

    Raises:
        NotFoundError: there was never such a version.
    """
    _, metas = _published(service, project_id)
    if version not in metas:
        raise NotFoundError(
            f"Project {project_id} has had no adapter version {version}.",
            why=f"Its versions are: {', '.join(metas) or 'none yet'}.",
        )
    parents = {meta.version: meta.parent for meta in metas.values()}
    with service.store.read() as conn:
        return [_origin(conn, metas[one]) for one in ancestry(version, parents)]


def versions_with(service: Service, project_id: int, annotation_id: int) -> dict[str, Source]:
    """Version -> an annotation as the version's own run saw it, for every version it had a part in."""
    _, metas = _published(service, project_id)
    with service.store.read() as conn:
        found = lineage.runs_with(conn, project_id, annotation_id)
    return {version: found[run] for version, meta in metas.items() if (run := run_of(meta)) in found and run}


def clean_parent(service: Service, project_id: int) -> str:
    """The nearest version at or before the active one that learnt from no deleted or changed annotation.

    Raises:
        NotFoundError: the project is not connected.
    """
    there, metas = _published(service, project_id)
    with service.store.read() as conn:
        active = projects.get(conn, project_id).active_version
        departed = _departed(conn, project_id, metas)
    parents = {meta.version: meta.parent for meta in metas.values()}
    return clean_ancestor(active, parents, departed, usable=there)


def run_of(meta: AdapterMeta) -> int | None:
    """The run that made a version; None for one that was not made by a run of ours."""
    found = meta.config.get("run_id")
    return found if isinstance(found, int) else None


def _published(service: Service, project_id: int) -> tuple[set[str], dict[str, AdapterMeta]]:
    """(versions whose weights are there, version -> meta of all that ever were, oldest first)."""
    there = service.registry.versions(project_id)
    known = [*service.registry.removed(project_id), *there]
    ordered = sorted(known, key=lambda meta: int(meta.version[1:]))
    return {meta.version for meta in there}, {meta.version: meta for meta in ordered}


def _departed(
    conn: Connection, project_id: int, metas: Mapping[str, AdapterMeta]
) -> dict[str, dict[int, Change]]:
    by_run = lineage.departed(conn, project_id)
    return {
        version: by_run[run] for version, meta in metas.items() if (run := run_of(meta)) in by_run and run
    }


def _state(version: str, active: str, there: set[str], retired: Mapping[str, Retirement]) -> State:
    if version == active:
        return State.SERVES
    if version not in there:
        return State.REMOVED
    return State.RETIRED if version in retired else State.READY


def _collectable(conn: Connection, project_id: int, there: list[str], keep: int) -> list[str]:
    retired = versions.retired(conn, project_id)
    live = runs.live_run(conn, project_id)
    needed = {
        *projects.get(conn, project_id).adapters,
        versions.previous_version(conn, project_id),
        live.parent if live else None,
    }
    usable = [version for version in there if version not in retired]
    kept = {*usable[max(0, len(usable) - keep) :], *needed}
    return [version for version in there if version not in kept]


def _origin(conn: Connection, meta: AdapterMeta) -> Origin:
    run_id = run_of(meta)
    return Origin(meta, run_id, tuple(lineage.of_run(conn, run_id)) if run_id is not None else ())
