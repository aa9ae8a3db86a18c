"""`illume demo`: a real Label Studio, the backend, the worker, a project with candidates, in one folder.

Every step looks first at what is there, so a second start takes seconds and a broken one is completed.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import label_config
from backend.connect import Connector, check_reachable
from backend.demo.bootstrap import personal_access_token
from backend.demo.labelstudio_server import LabelStudioServer
from backend.demo.pictures import Pictures, make_pictures
from backend.demo.processes import Child, ProcessError, Supervisor, require_free_port, stop_on_terminate
from backend.demo.project import ensure_project
from backend.presample import unpushed, waiting
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, projects

USER = "demo@example.com"
TITLE = "Explain the picture (ILLUME demo)"
SEED = 7
#: Loading the base model and sampling 60 tasks takes about a minute on two cores.
CANDIDATES_WITHIN_S = 900.0
BACKEND_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Tour:
    """What the demo is asked for.

    Attributes:
        folder: everything the demo makes lies below it.
        label_studio: the `label-studio` program.
        tasks: number of tasks.
        port, label_studio_port: loopback ports of the backend and of Label Studio.
        say: shows a line of progress.
        configuration: the labelling configuration, one of `label_config.NAMES`; None: the one that the
            demo has had so far, "select" for a new one.
    """

    folder: Path
    label_studio: Path
    tasks: int
    port: int
    label_studio_port: int
    say: Callable[[str], None]
    configuration: str | None = None

    @property
    def url(self) -> str:
        """Where Label Studio answers."""
        return f"http://127.0.0.1:{self.label_studio_port}"

    @property
    def config(self) -> Path:
        """The settings file of the demo's backend."""
        return self.folder / "illume.toml"


def run(tour: Tour) -> None:
    """Set everything up, say where to click, and run until Ctrl-C.

    Raises:
        ProcessError: a port is taken, a program is missing or ends by itself.
        LabelStudioError: Label Studio refuses a step.
    """
    tour.folder.mkdir(parents=True, exist_ok=True)
    with _alone(tour.folder), stop_on_terminate(), Supervisor() as supervisor:
        try:
            require_free_port(tour.label_studio_port, "--label-studio-port")
            require_free_port(tour.port, "--port")
            project_id = _set_up(tour, supervisor)
            _tell(tour, project_id)
            supervisor.wait()
        except KeyboardInterrupt:
            pass
        finally:
            (tour.folder / "ready.json").unlink(missing_ok=True)
            tour.say("Stopping what the demo started ...")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make sure that no other demo runs in this folder; the lock goes with the process, however it ends."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProcessError(
                f"A demo runs in {folder} already.",
                todo="Use it, or end it with Ctrl-C where it was started.",
            ) from error
        yield


def _set_up(tour: Tour, supervisor: Supervisor) -> int:
    password = _kept(tour.folder / "password")
    tour.say("1/6  starting Label Studio (the first time it makes its database: about a minute)")
    server = _label_studio(tour, supervisor, password)
    tour.say(f"2/6  drawing {tour.tasks} pictures")
    pictures = _pictures(tour)
    server.wait_until_ready(lambda line: tour.say(f"     {line}"))
    tour.say("3/6  signing in, making a personal access token")
    token = personal_access_token(tour.url, USER, password, tour.folder / "token")
    _write_config(tour, token)
    with LabelStudio(tour.url, token, timeout_s=60.0) as label_studio:
        tour.say("4/6  project, labelling configuration, tasks")
        project_id = ensure_project(label_studio, TITLE, label_config.read(_chosen(tour)), pictures)
        tour.say("5/6  starting backend and worker, connecting them with Label Studio")
        backend = supervisor.start(_illume(tour, "serve"))
        _wait_for_backend(tour, backend)
        service = Service(load_settings())
        try:
            for change in Connector(service, label_studio, project_id).changes():
                tour.say(f"     {change.text}")
                change.apply()
            check_reachable(label_studio, project_id, service.settings.backend_url)
            worker = supervisor.start(_illume(tour, "worker"))
            tour.say("6/6  sampling candidates for every task")
            _wait_for_candidates(tour, service, project_id, worker)
        finally:
            service.close()
    return project_id


def _chosen(tour: Tour) -> str:
    """The labelling configuration that was asked for, now or last."""
    kept = tour.folder / "label-config"
    if tour.configuration is not None:
        kept.write_text(tour.configuration, encoding="utf-8")
    name = kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""
    return name if name in label_config.NAMES else label_config.NAMES[0]


def _label_studio(tour: Tour, supervisor: Supervisor, password: str) -> LabelStudioServer:
    server = LabelStudioServer(
        tour.label_studio,
        tour.folder / "label-studio",
        tour.label_studio_port,
        tour.folder / "files",
        USER,
        password,
    )
    return supervisor.start(server)


def _pictures(tour: Tour) -> Pictures:
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 2.0:
            last = time.monotonic()
            tour.say(f"     {done}/{total}")

    return make_pictures(tour.folder / "files" / "pictures", tour.tasks, SEED, progress)


