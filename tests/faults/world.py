"""Label Studio, one project in it, the relays on both ways, and the processes under test."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import SELECT
from live.conftest import LiveLabelStudio, free_port

from backend.connect import TITLE, Connector
from backend.demo.pictures import make_pictures
from backend.service import Service
from backend.settings import BASIC_USER, load_settings
from faults.patience import rest
from faults.people import Annotators
from faults.programs import TESTS, Program
from faults.relay import Mode, Relay
from illume_plugin.errors import ModelError, NotFoundError
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.registry import Registry, open_registry
from illume_plugin.store import Store

SECRET = "of-the-fault-harness"
#: Room of the data folder, where it can be a file system of its own.
ROOM_MB = 64
PICTURES = 12
#: A training that takes seconds.
SMALL_TRAINING = {"max_steps": 6, "checkpoint_steps": 2, "batch_size": 4, "micro_batch_size": 4, "epochs": 3}
START_WITHIN_S = 120.0


class World:
    """Everything that takes part.

    Args:
        folder: empty, for data and logs.
        light: whether stand-ins take the place of the model and its training.
    """

    def __init__(self, studio: LiveLabelStudio, folder: Path, *, seed: int, light: bool) -> None:
        self.folder = folder
        self.data_dir = folder / "room" / "data"
        self.light = light
        self.has_own_room = _own_room(folder / "room")
        self.marks = folder / "marks"
        self.marks.mkdir()
        port = free_port()
        self.backend_port = port
        studio_port = int(studio.url.rsplit(":", 1)[1])
        self.to_studio = Relay(free_port(), studio_port, seed=seed)
        # who presses Start Training sees that nothing has begun, and presses it again
        spared = b"START_TRAINING"
        self.to_backend = Relay(free_port(), port, only="/webhook", spared=spared, seed=seed)
        self.settings = load_settings(
            data_dir=self.data_dir,
            label_studio_url=self.to_studio.url,
            label_studio_token=studio.token,
            backend_url=self.to_backend.url,
            secret=SECRET,
            port=port,
        )
        self.backend = self.program("backend", "serve")
        self.worker = self.program("worker", "worker")
        self.store = Store(self.settings.store_url)
        self.door = LabelStudio(studio.url, studio.token, timeout_s=60)
        self.http = httpx.Client(base_url=studio.url, timeout=120, auth=self.door._http.auth, trust_env=False)
        self.own = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=60, auth=(BASIC_USER, SECRET), trust_env=False
        )
        self.served: Counter[str] = Counter()
        self.broken: list[str] = []
        self.project_id, self.people = self._project(studio, random.Random(seed))

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.backend, self.worker

    @property
    def registry(self) -> Registry:
        return open_registry("", self.data_dir, cache_bytes=2**30)

    def program(self, name: str, *words: str) -> Program:
        """An `illume` command."""
        return Program(name, *words, environment=self._environment(), folder=self.folder)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ILLUME_", "FAULTS_"))
        }
        given = {
            "DATA_DIR": str(self.data_dir),
            "LABEL_STUDIO_URL": self.settings.label_studio_url,
            "LABEL_STUDIO_TOKEN": self.settings.token(),
            "BACKEND_URL": self.settings.backend_url,
            "SECRET": SECRET,
            "PORT": str(self.settings.port),
            "RECONCILE_EVERY_S": "5",
            "TRAIN_AFTER": "0",
            "TRAIN": json.dumps(SMALL_TRAINING),
            "SAMPLES": "4",
            "TEMPERATURES": "0.7",
            "CANDIDATES": "2",
            "MAX_NEW_TOKENS": "60",
            "SCORE_BLIND": "false",
            "TORCH_THREADS": "1",
        }
        return {
            **kept,
            **{f"ILLUME_{name}": value for name, value in given.items()},
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "FAULTS_LIGHT": "1" if self.light else "",
        }

    def _project(self, studio: LiveLabelStudio, rng: random.Random) -> tuple[int, Annotators]:
        """A project with pictures, connected as `illume connect` does."""
        pictures = make_pictures(studio.document_root / "fault-pictures", PICTURES, 3, lambda *_: None)
        project_id = self.door.create_project(f"faults {rng.getrandbits(32)}", SELECT).project_id
        self.door.create_local_storage(project_id, str(pictures.folder), "pictures")
        people = Annotators(self.http, project_id, rng, pictures.task_data())
        for _ in range(4):
            people.import_tasks()
        self.start()
        service = Service(self.settings)
        assert service.label_studio is not None
        for change in Connector(service, service.label_studio, project_id).changes():
            change.apply()
        service.close()
        return project_id, people

    # -- processes -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start both, and wait until the backend answers."""
        for program in self.programs:
            program.start()
        assert self.until(self.answers, START_WITHIN_S), self.backend.tail()

    def answers(self) -> bool:
        """Whether the backend does."""
        try:
            return self.own.get("/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    def until(self, done: Any, seconds: float, *, look_s: float = 0.1) -> bool:
        """Keep everything running until `done()`; returns whether that came in time."""

        def look() -> bool:
            for program in self.programs:
                program.supervise()
            return bool(done())

        return rest(seconds, until=look, look_s=look_s)

    def command(self, *words: str, fault: str | None = None, mark: Path | None = None) -> int:
        """Run an `illume` command to its end; returns its exit status."""
        program = self.program("command", *words)
        program.start(fault=fault, mark=mark)
        assert self.until(lambda: not program.running, 180), program.tail()
        return program.wait(0)

    # -- what breaks -----------------------------------------------------------------------------------

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """No byte more can be written into the data folder."""
        ballast = self.data_dir.parent / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                for size in (2**20, 2**12, 1):
                    try:
                        while True:
                            file.write(b"\0" * size)
                    except OSError:
                        continue
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def database_locked(self) -> Iterator[None]:
        """Another process is in the middle of a write."""
        with closing(
            sqlite3.connect(self.data_dir / "illume.sqlite3", timeout=60, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @contextmanager
    def relayed(self, relay: Relay, mode: Mode) -> Iterator[None]:
        """Requests on one of the two ways suffer."""
        relay.set(mode)
        try:
            yield
        finally:
            relay.set(Mode.PASS)

    # -- what is served --------------------------------------------------------------------------------

    def ask_setup(self) -> str | None:
        """The version that the backend says it serves, whose files are hashed; None without an answer."""
        try:
            answer = self.own.post("/setup", json={"project": f"{self.project_id}.1"}, timeout=30)
        except httpx.TransportError:
            return None
        if not answer.is_success:
            return None
        version = str(answer.json()["model_version"])
        self.served[version] += 1
        if version != "v0000":
            self._check_files(version)
        return version

    def _check_files(self, version: str) -> None:
        try:
            self.registry.verify(self.project_id, version)
        except (ModelError, NotFoundError) as error:
            self.broken.append(f"{version}: {error}")

    def train(self) -> None:
        """Press Start Training in Label Studio."""
        try:
            backends = (
                self.http.get("/api/ml/", params={"project": self.project_id}).raise_for_status().json()
            )
            ours = next(one for one in backends if one["title"] == TITLE)
            self.http.post(f"/api/ml/{ours['id']}/train", json={})
        except httpx.HTTPError as error:
            self.people.done[f"refused: train: {str(error)[:60]}"] += 1

    def end(self) -> None:
        """Stop everything."""
        for program in self.programs:
            program.stop()
        self.to_studio.end()
        self.to_backend.end()
        self.store.close()
        self.http.close()
        self.door.close()
        self.own.close()
        if self.has_own_room:
            subprocess.run(["umount", str(self.folder / "room")], check=False)


def _own_room(folder: Path) -> bool:
    """Make the folder a small file system in memory, so that it can be full; where that is allowed."""
    folder.mkdir(parents=True)
    if shutil.which("mount") is None:
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class Watch:
    """Asks the backend again and again what it serves, in a thread of its own, until the block ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            self._world.ask_setup()
            rest(0.5, until=self._end.is_set)
