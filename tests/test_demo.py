"""The demo's Label Studio environment, pictures and project, without a Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.demo.labelstudio_server import LabelStudioServer, environment
from backend.demo.pictures import SCENES_FILE, make_pictures, read_pictures
from backend.demo.processes import ProcessError
from backend.demo.project import ensure_project
from illume_plugin.errors import LabelStudioError
from illume_plugin.labelstudio import LocalStorageInfo, ProjectInfo, TaskInfo


def silent(_done: int, _total: int) -> None:
    """No progress shown."""


class FakeLabelStudio:
    """Keeps projects in memory; fails at the n-th change when told to."""

    def __init__(self) -> None:
        self.projects: list[ProjectInfo] = []
        self.storages: list[tuple[int, str]] = []
        self.data: list[tuple[int, Mapping[str, Any]]] = []
        self.fail_after = 99

    def _change(self) -> None:
        self.fail_after -= 1
        if self.fail_after < 0:
            raise LabelStudioError("gone")

    def projects_titled(self, title: str) -> list[ProjectInfo]:
        return [project for project in self.projects if project.title == title]

    def create_project(self, title: str, label_config: str, description: str = "") -> ProjectInfo:
        self._change()
        self.projects.append(
            ProjectInfo(len(self.projects) + 1, title, description, label_config, 0, "", True)
        )
        return self.projects[-1]

    def local_storages(self, project_id: int) -> list[LocalStorageInfo]:
        return [LocalStorageInfo(1, path, "") for project, path in self.storages if project == project_id]

    def create_local_storage(self, project_id: int, path: str, title: str) -> int:
        self._change()
        self.storages.append((project_id, path))
        return len(self.storages)

    def tasks(self, project_id: int) -> Iterator[TaskInfo]:
        return (TaskInfo(1, data, False) for project, data in self.data if project == project_id)

    def import_tasks(self, project_id: int, data: list[Mapping[str, Any]]) -> list[int]:
        self._change()
        self.data += [(project_id, each) for each in data]
        return list(range(len(data)))


def test_pictures_are_drawn_once_and_more_can_follow(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    done: list[tuple[int, int]] = []
    few = make_pictures(folder, 2, 7, lambda *each: done.append(each))
    assert done == [(1, 2), (2, 2)]
    stamps = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.png")}
    more = make_pictures(folder, 4, 7, silent)
    assert more.tasks[:2] == few.tasks
    assert {name: (folder / name).stat().st_mtime_ns for name in stamps} == stamps
    assert sorted(file.name for file in folder.iterdir()) == [
        "0001.png", "0002.png", "0003.png", "0004.png", SCENES_FILE,
    ]  # fmt: skip
    assert read_pictures(folder) == more


def test_another_seed_means_other_pictures(tmp_path: Path) -> None:
    make_pictures(tmp_path, 3, 1, silent)
    before = (tmp_path / "0001.png").read_bytes()
    make_pictures(tmp_path, 2, 2, silent)
    assert (tmp_path / "0001.png").read_bytes() != before
    assert not (tmp_path / "0003.png").exists()


def test_task_data_point_to_the_pictures(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "pictures", 2, 7, silent)
    for number, (data, task) in enumerate(zip(pictures.task_data(), pictures.tasks, strict=True), start=1):
        assert data == {
            "image": f"/data/local-files/?d=pictures/000{number}.png",
            "question": task.question_text,
            "answer": task.answer,
            "scene": number,
        }
        with Image.open(tmp_path / "pictures" / f"000{number}.png") as drawn:
            assert drawn.size == (720, 720)
    assert json.loads(json.dumps(pictures.task_data())) == pictures.task_data()


@pytest.mark.parametrize("fail_after", [0, 1, 2, 3])
def test_a_project_that_stopped_halfway_is_completed(tmp_path: Path, fail_after: int) -> None:
    pictures = make_pictures(tmp_path / "pictures", 3, 7, silent)
    label_studio: Any = FakeLabelStudio()
    label_studio.projects.append(ProjectInfo(1, "Demo", "somebody else's", "<View/>", 0, "", True))
    label_studio.fail_after = fail_after
    if fail_after < 3:
        with pytest.raises(LabelStudioError, match="gone"):
            ensure_project(label_studio, "Demo", "<View/>", pictures)
    label_studio.fail_after = 99
    for _ in range(2):
        assert ensure_project(label_studio, "Demo", "<View/>", pictures) == 2
    assert len(label_studio.projects) == 2
    assert label_studio.storages == [(2, str(tmp_path / "pictures"))]
    assert label_studio.data == [(2, data) for data in pictures.task_data()]


def test_tasks_of_other_pictures_are_noticed(tmp_path: Path) -> None:
    label_studio: Any = FakeLabelStudio()
    ensure_project(label_studio, "Demo", "<View/>", make_pictures(tmp_path, 6, 1, silent))
    with pytest.raises(LabelStudioError, match=r"scene \d+ in project 1 differ"):
        ensure_project(label_studio, "Demo", "<View/>", make_pictures(tmp_path, 6, 2, silent))


def test_label_studio_gets_our_settings_and_no_others(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "LABEL_STUDIO_HOST": "https://production.example",
        "LABEL_STUDIO_API_KEY": "hush",
        "DJANGO_DB": "default",
        "HEARTEX_SSRF_PROTECTION_ENABLED": "true",
    }
    given = environment(inherited, tmp_path / "ls", tmp_path / "files", "a@b.c", "pw")
    assert given["PATH"] == "/bin"
    assert not set(inherited) & set(given) - {"PATH"}
    assert given["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert given["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"
    assert given["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == str(tmp_path / "files")


def test_a_label_studio_that_is_not_installed(tmp_path: Path) -> None:
    server = LabelStudioServer(tmp_path / "none", tmp_path, 1, tmp_path, "a@b.c", "pw")
    with pytest.raises(ProcessError, match="make install"):
        server.start()
    server.stop()


def test_a_label_studio_that_ends_at_once(tmp_path: Path) -> None:
    program = tmp_path / "label-studio"
    program.write_text("#!/bin/sh\necho the database is locked\nexit 3\n")
    program.chmod(0o755)
    server = LabelStudioServer(program, tmp_path / "ls", 0, tmp_path / "files", "a@b.c", "pw")
    server.start()
    with pytest.raises(ProcessError, match=r"status 3(.|\n)*the database is locked"):
        server.wait_until_ready(lambda _: None)


def test_pictures_of_another_world_with_the_same_seed_are_drawn_anew(tmp_path: Path) -> None:
    make_pictures(tmp_path, 2, 7, lambda done, total: None)
    scenes = tmp_path / "scenes.json"
    scenes.write_text(json.dumps({"seed": 7, "tasks": [{"scene": "of an older world"}, {}]}))
    stale = tmp_path / "0001.png"
    stale.write_bytes(b"an older picture")
    make_pictures(tmp_path, 2, 7, lambda done, total: None)
    assert stale.read_bytes() != b"an older picture"
