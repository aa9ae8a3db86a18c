"""P6: 10,000 predictions pushed into a real Label Studio, against its SDK's `predictions.create`, one by one.

Ours is what the worker does with candidate sets that Label Studio has not been given: it makes predictions of
them and checks each, pushes them, and notes that they are there. Every push goes to a new project of as many
tasks. The peer is measured on some tasks of a project of its own, without any check, and counts for as many.

P6_installed is the same with Label Studio as it is installed, without the flag that `illume doctor` advises:
there each bulk request recounts the whole project.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import stored_candidates
from figures import Figure, figure, in_turns
from live_labelstudio import connected, know, live_labelstudio, project_with, task
from service_setting import ServiceSetting

from backend.presample import push_ahead
from backend.service import Service
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, projects

PREDICTIONS, ONE_BY_ONE = 10_000, 200
GOAL = 50.0
#: Without the flag one push takes minutes.
INSTALLED_REPEATS = 2


@dataclass(frozen=True)
class Bench:
    """A Label Studio, our service on it, and how much is pushed."""

    door: LabelStudio
    service: Service
    predictions: int
    one_by_one: int

    def ours(self) -> float:
        """Seconds for each prediction of a push of all of them.

        Raises:
            RuntimeError: not all of them are there.
        """
        project_id, ids = self._project()
        stored_candidates.keep(self.service, project_id, ids)
        with self.service.store.read() as conn:
            project = projects.get(conn, project_id)
        begin, pushed = time.monotonic(), 0
        while more := push_ahead(self.service, project, everything=True):
            pushed += more
        seconds = time.monotonic() - begin
        there = self.door.predictions_by_version(project_id)
        if there != {project.active_version: self.predictions} or pushed != self.predictions:
            raise RuntimeError(f"{pushed} were pushed, there are {there}.")
        return seconds / self.predictions

    def peer(self) -> float:
        """Seconds for each prediction of some that the SDK creates."""
        project_id, ids = self._project()
        some = ids[: self.one_by_one]
        stored_candidates.keep(self.service, project_id, some)
        sdk = self.door._sdk
        with self.service.store.read() as conn:
            project = projects.get(conn, project_id)
            key = {"version": project.active_version, "plan": self.service.plan.hash}
            sets = candidates.get(conn, project_id, some, **key)
        made = [{"task": each, **self.service.predictor.prediction(project, sets[each])} for each in some]
        begin = time.monotonic()
        for prediction in made:
            sdk.predictions.create(**prediction)
        return (time.monotonic() - begin) / len(made)

    def _project(self) -> tuple[int, list[int]]:
        made = project_with(self.door, "push", [task(number) for number in range(self.predictions)])
        know(self.service, made[0])
        return made


def measure(setting: ServiceSetting) -> dict[str, Figure]:
    """P6: how many times as fast, with the flag."""
    with bench(setting) as one:
        others, own = in_turns(one.peer, one.ours, setting.repeats)
    return {
        "P6": _figure(one, others, own, f"{one.predictions:,} predictions pushed into a real Label Studio")
    }


def measure_installed(setting: ServiceSetting) -> dict[str, Figure]:
    """P6_installed: how many times as fast, without the flag."""
    with bench(setting, as_installed=True) as one:
        others, own = in_turns(one.peer, one.ours, min(setting.repeats, INSTALLED_REPEATS))
    return {
        "P6_installed": _figure(one, others, own, "the same, Label Studio without the flag for bulk requests")
    }


def _figure(one: Bench, others: list[float], own: list[float], what: str) -> Figure:
    detail = {
        "what": f"{what}, times as fast as the SDK one by one",
        "predictions": one.predictions,
        "peer_seconds": [each * one.predictions for each in others],
        "our_seconds": [each * one.predictions for each in own],
        "peer": f"measured on {one.one_by_one} of them",
    }
    return figure([a / b for a, b in zip(others, own, strict=True)], goal=GOAL, detail=detail)


@contextmanager
def bench(setting: ServiceSetting, *, as_installed: bool = False) -> Iterator[Bench]:
    """A Label Studio of its own.

    Raises:
        LeftOutError: Label Studio is not installed.
    """
    with TemporaryDirectory(prefix="illume-p6-") as name:
        folder = Path(name)
        with (
            live_labelstudio(folder, as_installed=as_installed) as door,
            connected(door, folder / "ours", (folder / "token").read_text().strip()) as service,
        ):
            yield Bench(door, service, *((500, 20) if setting.quick else (PREDICTIONS, ONE_BY_ONE)))
