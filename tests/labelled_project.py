"""A project that has been labelled for a while: five versions, three annotators, runs of every kind.

Everything goes through the store's own verbs and Label Studio's own events; pictures and tasks are the
picture world's. The same at every call.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import label_config
from backend.service import Service
from backend.simulate.submission import submission
from illume_plugin.embedded import WorldTask, draw, make_tasks, rationales
from illume_plugin.store import candidates, leases, projects, runs, versions
from illume_plugin.types import BASE_VERSION, Candidate, CandidateSet, RunState, Task

PROJECT = 2
TITLE = "Explain the picture"
BEGAN = 1_795_000_000.0
#: Tasks judged between two versions, and those that nobody has judged.
PER_VERSION = 16
OPEN = 12
#: Probability that a version's candidate is one that fits.
QUALITY = (0.25, 0.45, 0.56, 0.62, 0.66)
ROWS = 6
SECONDS = {3: 9.0, 4: 14.0, 5: 31.0}


class DrawnPictures:
    """The pictures of the tasks, drawn when they are asked for."""

    def __init__(self, folder: Path, tasks: list[WorldTask]) -> None:
        self.folder = folder
        self.tasks = tasks

    def fetch(self, task: Task) -> Path:
        path = self.folder / f"{task.task_id}.png"
        if not path.is_file():
            draw(self.tasks[task.task_id - 1].scene, px=240).save(path)
        return path


class LabelledProject:
    """Fills a service."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.now = BEGAN
        self.rng = random.Random(5)
        self.tasks = make_tasks(len(QUALITY) * PER_VERSION + OPEN, 11)
        self.annotations = 0
        self.folder = folder
        service.clock = lambda: self.now
        pictures = DrawnPictures(folder, self.tasks)
        service.images = pictures  # type: ignore[assignment]
        service.sampler.images = pictures  # type: ignore[assignment]

    def fill(self) -> None:
        """All of it, oldest first."""
        with self.service.store.write() as conn:
            projects.put(conn, PROJECT, title=TITLE, label_config=label_config.read("select"), now=self.now)
            rows = [(number, self.data(number)) for number in range(1, len(self.tasks) + 1)]
            projects.put_tasks(conn, PROJECT, rows)
        for k in range(len(QUALITY)):
            version = f"v{k:04d}"
            if k:
                self.train(version)
            first = k * PER_VERSION + 1
            for number in range(first, first + PER_VERSION):
                self.label(number, version, QUALITY[k])
            self.service.apply_events()
        for number in range(len(self.tasks) - OPEN + 1, len(self.tasks) + 1):
            self.sample(number, version, QUALITY[-1])
        self.fail()
        self.now += 600
        with self.service.store.write() as conn:
            leases.take(conn, f"project {PROJECT}", owner="a worker", now=self.now, seconds=1e9)

    def data(self, number: int) -> dict[str, Any]:
        task = self.tasks[number - 1]
        image = f"/data/local-files/?d=pictures/{number}.png"
        return {"image": image, "question": task.question_text, "answer": task.answer}

    def sample(self, number: int, version: str, quality: float) -> CandidateSet:
        """Candidates of which so many fit: those of another task do not."""
        own, other = self.tasks[number - 1], self.tasks[(number + 7) % len(self.tasks)]
        texts: dict[str, bool] = {}
        while len(texts) < ROWS:
            fits = self.rng.random() < quality
            task = own if fits else other
            text = rationales(task.scene, task.question, task.answer, self.rng)
            # some tasks have few wordings: one that came up already is told with a number
            texts.setdefault(text if text not in texts else f"{text} ( {len(texts)} )", fits)
        drawn = tuple(
            Candidate(
                text,
                temperature=0.6,
                seed=k,
                logprob_mean=-0.4 - self.rng.random(),
                pmi=self.rng.gauss(0.8 if fits else -0.1, 0.3),
                i2c=self.rng.random(),
            )
            for k, (text, fits) in enumerate(texts.items())
        )
        self.fitting = list(texts.values())
        with self.service.store.write() as conn:
            return candidates.put(
                conn,
                CandidateSet(PROJECT, number, version, self.service.plan.hash, number, 0.5, drawn),
                now=self.now,
            )

    def label(self, number: int, version: str, quality: float) -> None:
        """One annotator judges the task; every fourth task a second one does."""
        candidate_set = self.sample(number, version, quality)
        with self.service.store.read() as conn:
            prediction = self.service.predictor.prediction(projects.get(conn, PROJECT), candidate_set)
        assert isinstance(prediction, dict)
        for annotator in self.people(number):
            self.annotations += 1
            self.now += SECONDS[annotator]
            # the second annotator's hand slips now and then
            ticks = [tick != (annotator == 5 and self.rng.random() < 0.15) for tick in self.fitting]
            body = submission(
                PROJECT,
                number,
                self.data(number),
                prediction,
                ticks,
                annotation_id=self.annotations,
                annotator=annotator,
            )
            body["annotation"]["lead_time"] = SECONDS[annotator] + self.rng.random()
            self.service.receive(body)

    def people(self, number: int) -> Iterator[int]:
        yield 3 if number % 3 else 4
        if number % 4 == 0:
            yield 5

    def train(self, version: str) -> None:
        """A run that ends with a new version serving."""
        run_id = self.run(f"{version} (threshold)")
        parent = f"v{int(version[1:]) - 1:04d}"
        self.publish(version, parent, run_id)
        report = {
            "reasons": [f"preference_accuracy went from 0.61 to 0.7{version[-1]}: not worse."],
            "active": {"preference_accuracy": metric(0.61), "answer_accuracy": metric(0.95)},
            "challenger": {"preference_accuracy": metric(0.7 + 0.03 * int(version[-1]))},
        }
        self.now += 95
        with self.service.store.write() as conn:
            owner, now = "a worker", self.now
            runs.finish(conn, run_id, RunState.PROMOTED, owner=owner, now=now, version=version, report=report)
            versions.switch(conn, PROJECT, version, reason="the gate", who=f"run {run_id}", now=now)

    def run(self, trigger: str) -> int:
        """A run that has begun, with its losses."""
        self.now += 5
        with self.service.store.write() as conn:
            run_id, _ = runs.enqueue(conn, PROJECT, trigger=trigger, now=self.now)
            claimed = runs.claim(conn, owner="a worker", now=self.now)
            assert claimed is not None
            assert claimed.run_id == run_id
            losses = [[step, 0.6 + 2.2 * 0.97**step + self.rng.gauss(0, 0.05)] for step in range(1, 121)]
            progress = {"stage": "done", "step": 120, "steps": 120, "loss": None, "losses": losses}
            runs.heartbeat(conn, run_id, owner="a worker", now=self.now, progress=progress)
        return run_id

    def fail(self) -> None:
        """A run that failed, with a reason as ugly as they come."""
        run_id = self.run("anna <b>(illume train)</b>")
        with self.service.store.write() as conn:
            runs.finish(
                conn,
                run_id,
                RunState.FAILED,
                owner="a worker",
                now=self.now,
                error="The loss became nan at step 3 of 120. <script>alert(1)</script>",
            )

    def begin_run(self) -> int:
        """A run that is going on: 38 of 120 steps."""
        run_id = self.run("threshold")
        losses = [[step, 0.6 + 2.2 * 0.97**step + self.rng.gauss(0, 0.05)] for step in range(1, 39)]
        self.tell(run_id, 38, losses)
        return run_id

    def tell(self, run_id: int, step: int, losses: list[list[float]]) -> None:
        """The live run's progress."""
        told = {"stage": "training", "step": step, "steps": 120, "loss": losses[-1][1], "eta_s": 82.0 - step}
        with self.service.store.write() as conn:
            runs.heartbeat(conn, run_id, owner="a worker", now=self.now, progress={**told, "losses": losses})

    def publish(self, version: str, parent: str, run_id: int) -> None:
        staged = self.folder / f"staged-{version}"
        staged.mkdir()
        (staged / "adapter_model.safetensors").write_bytes(version.encode())
        (staged / "adapter_config.json").write_text("{}")
        published = self.service.registry.publish(
            PROJECT,
            staged,
            parent=parent,
            base_model="embedded",
            base_model_hash="abc",
            training_set=f"{run_id:064x}",
            config={"run_id": run_id},
            seed=0,
            metrics={
                "gate": "promote",
                "challenger": {"preference_accuracy": metric(0.7 + 0.03 * int(version[-1]))},
            },
            versions={},
            created_at=self.now,
        )
        assert published.version == version
        assert parent == (BASE_VERSION if version == "v0001" else parent)


def metric(value: float) -> dict[str, Any]:
    """A metric as reports hold it."""
    return {"value": value, "low": value - 0.08, "high": value + 0.08, "n": 48, "higher_is_better": True}
