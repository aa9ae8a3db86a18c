"""The whole loop as users live it: `illume demo`, a real Label Studio, a real browser, real ticks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Response, sync_playwright

from backend.demo.pictures import read_pictures
from backend.demo.processes import require_free_port
from backend.service import Service
from backend.settings import BASIC_USER, load_settings
from illume_plugin.embedded import check
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, events, judgements, projects, runs
from illume_plugin.types import Origin, Run, RunState, Verdict
from live.conftest import executable, free_port
from live.status_page import StatusPage

pytestmark = [pytest.mark.live, pytest.mark.torch, pytest.mark.timeout(1500)]

TO_LABEL = 12
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def _hear_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Demo:
    """`illume demo` in a folder of its own: started, stopped as by Ctrl-C, started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        command = [sys.executable, "-m", "backend.cli", "demo", "--folder", str(self.folder), "--tasks", "60"]
        command += ["--label-studio", str(executable())]
        command += ["--port", str(self.ports[0]), "--label-studio-port", str(self.ports[1])]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ILLUME_")}
        environment["ILLUME_TRAIN_AFTER"] = "0"  # only Start Training starts a run in these tests
        with (self.folder / "demo.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log, preexec_fn=_hear_ctrl_c
            )
        ready = self.folder / "ready.json"
        process = self.process
        wait_for(lambda: ready.is_file() or process.poll() is not None, 900, "the demo to be ready")
        assert process.poll() is None, (self.folder / "demo.log").read_text()
        told = json.loads(ready.read_text())
        self.url, self.stream, self.project, self.user = (
            told[key] for key in ("url", "stream", "project", "user")
        )
        self.password = (self.folder / "password").read_text()
        os.environ["ILLUME_CONFIG"] = str(self.folder / "illume.toml")
        self.service = Service(load_settings(train_after=0))

    def stop(self) -> None:
        """Press Ctrl-C and wait for its end."""
        if self.process is not None:
            self.service.close()
            self.process.send_signal(signal.SIGINT)
            assert self.process.wait(timeout=60) == 0
            self.process = None
            os.environ.pop("ILLUME_CONFIG", None)

    def illume(self, *arguments: str) -> str:
        """Run an `illume` command on the demo; returns what it printed."""
        command = [
            sys.executable,
            "-m",
            "backend.cli",
            "--config",
            str(self.folder / "illume.toml"),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def version_of_setup(self) -> str:
        """What our /setup tells Label Studio."""
        settings = self.service.settings
        answer = httpx.post(
            f"{settings.backend_url}/setup",
            json={"project": f"{self.project}.1"},
            auth=(BASIC_USER, settings.shared_secret()),
        )
        return str(answer.raise_for_status().json()["model_version"])

    def texts(self, task_id: int, version: str) -> list[str]:
        """The stored candidates of a task in display order."""
        with self.service.store.read() as conn:
            found = candidates.get(
                conn, self.project, [task_id], version=version, plan=self.service.plan.hash
            )
        return found[task_id].texts


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        demo.start()
        yield demo
    finally:
        if demo.process is not None:
            demo.process.terminate()
            demo.process.wait(timeout=60)
        os.environ.pop("ILLUME_CONFIG", None)


@pytest.fixture
def page() -> Iterator[Page]:
    if not Path(CHROMIUM).is_file():
        pytest.fail(f"Chromium is not installed at {CHROMIUM}: install it, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *root])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def wait_for(done: Callable[[], Any], seconds: float, what: str) -> None:
    """Ask again and again until `done`; fail with `what` was waited for."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.3)


@dataclass(frozen=True)
class Shown:
    """A task as the annotator sees it."""

    task_id: int
    scene: int
    question: str
    answer: str
    texts: list[str]


class Labeller:
    """An annotator at the label stream, with eyes (the page) and keys."""

    def __init__(self, page: Page, demo: Demo) -> None:
        self.page = page
        self.demo = demo
        self.answers: list[Response] = []
        page.on("response", self._note)

    def _note(self, response: Response) -> None:
        if "next_task" in response.url and response.ok:
            self.answers.append(response)

    def _told(self) -> dict[str, Any]:
        """The task that Label Studio gave the page last."""
        told: dict[str, Any] = self.answers[-1].json() if self.answers else {}
        return told

    def log_in(self) -> None:
        self.page.goto(f"{self.demo.url}/user/login/")
        self.page.fill("input[name=email]", self.demo.user)
        self.page.fill("input[name=password]", self.demo.password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open_stream(self) -> None:
        self.answers.clear()
        self.page.goto(self.demo.stream)

    def look(self, *, after: int | None = None) -> Shown:
        """Wait until a task other than `after` is on the screen with its candidates, and read it."""
        wait_for_page(self.page, lambda: self._told().get("id", after) != after)
        told = self._told()
        self.page.locator(".il-q h3", has_text=told["data"]["question"]).first.wait_for()
        self.page.locator(".il-c .lsf-row p").first.wait_for()
        self.page.locator(".il-l img").first.wait_for()
        return Shown(
            task_id=told["id"],
            scene=told["data"]["scene"],
            question=self.page.locator(".il-q h3").inner_text(),
            answer=self.page.locator(".il-a h3").inner_text(),
            texts=[text.strip() for text in self.page.locator(".il-c .lsf-row p").all_inner_texts()],
        )

    def ticked(self) -> list[int]:
        """Rows whose box is ticked on the screen, from 1 (11: none of them fits)."""
        boxes = self.page.locator(".il-f .lsf-choice input")
        return [k + 1 for k in range(boxes.count()) if boxes.nth(k).is_checked()]

    def tick(self, rows: list[int]) -> None:
        """Press the number keys of the rows, or N when there are none; see that they are ticked."""
        for row in rows:
            self.page.keyboard.press(str(row % 10))
        if not rows:
            self.page.keyboard.press("n")
        wait_for_page(self.page, lambda: self.ticked() == (rows or [11]))

    def submit(self) -> None:
        self.page.keyboard.press("Control+Enter")


def wait_for_page(page: Page, done: Callable[[], Any]) -> None:
    """Like wait_for, but lets the browser's events in while waiting."""
    end = time.monotonic() + 60
    while not done():
        if time.monotonic() > end:
            pytest.fail("waited 60 s in vain for the page")
        page.wait_for_timeout(100)


def fitting_rows(demo: Demo, shown: Shown) -> list[int]:
    """The rows that a careful annotator would tick: the picture world's checker knows."""
    world = read_pictures(demo.folder / "files" / "pictures").tasks[shown.scene - 1]
    assert shown.question == world.question_text
    assert shown.answer == world.answer
    verdicts = [check(world.scene, world.question, world.answer, text) for text in shown.texts]
    return [row for row, verdict in enumerate(verdicts, start=1) if verdict.fits]


def picture_of_page(page: Page, name: str, folder: Path) -> None:
    """Keep a screenshot; `make screenshots` asks for it in docs/."""
    page.screenshot(path=folder / name)
    if os.environ.get("ILLUME_SCREENSHOTS"):
        shutil.copy(folder / name, Path(os.environ["ILLUME_SCREENSHOTS"]) / name)


def last_run(demo: Demo) -> Run:
    with demo.service.store.read() as conn:
        return runs.recent(conn, demo.project)[0]


def label(labeller: Labeller, demo: Demo, folder: Path) -> dict[int, dict[str, Verdict]]:
    """Tick and submit twelve tasks with keys; returns what was said, task -> text -> verdict."""
    said: dict[int, dict[str, Verdict]] = {}
    before = None
    for _ in range(TO_LABEL):
        shown = labeller.look(after=before)
        assert shown.texts == demo.texts(shown.task_id, "v0000"), "the screen shows what the store holds"
        assert labeller.ticked() == [], "nothing is ticked beforehand"
        fits = fitting_rows(demo, shown)
        labeller.tick(fits)
        if len(fits) > 1:
            picture_of_page(labeller.page, "loop.png", folder)
        rows = enumerate(shown.texts, start=1)
        said[shown.task_id] = {text: Verdict.FITS if row in fits else Verdict.UNFIT for row, text in rows}
        labeller.submit()
        before = shown.task_id
    labeller.look(after=before)  # the last one is submitted when the next one is there
    assert len(said) == TO_LABEL, "twelve different tasks were submitted"
    return said


def arrived(demo: Demo) -> dict[int, dict[str, Verdict]]:
    """What the store knows of people's verdicts, task -> text -> verdict."""
    found: dict[int, dict[str, Verdict]] = {}
    with demo.service.store.read() as conn:
        for one in judgements.preferences_in(conn, demo.project):
            assert one.origin is Origin.CANDIDATE
            assert one.version == "v0000"
            found.setdefault(one.task_id, {})[one.text] = one.verdict
    return found


def press_start_training(demo: Demo) -> Run:
    """Start Training through Label Studio's own API, as its button does; returns the run as it ended."""
    with LabelStudio(demo.url, demo.service.settings.token(), timeout_s=60) as label_studio:
        (backend,) = label_studio.backends(demo.project)
        label_studio.train(backend.backend_id)

    def last_run() -> Run:
        with demo.service.store.read() as conn:
            return runs.recent(conn, demo.project)[0]

    wait_for(lambda: last_run().state not in (RunState.QUEUED, RunState.RUNNING), 900, "the run to end")
    return last_run()


def all_fresh(demo: Demo, judged: Collection[int]) -> bool:
    """Whether every task that nobody has judged has candidates of v0001 in Label Studio."""
    key = {"version": "v0001", "plan": demo.service.plan.hash}
    with demo.service.store.read() as conn:
        done = candidates.sampled_tasks(conn, demo.project, **key)
        open_tasks = set(projects.task_data(conn, demo.project)) - set(judged)
        return open_tasks <= done and not candidates.unpushed(conn, demo.project, limit=1, **key)


def test_the_loop(demo: Demo, page: Page, tmp_path: Path) -> None:
    labeller = Labeller(page, demo)
    labeller.log_in()
    labeller.open_stream()

    said = label(labeller, demo, tmp_path)
    assert any(Verdict.FITS in verdicts.values() for verdicts in said.values())
    wait_for(lambda: len(arrived(demo)) == TO_LABEL, 60, "twelve annotations to arrive")
    assert arrived(demo) == said, "every tick has arrived, and nothing else"
    with demo.service.store.read() as conn:
        assert events.problems(conn) == []

    assert page.context.browser
    status = StatusPage(page.context.browser.new_page(), demo)
    status.agrees_with_label_studio("v0000")
    assert demo.version_of_setup() == "v0000"
    run = press_start_training(demo)
    assert run.trigger == "label studio"
    assert run.state is RunState.PROMOTED, demo.illume("runs")
    assert run.version == "v0001"

    assert demo.version_of_setup() == "v0001"
    labeller.open_stream()
    shown = labeller.look()
    assert shown.task_id not in said
    assert shown.texts == demo.texts(shown.task_id, "v0001"), "the next task shows the new version"
    assert "v0001 *serves*" in " ".join(demo.illume("versions").split())
    wait_for(lambda: all_fresh(demo, said), 900, "fresh candidates for every unjudged task")

    status.agrees_with_label_studio("v0001")
    status.is_healthy()
    status.roll_back("v0000", "to see the old ones")
    assert demo.version_of_setup() == "v0000"
    status.promote("v0001", "the new ones are better")
    assert demo.version_of_setup() == "v0001"
    status.agrees_with_label_studio("v0001")
    status.pictures(tmp_path)
    assert status.problems == []

    assert "v0000 serves" in demo.illume("rollback")
    assert demo.version_of_setup() == "v0000"
    labeller.open_stream()
    shown = labeller.look()
    assert shown.texts == demo.texts(shown.task_id, "v0000"), "the old version is back"
    assert "Everything needed works." in demo.illume("doctor")


def counts(demo: Demo) -> tuple[int, int, int, int]:
    """Tasks and predictions in Label Studio, webhooks, and events that are kept."""
    with LabelStudio(demo.url, demo.service.settings.token(), timeout_s=60) as label_studio:
        found = len(list(label_studio.tasks(demo.project)))
        headers = label_studio.auth_headers()
        hooks = len(label_studio.webhooks(demo.project))
    project = httpx.get(f"{demo.url}/api/projects/{demo.project}/", headers=headers, timeout=60)
    with demo.service.store.read() as conn:
        kept = events.count(conn, demo.project)
    return found, project.json()["total_predictions_number"], hooks, kept


def test_the_demo_ends_with_ctrl_c_and_goes_on_where_it_was(demo: Demo) -> None:
    before = counts(demo)
    demo.stop()
    for port in demo.ports:
        require_free_port(port, "--port")
    demo.start()
    assert counts(demo) == before
