"""The whole loop as users live it: `illume demo`, a real Label Studio, a real browser, real ticks.

One story in one test, since every step needs the one before it: the labels of its parts are in the asserts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from live.conftest import executable, free_port
from playwright.sync_api import Page, sync_playwright

from backend.demo.pictures import read_pictures
from backend.service import Service
from backend.settings import BASIC_USER, load_settings
from illume_plugin.embedded import check
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import candidates, events, judgements, projects, runs
from illume_plugin.types import Origin, Run, RunState, Verdict

pytestmark = [pytest.mark.live, pytest.mark.torch, pytest.mark.timeout(1500)]

TO_LABEL = 12
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@dataclass(frozen=True)
class Demo:
    """The demo that runs, and its store."""

    folder: Path
    url: str
    stream: str
    project: int
    user: str
    password: str
    service: Service

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
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "backend.cli", "demo", "--folder", str(folder)]
    command += ["--label-studio", str(executable()), "--tasks", "60"]
    command += ["--port", str(free_port()), "--label-studio-port", str(free_port())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ILLUME_")}
    environment["ILLUME_TRAIN_AFTER"] = "0"  # only Start Training starts a run in this test
    with (folder / "demo.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            ready = folder / "ready.json"
            wait_for(lambda: ready.is_file() or process.poll() is not None, 900, "the demo to be ready")
            assert process.poll() is None, (folder / "demo.log").read_text()
            told = json.loads(ready.read_text())
            os.environ["ILLUME_CONFIG"] = str(folder / "illume.toml")
            service = Service(load_settings(train_after=0))
            yield Demo(
                folder=folder,
                url=told["url"],
                stream=told["stream"],
                project=told["project"],
                user=told["user"],
                password=(folder / "password").read_text(),
                service=service,
            )
            service.close()
        finally:
            os.environ.pop("ILLUME_CONFIG", None)
            process.terminate()
            process.wait(timeout=60)


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
        self.tasks: list[dict[str, Any]] = []
        page.on("response", self._note_task)

    def _note_task(self, response: Any) -> None:
        if "/next" in response.url and response.ok:
            with suppress(ValueError):
                self.tasks.append(response.json())

    def log_in(self) -> None:
        self.page.goto(f"{self.demo.url}/user/login/")
        self.page.fill("input[name=email]", self.demo.user)
        self.page.fill("input[name=password]", self.demo.password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open_stream(self) -> None:
        self.page.goto(self.demo.stream)

    def look(self, *, after: int | None = None) -> Shown:
        """Wait until a task other than `after` is on the screen with its candidates, and read it."""
        wait_for_page(self.page, lambda: self.tasks and self.tasks[-1]["id"] != after)
        told = self.tasks[-1]
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


def test_the_loop(demo: Demo, page: Page, tmp_path: Path) -> None:
    labeller = Labeller(page, demo)
    labeller.log_in()
    labeller.open_stream()

    # ticks: candidates on the first open, nothing ticked beforehand, number keys, Ctrl+Enter
    expected: dict[int, dict[str, Verdict]] = {}
    before = None
    for number in range(TO_LABEL):
        shown = labeller.look(after=before)
        assert shown.texts == demo.texts(shown.task_id, "v0000"), "the screen shows what the store holds"
        assert labeller.ticked() == [], "nothing is ticked beforehand"
        fits = fitting_rows(demo, shown)
        labeller.tick(fits)
        if len(fits) > 1 or number == TO_LABEL - 1:
            picture_of_page(page, "loop.png", tmp_path)
        expected[shown.task_id] = {
            text: Verdict.FITS if row in fits else Verdict.UNFIT
            for row, text in enumerate(shown.texts, start=1)
        }
        labeller.submit()
        before = shown.task_id
    assert len(expected) == TO_LABEL, "twelve different tasks were submitted"
    assert any(Verdict.FITS in verdicts.values() for verdicts in expected.values())

    # preferences: every tick of every submission has arrived, and nothing else
    def arrived() -> dict[int, dict[str, Verdict]]:
        found: dict[int, dict[str, Verdict]] = {}
        with demo.service.store.read() as conn:
            for one in judgements.preferences_in(conn, demo.project):
                assert one.origin is Origin.CANDIDATE
                assert one.version == "v0000"
                found.setdefault(one.task_id, {})[one.text] = one.verdict
        return found

    wait_for(lambda: len(arrived()) == TO_LABEL, 60, "twelve annotations to arrive")
    assert arrived() == expected
    with demo.service.store.read() as conn:
        assert events.count(conn, demo.project) >= TO_LABEL
        assert events.problems(conn) == []

    # training: Start Training through Label Studio's own API
    assert demo.version_of_setup() == "v0000"
    with LabelStudio(demo.url, demo.service.settings.token(), timeout_s=60) as label_studio:
        (backend,) = label_studio.backends(demo.project)
        label_studio.train(backend.backend_id)
    wait_for(lambda: last_run(demo).state not in (RunState.QUEUED, RunState.RUNNING), 600, "the run to end")
    run = last_run(demo)
    assert run.trigger == "label studio"
    assert run.state is RunState.PROMOTED, demo.illume("runs")
    assert run.version == "v0001"

    # the new version: in /setup, and on the screen for the next task
    assert demo.version_of_setup() == "v0001"
    labeller.open_stream()
    shown = labeller.look()
    assert shown.task_id not in expected
    assert shown.texts == demo.texts(shown.task_id, "v0001")
    assert "v0001 *serves*" in " ".join(demo.illume("versions").split())

    # unjudged tasks get fresh candidates without being opened
    def fresh() -> bool:
        with demo.service.store.read() as conn:
            done = candidates.sampled_tasks(conn, demo.project, version="v0001", plan=demo.service.plan.hash)
            return set(projects.task_data(conn, demo.project)) - set(expected) <= done

    wait_for(fresh, 600, "fresh candidates for every unjudged task")

    # rollback: the old version is back, in /setup and on the screen
    assert "v0000 serves" in demo.illume("rollback")
    assert demo.version_of_setup() == "v0000"
    labeller.open_stream()
    shown = labeller.look()
    assert shown.texts == demo.texts(shown.task_id, "v0000")

    # and the doctor has nothing to say against it
    assert "Everything needed works." in demo.illume("doctor")
