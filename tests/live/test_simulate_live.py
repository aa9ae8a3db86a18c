"""`illume simulate --label-studio` against a real Label Studio: killed, gone on with, compared, removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import SELECT

from backend.simulate.labelstudio import SimulationDoor
from illume_plugin.store import Store, judgements
from illume_plugin.types import Verdict
from live.conftest import LiveLabelStudio, free_port

pytestmark = [pytest.mark.live, pytest.mark.torch, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
TASKS, ANNOTATORS = 8, 2
#: Annotations after which the first process is killed.
KILLED_AFTER = 5
SEED = 11


@pytest.fixture
def door(label_studio: LiveLabelStudio) -> Iterator[SimulationDoor]:
    with SimulationDoor(label_studio.url, label_studio.token, timeout_s=60) as door:
        assert isinstance(door, SimulationDoor)
        yield door


class Command:
    """`illume simulate --label-studio` in a folder of its own, with settings that name this Label Studio."""

    def __init__(self, label_studio: LiveLabelStudio, folder: Path) -> None:
        self.out = folder / "out"
        options = {"tasks": TASKS, "annotators": ANNOTATORS, "iterations": 1, "samples": 2, "seed": SEED}
        options |= {"held-out-tasks": 6, "held-out-samples": 1, "port": free_port()}
        self.options = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.environment = os.environ | {
            "ILLUME_LABEL_STUDIO_URL": label_studio.url,
            "ILLUME_LABEL_STUDIO_TOKEN": label_studio.token,
            "ILLUME_BACKEND_URL": "http://127.0.0.1:9090",
        }
        self.log = folder / "killed.log"

    def words(self, *arguments: str) -> list[str]:
        command = [sys.executable, "-m", "backend.cli", "simulate", "--label-studio", "--out", str(self.out)]
        return [*command, *arguments]

    def run(self, *arguments: str) -> str:
        """Run it to its end; returns what it printed."""
        done = subprocess.run(
            self.words(*arguments),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_until_killed(self, door: SimulationDoor, annotations: int) -> None:
        """Run it and kill it without warning as soon as Label Studio holds so many annotations."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                self.words(*self.options), env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )
        try:
            end = time.monotonic() + 600
            while sum(held(door).values()) < annotations:
                assert process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait(timeout=60)


def project_ids(door: SimulationDoor) -> list[int]:
    found = door.projects_titled(f"ILLUME simulation, seed {SEED}")
    return [project.project_id for project in found]


def held(door: SimulationDoor) -> Counter[int]:
    """Task id -> annotations of the simulation's project, as the API tells."""
    found: Counter[int] = Counter()
    for project_id in project_ids(door):
        for task in door.opened_tasks(project_id, [task.task_id for task in door.tasks(project_id)]):
            found[task.task_id] += len(task.annotations)
    return found


def check_contents(door: SimulationDoor, project_id: int) -> dict[int, set[str]]:
    """Every task once, with one prediction and both annotations made from it; returns the ticked texts."""
    data = {task.task_id: task.data for task in door.tasks(project_id)}
    assert sorted(each["simulated"] for each in data.values()) == list(range(1, TASKS + 1))
    ticked: dict[int, set[str]] = {}
    for task in door.opened_tasks(project_id, data):
        (prediction,) = task.predictions
        assert prediction["model_version"] == "v0000"
        assert [one["parent_prediction"] for one in task.annotations] == [prediction["id"]] * ANNOTATORS
        for one in task.annotations:
            shown, fits = one["result"]
            assert shown["value"] == prediction["result"][0]["value"]
            rows = [int(choice[1:]) for choice in fits["value"]["choices"] if choice != "none"]
            ticked[task.task_id] = {shown["value"]["text"][row - 1] for row in rows}
        picture = httpx.get(
            door.url.rstrip("/") + data[task.task_id]["image"], headers=door.auth_headers(), timeout=60
        )
        assert picture.content.startswith(b"\x89PNG"), "the picture was uploaded and is served"
    assert len(ticked) == TASKS
    return ticked


def arrived(out: Path, project_id: int) -> dict[int, set[str]]:
    """Task id -> texts that fit, of every judged task in the simulation's store."""
    store = Store(f"sqlite:///{out / 'data' / 'illume.sqlite3'}")
    with store.read() as conn:
        said = judgements.preferences_in(conn, project_id)
    store.close()
    found: dict[int, set[str]] = {one.task_id: set() for one in said}
    for one in said:
        if one.verdict is Verdict.FITS:
            found[one.task_id].add(one.text)
    return found


def test_a_killed_simulation_goes_on_and_every_tick_arrives_once(
    label_studio: LiveLabelStudio, door: SimulationDoor, tmp_path: Path
) -> None:
    theirs = door.create_project("somebody's work", SELECT).project_id
    door.import_tasks(theirs, [{"image": "/data/upload/1/x.png", "question": "why?", "answer": "so"}])
    command = Command(label_studio, tmp_path)

    command.run_until_killed(door, KILLED_AFTER)
    assert KILLED_AFTER <= sum(held(door).values()) < TASKS * ANNOTATORS
    said = command.run(*command.options)

    (project_id,) = project_ids(door)
    ticked = check_contents(door, project_id)
    assert arrived(command.out, project_id) == ticked
    assert any(ticked.values()), "the embedded model gives something to tick"
    (backend,) = door.backends(project_id)
    (hook,) = door.webhooks(project_id)
    assert hook.url == f"{backend.url}/webhook"

    results = json.loads((command.out / "results.json").read_text())
    delivery = results["iterations"][1]["delivery"]
    assert delivery["annotations"] == TASKS * ANNOTATORS
    assert delivery["ticks"] == delivery["arrived"] > 0
    assert delivery["lost"] == delivery["doubled"] == 0
    assert results["iterations"][1]["run"]["state"] in ("promoted", "held")
    assert "iteration 1:" in said

    assert f"project {project_id} (ILLUME simulation, seed {SEED})" in command.run("--remove", "--yes")
    assert project_ids(door) == []
    assert len(list(door.tasks(theirs))) == 1, "nobody else's project was touched"
    assert door.webhooks(theirs) == []
