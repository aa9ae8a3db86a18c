"""The tasks of a simulation, and their pictures as local files."""

from __future__ import annotations

import os
from pathlib import Path

from illume_plugin.embedded import Split, World, WorldTask, draw, make_tasks
from illume_plugin.errors import ImageError
from illume_plugin.identity import content_bits
from illume_plugin.images import ImageStore
from illume_plugin.types import Json, Task

#: Width of the pictures. The embedded model sees fewer pixels, and its figures do not change from 240 to 720.
PICTURE_PX = 240
#: Ids of tasks that nobody opens lie above it, those of labelled ones below.
UNJUDGED = 1_000_000


class DrawnPictures(ImageStore):
    """Stands in for the image store: an address is the name of a file in one folder, nothing is fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, label_studio_url=None, auth_headers=None)
        self._folder = root

    def draw(self, image: str, task: WorldTask) -> Path:
        """Draw the task's scene under the name `image` unless it is there; returns the file."""
        path = self._folder / image
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            draw(task.scene, PICTURE_PX).save(partial, format="PNG")
            partial.replace(path)
        return path

    def fetch(self, task: Task) -> Path:
        """The task's picture.

        Raises:
            ImageError: it was never drawn.
        """
        path = self._folder / task.image
        if not path.is_file():
            raise ImageError(f"{task.image!r} was never drawn.", todo="Start with an empty --out folder.")
        return path


def labelled_tasks(
    seed: int, *, tasks: int, iteration: int, world: World = World.SHAPES
) -> dict[int, WorldTask]:
    """task id -> task of an iteration (from 1); no two iterations share a task."""
    first = (iteration - 1) * tasks
    made = make_tasks(first + tasks, content_bits(["labelled", seed], 32), world=world)
    return dict(enumerate(made[first:], start=first + 1))


def unjudged_tasks(seed: int, n: int, *, world: World = World.SHAPES) -> dict[int, WorldTask]:
    """task id -> task that is in the project and that nobody ever opens; no iteration has one of these."""
    made = make_tasks(n, content_bits(["unjudged", seed], 32), world=world)
    return dict(enumerate(made, start=UNJUDGED + 1))


def held_out_tasks(seed: int, n: int, *, world: World = World.SHAPES) -> list[WorldTask]:
    """Tasks that nobody ever labels, from a stream of scenes of their own."""
    return make_tasks(n, content_bits(["held out", seed], 32), Split.TEST, world)


def task_data(task_id: int, task: WorldTask) -> dict[str, Json]:
    """The data of a Label Studio task; `world` is for the simulated annotator."""
    return {
        "image": f"labelled/{task_id:05d}.png",
        "question": task.question_text,
        "answer": task.answer,
        "world": task.to_json(),
    }


def held_out_image(number: int) -> str:
    """Name of the picture of a held-out task."""
    return f"held-out/{number:05d}.png"
