"""The demo's project in Label Studio: made once, completed when an earlier try stopped halfway."""

from __future__ import annotations

from backend.demo.pictures import Pictures
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LabelStudio, ProjectInfo

#: In the description of a project of ours: tells it from a namesake that somebody else made.
MARKER = "[illume demo]"
DESCRIPTION = (
    f"Drawn pictures with questions, answers and sampled explanations. Made by `illume demo`. {MARKER}"
)


def ensure_project(label_studio: LabelStudio, title: str, label_config: str, pictures: Pictures) -> int:
    """The id of a project with these pictures as tasks; only what is missing is made.

    Args:
        pictures: their folder must lie below Label Studio's document root.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
    """
    project = _find(label_studio, title) or label_studio.create_project(title, label_config, DESCRIPTION)
    if project.label_config.strip() != label_config.strip():
        label_studio.update_project(project.project_id, label_config=label_config)
    _ensure_storage(label_studio, project.project_id, pictures)
    _ensure_tasks(label_studio, project.project_id, pictures)
    return project.project_id


def _find(label_studio: LabelStudio, title: str) -> ProjectInfo | None:
    ours = [project for project in label_studio.projects_titled(title) if MARKER in project.description]
    return ours[0] if ours else None


def _ensure_storage(label_studio: LabelStudio, project_id: int, pictures: Pictures) -> None:
    """Without a storage of the project that holds it, Label Studio does not serve a local file."""
    folder = str(pictures.folder.resolve())
    if all(storage.path != folder for storage in label_studio.local_storages(project_id)):
        label_studio.create_local_storage(project_id, folder, "Demo pictures")


def _ensure_tasks(label_studio: LabelStudio, project_id: int, pictures: Pictures) -> None:
    have = {task.data.get("scene"): task.data for task in label_studio.tasks(project_id)}
    wanted = pictures.task_data()
    for data in wanted:
        if data["scene"] in have and have[data["scene"]] != data:
            raise LabelStudioError(
                f"Task data of scene {data['scene']} in project {project_id} differ from the drawn picture.",
                why="The project was made from other pictures, so candidates would be about the wrong ones.",
                todo="Remove the demo's folder and start over, or delete that project in Label Studio.",
            )
    missing = [data for data in wanted if data["scene"] not in have]
    if missing:
        label_studio.import_tasks(project_id, missing)
