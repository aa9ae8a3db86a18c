"""P7: catching up after the listener was down: 1,000 changes in a project of 100,000 tasks.

A real Label Studio holds a large and a small project, a tenth of whose tasks is annotated. In each repeat 900
annotated tasks are imported into each of them, of which Label Studio sends no event for the annotations, and
100 tasks are annotated by its API. Ours is one round of the reconciliation; the peer is Label Studio's export
of all annotated tasks, which still would have to be compared. Cost that follows the changes is the same in
both projects.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import stored_candidates
from figures import Figure, figure
from live_labelstudio import connected, know, live_labelstudio, project_with, task
from service_setting import ServiceSetting

from backend.reconcile import Reconciler, Round
from backend.service import Service
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.labelstudio.changes import OVERLAP_S

GOAL, GOAL_GROWTH = 1.0, 2.0
EXPORT_TIMEOUT_S = 900.0
_AT_A_TIME = 2500


@dataclass(frozen=True)
class Sizes:
    """How much there is, and how much of it changes.

    Attributes:
        large, small: tasks of the two projects.
        imported, annotated: changes in each of them, by import and by the API.
        overlap_s: changes up to so long ago are read again; so long is waited before the next ones.
    """

    large: int = 100_000
    small: int = 10_000
    imported: int = 900
    annotated: int = 100
    overlap_s: float = OVERLAP_S

    @property
    def changes(self) -> int:
        """In each project, in each repeat."""
        return self.imported + self.annotated


QUICK = Sizes(2_000, 400, 90, 10, overlap_s=0.0)


@dataclass
class Repeat:
    """Seconds and requests of one repeat."""

    large: Round
    small: Round
    idle: Round
    export_s: float


@dataclass
class Project:
    """One project, and the reconciliation that keeps up with it."""

    service: Service
    door: LabelStudio
    project_id: int
    unlabelled: list[int]
    first_s: float = field(init=False)
    _imported: int = 0

    def __post_init__(self) -> None:
        know(self.service, self.project_id)
        self._reconciler = Reconciler(self.service, self.door, self.project_id)
        self.first_s = self.round().seconds

    def round(self) -> Round:
        """Catch up.

        Raises:
            RuntimeError: and it is not in step afterwards.
        """
        done = self._reconciler.round()
        if not done.in_step:
            raise RuntimeError(f"Project {self.project_id} is not in step: {done}.")
        return done

    def change(self, sizes: Sizes) -> None:
        """Change what a repeat changes."""
        begin = 10**6 + self._imported
        import_annotated(self.door, self.project_id, range(begin, begin + sizes.imported))
        self._imported += sizes.imported
        for _ in range(sizes.annotated):
            number = self.unlabelled.pop()
            self.door._sdk.annotations.create(number, result=result(number))

    def export(self) -> float:
        """Seconds that Label Studio takes for all annotated tasks."""
        begin = time.monotonic()
        answer = httpx.get(
            f"{self.door.url}api/projects/{self.project_id}/export",
            params={"exportType": "JSON"},
            headers=self.door.auth_headers(),
            timeout=EXPORT_TIMEOUT_S,
        )
        answer.raise_for_status()
        if not isinstance(answer.json(), list):
            raise TypeError("An export is no list.")
        return time.monotonic() - begin


def measure(setting: ServiceSetting) -> dict[str, Figure]:
    """P7 (times as fast as an export) and P7_growth (the large project's time over the small one's)."""
    sizes = QUICK if setting.quick else Sizes()
    with TemporaryDirectory(prefix="illume-p7-") as name, _projects(Path(name), sizes) as (large, small):
        repeats = [_repeat(large, small, sizes, number) for number in range(setting.repeats)]
        return figures(repeats, sizes, large.first_s, small.first_s)


def figures(
    repeats: Sequence[Repeat], sizes: Sizes, first_s: float, small_first_s: float
) -> dict[str, Figure]:
    """Both figures.

    Args:
        first_s, small_first_s: seconds of the rounds that read everything.
    """
    own = [one.large.seconds for one in repeats]
    detail: dict[str, Any] = {
        "tasks": sizes.large,
        "changes": sizes.changes,
        "our_seconds": own,
        "peer_seconds": [one.export_s for one in repeats],
        "requests": [one.large.requests for one in repeats],
        "small_tasks": sizes.small,
        "small_seconds": [one.small.seconds for one in repeats],
        "idle_seconds": [one.idle.seconds for one in repeats],
        "idle_requests": [one.idle.requests for one in repeats],
        "first_seconds": first_s,
        "small_first_seconds": small_first_s,
    }
    told = f"a round without changes {median(detail['idle_seconds']):.2f} s"
    what = f"catching up with {sizes.changes:,} changes in {sizes.large:,} tasks"
    growth = [one.large.seconds / one.small.seconds for one in repeats]
    return {
        "P7": figure(
            [one.export_s / one.large.seconds for one in repeats],
            goal=GOAL,
            detail={**detail, "told": told, "what": f"{what}, times as fast as an export"},
        ),
        "P7_growth": figure(
            growth,
            goal=GOAL_GROWTH,
            detail={**detail, "what": f"its time over that for as many changes in {sizes.small:,} tasks"},
            higher_is_better=False,
        ),
    }


def _repeat(large: Project, small: Project, sizes: Sizes, number: int) -> Repeat:
    time.sleep(sizes.overlap_s)  # what changed a moment ago is read again: not what is measured here
    idle = [one.round() for one in (small, large)][1]
    for one in (small, large):
        one.change(sizes)
    export_s = large.export() if number % 2 else 0.0
    of_small, of_large = small.round(), large.round()
    for done in (of_small, of_large):
        if done.found.new_annotations != sizes.changes:
            raise RuntimeError(f"{sizes.changes} annotations are new, {done.found} were found.")
    return Repeat(of_large, of_small, idle, export_s or large.export())


@contextmanager
def _projects(folder: Path, sizes: Sizes) -> Iterator[tuple[Project, Project]]:
    with (
        live_labelstudio(folder) as door,
        connected(door, folder / "ours", (folder / "token").read_text().strip()) as service,
    ):
        yield _project(service, door, sizes.large), _project(service, door, sizes.small)


def _project(service: Service, door: LabelStudio, tasks: int) -> Project:
    """A project of so many tasks, a tenth of them annotated."""
    labelled = tasks // 10
    project_id, unlabelled = project_with(
        door, "catch up", [task(number) for number in range(tasks - labelled)]
    )
    import_annotated(door, project_id, range(tasks - labelled, tasks))
    return Project(service, door, project_id, unlabelled)


def import_annotated(door: LabelStudio, project_id: int, numbers: Sequence[int]) -> None:
    """Import tasks, each with an annotation of ours."""
    for begin in range(0, len(numbers), _AT_A_TIME):
        some = numbers[begin : begin + _AT_A_TIME]
        answer = httpx.post(
            f"{door.url}api/projects/{project_id}/import",
            json=[{"data": task(each), "annotations": [{"result": result(each)}]} for each in some],
            headers=door.auth_headers(),
            timeout=EXPORT_TIMEOUT_S,
        )
        answer.raise_for_status()


def result(number: int) -> list[dict[str, Any]]:
    """What an annotator has said of ten candidates."""
    texts = stored_candidates.texts(number)
    meta = {"illume": {"model_version": "v0000", "texts": texts}}
    return [
        {"id": "illume-cand", "from_name": "cand", "to_name": "image", "type": "textarea"}
        | {"value": {"text": texts}, "meta": meta},
        {"id": "fits", "from_name": "fits", "to_name": "image", "type": "choices"}
        | {"value": {"choices": ["c1", f"c{number % 9 + 2}"]}},
    ]