def _write_config(tour: Tour, token: str) -> None:
    """Settings of serve, worker and of `illume --config`; ILLUME_* variables still win over them."""
    values = {
        "data_dir": str((tour.folder / "illume").absolute()),
        "label_studio_url": tour.url,
        "label_studio_token": token,
        "backend_url": f"http://127.0.0.1:{tour.port}",
        "port": tour.port,
        "train_after": 120,
        "gate_policy": str(_write_gate_policy(tour).absolute()),
    }
    # every JSON string and number here is the same in TOML
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    draft = tour.config.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("# Made by `illume demo`; written anew at every start.\n" + "\n".join(lines) + "\n")
    draft.replace(tour.config)
    os.environ["ILLUME_CONFIG"] = str(tour.config.absolute())


def _write_gate_policy(tour: Tour) -> Path:
    """Limits of the demo's gate: a dozen judged tasks, two of them held out, should show the loop."""
    path = tour.folder / "gate.toml"
    path.write_text(
        "# Made by `illume demo`. Where the work is real, ask for evidence: leave these lines out.\n"
        "least_items = 0\nabove_chance = false\n",
        encoding="utf-8",
    )
    return path


def _illume(tour: Tour, command: str) -> Child:
    return Child(
        f"illume {command}",
        [sys.executable, "-m", "backend.cli", command],
        environment=os.environ,
        log=tour.folder / f"{command}.log",
    )


def _wait_for_backend(tour: Tour, backend: Child) -> None:
    url = f"http://127.0.0.1:{tour.port}/health"
    started = time.monotonic()
    while time.monotonic() - started < BACKEND_WITHIN_S:
        backend.check()
        try:
            if httpx.get(url, timeout=2.0, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise ProcessError(
        f"illume serve did not answer at {url} in {BACKEND_WITHIN_S:.0f} s.", todo=backend.tail()
    )


def _wait_for_candidates(tour: Tour, service: Service, project_id: int, worker: Child) -> None:
    started, shown = time.monotonic(), -1
    while True:
        worker.check()
        with service.store.read() as conn:
            project = projects.get(conn, project_id)
            key = {"version": project.active_version, "plan": service.sampler.key(project)}
            total = projects.count_tasks(conn, project_id)
            sampled, pushed = candidates.count(conn, project_id, **key)
        if not waiting(service, project) and not unpushed(service, project):
            return
        if sampled != shown:
            tour.say(f"     {sampled}/{total} sampled, {pushed} in Label Studio")
            shown = sampled
        if time.monotonic() - started > CANDIDATES_WITHIN_S:
            raise ProcessError(
                f"Only {pushed} of {total} tasks have candidates after {CANDIDATES_WITHIN_S:.0f} s.",
                why=f"The end of the worker's log:\n{worker.tail()}\n",
                todo=f"All of it is in {worker.log}.",
            )
        time.sleep(1.0)


def _tell(tour: Tour, project_id: int) -> None:
    illume = f"{_short(Path(sys.executable).parent / 'illume')} --config {_short(tour.config)}"
    stream = f"{tour.url}/projects/{project_id}/data?labeling=1"
    password = _kept(tour.folder / "password")
    ready = {"url": tour.url, "project": project_id, "stream": stream, "user": USER}
    draft = tour.folder / "ready.json.new"
    draft.write_text(json.dumps(ready), encoding="utf-8")
    draft.replace(tour.folder / "ready.json")
    tour.say(
        f"""
Ready.

  Open      {stream}
  Login     {USER}
  Password  {password}

  1. Tick every explanation that is true of the picture and supports the answer: keys 1 to 6,
     N for none of them, Ctrl+Enter submits and brings the next task.{_more(tour)}
  2. After a dozen tasks start training: {tour.url}/projects/{project_id}/settings/ml,
     the three dots beside ILLUME, Start Training, and once more to confirm. Or: {illume} train
  3. Label Studio shows no progress of training; the status page does:
     http://127.0.0.1:{tour.port}/status/{project_id}   (or: {illume} runs)
     A minute later the next task shows candidates of v0001, if it is not worse.

  All versions     {illume} versions
  Is it all well?  {illume} doctor
  Logs             {_short(tour.folder / "serve.log")}  {_short(tour.folder / "worker.log")}

Ctrl-C ends the demo; start it again and it goes on where it was."""
    )


def _more(tour: Tour) -> str:
    if _chosen(tour) != "full":
        return ""
    return (
        '\n     Q, W, ... star the best. For other candidates open "Criticise and let the model try again".'
    )


def _short(path: Path) -> str:
    """The path as one would type it here."""
    here, path = Path.cwd(), path.absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _kept(path: Path) -> str:
    """A password made at the first start and kept, readable by its owner only."""
    if not path.is_file():
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(9))
        draft.replace(path)
    return path.read_text(encoding="utf-8").strip()
