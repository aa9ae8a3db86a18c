"""Draws the demo's pictures and remembers the scene behind each."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from illume_plugin.embedded import WorldTask, draw, make_tasks
from illume_plugin.types import Json

#: Beside the pictures: the tasks of the picture world, in the order of the pictures' numbers.
SCENES_FILE = "scenes.json"


@dataclass(frozen=True, slots=True)
class Pictures:
    """A folder of pictures below Label Studio's document root, and the tasks they belong to."""

    folder: Path
    tasks: tuple[WorldTask, ...]

    def task_data(self) -> list[dict[str, Json]]:
        """The data of one Label Studio task per picture. `scene` (from 1) names it for ever."""
        return [
            {
                "image": f"/data/local-files/?d={self.folder.name}/{picture_name(number)}",
                "question": task.question_text,
                "answer": task.answer,
                "scene": number,
            }
            for number, task in enumerate(self.tasks, start=1)
        ]


def picture_name(number: int) -> str:
    """File name of a picture."""
    return f"{number:04}.png"


def make_pictures(folder: Path, n: int, seed: int, progress: Callable[[int, int], None]) -> Pictures:
    """Draw the first `n` tasks of a seed; pictures that are there already stay.

    Args:
        folder: directly below Label Studio's document root.
        progress: called with (done, n) after each picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = tuple(make_tasks(n, seed))
    scenes = json.dumps({"seed": seed, "tasks": [task.to_json() for task in tasks]}).encode()
    if not _same_beginning(folder / SCENES_FILE, scenes):
        for stale in folder.glob("*.png"):
            stale.unlink()
    _write(folder / SCENES_FILE, scenes)
    for number, task in enumerate(tasks, start=1):
        picture = folder / picture_name(number)
        if not picture.is_file():
            _draw_to(picture, task)
        progress(number, n)
    return Pictures(folder, tasks)


def read_pictures(folder: Path) -> Pictures:
    """The pictures of a folder that `make_pictures` filled."""
    found = json.loads((folder / SCENES_FILE).read_text())
    return Pictures(folder, tuple(WorldTask.from_json(task) for task in found["tasks"]))


def _same_beginning(kept: Path, scenes: bytes) -> bool:
    """Whether the pictures that are there are of these scenes: then the first ones are the same."""
    if not kept.is_file():
        return False
    before, now = json.loads(kept.read_text())["tasks"], json.loads(scenes)["tasks"]
    common = min(len(before), len(now))
    return bool(before[:common] == now[:common])


def _draw_to(picture: Path, task: WorldTask) -> None:
    partial = picture.with_suffix(".partial")
    with partial.open("wb") as file:
        draw(task.scene).save(file, format="PNG")
    partial.replace(picture)


def _write(file: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    Path(name).replace(file)
