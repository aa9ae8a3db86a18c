"""The drawn tasks of an iteration in Label Studio: pictures uploaded, each task there exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backend.simulate.labelstudio.door import SimulationDoor
from backend.simulate.world import DrawnPictures, task_data
from illume_plugin.embedded import WorldTask
from illume_plugin.errors import ConflictError
from illume_plugin.labelstudio import TaskInfo
from illume_plugin.types import Json

#: In the data of a task: the number of its drawing, which tells it for ever.
NUMBER = "simulated"


def ensure_tasks(
    door: SimulationDoor, project_id: int, pictures: DrawnPictures, tasks: Mapping[int, WorldTask]
) -> dict[int, TaskInfo]:
    """Number of a drawing -> its task in Label Studio; only what is missing is made.

    A killed process may have left pictures without tasks, which are used, and its last request may have
    made tasks after we looked: such a second copy is deleted again before anybody has seen it.

    Raises:
        ConflictError: the project holds tasks that the simulation did not make, or made otherwise.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    missing = [number for number in tasks if number not in _found(door, project_id)]
    if missing:
        images = _uploaded(door, project_id, pictures, {number: tasks[number] for number in missing})
        door.import_tasks(project_id, [_data(number, tasks[number], images[number]) for number in missing])
    found = _found(door, project_id)
    for number in tasks:
        for double in found.get(number, [])[1:]:
            door.delete_task(double.task_id)
    return known_tasks(door, project_id, tasks)


def known_tasks(door: SimulationDoor, project_id: int, tasks: Mapping[int, WorldTask]) -> dict[int, TaskInfo]:
    """Number of a drawing -> its task in Label Studio.

    Raises:
        ConflictError: the project holds tasks that the simulation did not make, or made otherwise, or
            one is not there exactly once.
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    found = _found(door, project_id)
    gone = [number for number in tasks if number not in found]
    doubles = [same[1].task_id for number in tasks if len(same := found.get(number, [])) > 1]
    if gone or doubles:
        raise ConflictError(
            f"Project {project_id} lacks the tasks of {len(gone)} drawings ({_brief(gone)}) and holds "
            f"{len(doubles)} twice ({_brief(doubles)}).",
            why="Somebody deleted or copied them while the simulation went on.",
            todo="Leave the project alone and start the same command again; it makes them anew.",
        )
    for number, task in tasks.items():
        _check(project_id, number, task, found[number][0])
    return {number: found[number][0] for number in tasks}


def _brief(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" ..." if numbers[10:] else "") or "none"


def _found(door: SimulationDoor, project_id: int) -> dict[int, list[TaskInfo]]:
    """Number of a drawing -> its tasks, the one to keep first: annotated, or else the oldest."""
    found: dict[int, list[TaskInfo]] = {}
    foreign: list[int] = []
    for task in door.tasks(project_id):
        number = task.data.get(NUMBER)
        if isinstance(number, int):
            found.setdefault(number, []).append(task)
        else:
            foreign.append(task.task_id)
    if foreign:
        raise ConflictError(
            f"Project {project_id} holds {len(foreign)} tasks that the simulation did not make, "
            f"such as {foreign[0]}.",
            why="Candidates would be sampled for them, and what is said of them would be learnt from.",
            todo="Move them to another project.",
        )
    return {number: sorted(same, key=_to_keep) for number, same in found.items()}


def _to_keep(task: TaskInfo) -> tuple[bool, int]:
    return not task.is_labeled, task.task_id


def _uploaded(
    door: SimulationDoor, project_id: int, pictures: DrawnPictures, tasks: Mapping[int, WorldTask]
) -> dict[int, str]:
    """Number of a drawing -> address of its picture."""
    files = {number: pictures.draw(task_data(number, task)["image"], task) for number, task in tasks.items()}
    there = door.uploads(project_id)
    door.upload(project_id, [file for file in files.values() if file.name not in there])
    there = door.uploads(project_id)
    return {number: there[file.name] for number, file in files.items()}


def _data(number: int, task: WorldTask, image: str) -> dict[str, Json]:
    return {"image": image, "question": task.question_text, "answer": task.answer, NUMBER: number}


def _check(project_id: int, number: int, task: WorldTask, found: TaskInfo) -> None:
    wanted = _data(number, task, str(found.data.get("image")))
    if dict(found.data) != wanted:
        raise ConflictError(
            f"Task {found.task_id} of project {project_id} is {dict(found.data)!r:.200}, "
            f"and the simulation made {wanted!r:.200}.",
            why="Its annotators would answer another question than the one on screen.",
            todo="Undo that change, or give another --out to simulate anew.",
        )
