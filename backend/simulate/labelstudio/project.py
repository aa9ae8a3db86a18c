"""The simulation's own project in Label Studio: made once, known by a mark, removed on request.

The mark is drawn at random and kept in the results folder before anything is made; the project carries it
in its description. A project without this mark is never touched, whatever its title or number.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import label_config
from backend.simulate.labelstudio.door import SimulationDoor
from illume_plugin.errors import ConflictError, NotFoundError
from illume_plugin.labelstudio import ProjectInfo
from illume_plugin.training.spec import write_json

CLAIM_FILE = "label-studio.json"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a results folder remembers of its project.

    Attributes:
        url: Label Studio's address.
        mark: what the project's description holds.
        project_id: None until the project was found or made.
        removed: somebody had the project removed.
    """

    url: str
    title: str
    mark: str
    project_id: int | None = None
    removed: bool = False

    def owns(self, project: ProjectInfo) -> bool:
        """Whether the project is the one that was made for this folder."""
        return self.mark in project.description

    @property
    def description(self) -> str:
        """The project's description."""
        return (
            "Made by `illume simulate --label-studio`: drawn pictures, answered by simulated annotators. "
            f"The same command with --remove deletes it. [illume simulation {self.mark}]"
        )


def read_claim(out: Path) -> Claim | None:
    """What the folder remembers; None where it has never been to Label Studio."""
    path = out / CLAIM_FILE
    return Claim(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def own_project(door: SimulationDoor, out: Path, title: str) -> ProjectInfo:
    """The folder's project: found again, or made where there is none yet.

    Raises:
        ConflictError: the folder belongs to another Label Studio, its project was removed, or the number
            it remembers is that of somebody else's project by now.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    claim = read_claim(out) or Claim(door.url, title, secrets.token_hex(8))
    _refuse(claim, door, out)
    _keep(out, claim)
    if claim.project_id is not None:
        return _checked(door, claim.project_id, claim, out)
    found = _marked(door, claim)
    if not found:
        made = door.create_project(claim.title, label_config.read("select"), claim.description)
        # Look again: a request of a killed process may have made one meanwhile. The oldest is the one.
        found = _marked(door, claim) or [made]
    _keep(out, replace(claim, project_id=found[0].project_id))
    return found[0]


def _refuse(claim: Claim, door: SimulationDoor, out: Path) -> None:
    if claim.removed:
        raise ConflictError(
            f"The project of the simulation in {out} was removed from Label Studio.",
            why="There is nothing left to go on with; its results so far stay in results.md.",
            todo="Give another --out to simulate anew.",
        )
    if claim.url != door.url:
        raise ConflictError(
            f"The simulation in {out} is in Label Studio at {claim.url}, and the settings name {door.url}.",
            todo="Set ILLUME_LABEL_STUDIO_URL back, or give another --out.",
        )


def _checked(door: SimulationDoor, project_id: int, claim: Claim, out: Path) -> ProjectInfo:
    project = door.find_project(project_id)
    if project is None:
        raise ConflictError(
            f"Project {project_id} of the simulation in {out} is gone from Label Studio.",
            why="Its tasks and annotations went with it, so there is nothing left to go on with.",
            todo="Give another --out to simulate anew.",
        )
    if not claim.owns(project):
        raise ConflictError(
            f"Project {project.project_id} ({project.title!r}) does not carry the mark of the simulation "
            f"in {out}.",
            why="It may hold somebody's work, so it is left alone.",
            todo=f"Put [illume simulation {claim.mark}] back into its description if it is the "
            "simulation's, or give another --out.",
        )
    return project


def _marked(door: SimulationDoor, claim: Claim) -> list[ProjectInfo]:
    return [project for project in door.projects_titled(claim.title) if claim.owns(project)]


def _keep(out: Path, claim: Claim) -> None:
    write_json(out / CLAIM_FILE, asdict(claim))


def removable(door: SimulationDoor, out: Path) -> list[ProjectInfo]:
    """The projects that `remove` would delete: one, or more where a killed process had made a second.

    Raises:
        NotFoundError: the folder has no project in Label Studio.
        ConflictError: see `own_project`.
    """
    claim = read_claim(out)
    if claim is None or claim.removed:
        raise NotFoundError(
            f"The simulation in {out} has nothing in Label Studio.",
            todo="Give the --out of a simulation that was run with --label-studio.",
        )
    _refuse(claim, door, out)
    found = {project.project_id: project for project in _ours(door, claim)}
    if not found:
        raise NotFoundError(
            f"No project in {door.url} carries the mark of the simulation in {out}.",
            why="It was deleted, or somebody took the mark out of its description: then it is left alone.",
        )
    return list(found.values())


def _ours(door: SimulationDoor, claim: Claim) -> Iterator[ProjectInfo]:
    yield from _marked(door, claim)
    if claim.project_id is not None:
        project = door.find_project(claim.project_id)  # it may have another title by now
        if project is not None and claim.owns(project):
            yield project


def remove(door: SimulationDoor, out: Path) -> None:
    """Delete the folder's projects with everything in them, and remember that they are gone.

    Raises:
        NotFoundError, ConflictError, LabelStudioError: see `removable`.
    """
    for project in removable(door, out):
        door.delete_project(project.project_id)
    claim = read_claim(out)
    if claim is not None:
        _keep(out, replace(claim, removed=True))
