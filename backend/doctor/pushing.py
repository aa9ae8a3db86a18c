"""What a bulk push of candidates costs Label Studio."""

from __future__ import annotations

from collections.abc import Iterator

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import BULK_FLAG, Finding
from illume_plugin.labelstudio.records import ProjectInfo

#: From so many tasks on a push takes seconds without the flag, and more with every prediction.
MANY_TASKS = 1000


def bulk_is_cheap(flags: dict[str, bool], project: ProjectInfo) -> Iterator[Check]:
    """Whether Label Studio recounts the whole project at each push.

    Args:
        flags: Label Studio's; what is not among them is not known, and nothing is said.
    """
    name = f"project {project.project_id}: pushing"
    on = flags.get(BULK_FLAG)
    if on:
        yield good(name, "bulk pushes cost little: Label Studio's flag is on")
    elif on is False and project.task_number >= MANY_TASKS:
        yield found(name, Finding.PUSH_SLOW, f"{project.task_number} tasks, and {BULK_FLAG} is off")
    elif on is False:
        yield good(name, f"bulk pushes are quick below {MANY_TASKS} tasks; there are {project.task_number}")
