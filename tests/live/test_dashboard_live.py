"""The status page in a real browser: light, dark, narrow, by keyboard, live, and without a script."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SayingGenerator
from labelled_project import PROJECT, LabelledProject
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from backend.app import create_app
from backend.service import Service
from backend.settings import Settings
from illume_plugin.store import projects, runs
from live.test_loop_live import CHROMIUM, QUIET

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

PAGES = ["", "/runs", "/runs/1", "/versions", "/candidates", "/annotators", "/train"]
#: Pictures for docs/.
SHOWN = {
    "status-overview-light.png",
    "status-overview-narrow-dark.png",
    "status-versions-dark.png",
    "status-candidates-light.png",
}
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Iterator[LabelledProject]:
    service = Service(settings)
    service.engine._generator = SayingGenerator()
    project = LabelledProject(service, tmp_path)
    project.fill()
    yield project
    service.close()


@pytest.fixture
def url(project: LabelledProject) -> Iterator[str]:
    """Where the status page answers, with a run that is going on."""
    app = create_app(project.service.settings, service=project.service)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join(30)
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).is_file():
        pytest.fail(f"Chromium is not installed at {CHROMIUM}: install it, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *root])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, **how: Any) -> Iterator[Page]:
    """A page on which any error of a script, or any breach of our own policy, fails the test."""
    context = browser.new_context(**how)
    page = context.new_page()
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda told: problems.append(told.text) if told.type == "error" else None)
    yield page
    context.close()
    assert problems == []


def picture_of(page: Page, name: str, folder: Path) -> None:
    """Keep a screenshot; `make screenshots` asks for some of them in docs/."""
    width, height = page.evaluate("[innerWidth, Math.min(document.body.scrollHeight, 1700)]")
    clip = {"x": 0, "y": 0, "width": width, "height": height}
    page.screenshot(path=folder / name, full_page=True, clip=clip)
    if os.environ.get("ILLUME_SCREENSHOTS") and name in SHOWN:
        shutil.copy(folder / name, Path(os.environ["ILLUME_SCREENSHOTS"]) / name)


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)]
)
def test_every_page_fits_the_screen(
    url: str, project: LabelledProject, browser: Browser, tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    project.begin_run()
    with opened(browser, color_scheme=scheme, viewport=size) as page:
        for path in PAGES:
            page.goto(f"{url}/status/{PROJECT}{path}")
            expect(page.locator("h1").first).to_be_visible()
            beyond = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert beyond <= 0, f"{path} is {beyond} px too wide at {size['width']}"
            for image in page.locator("main img").all():
                image.scroll_into_view_if_needed()
                page.wait_for_function("image => image.complete", arg=image.element_handle())
                assert image.evaluate("image => image.naturalWidth") > 0
            page.evaluate("scrollTo(0, 0)")
            shade = page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            )
            assert (sum(shade) / 3 < 80) is (scheme == "dark")
            name = path.strip("/").replace("/", "-") or "overview"
            width = "narrow-" if size is NARROW else ""
            picture_of(page, f"status-{name}-{width}{scheme}.png", tmp_path)


def test_a_run_is_followed_without_loading_the_page(
    url: str, project: LabelledProject, browser: Browser
) -> None:
    run_id = project.begin_run()
    with opened(browser) as page:
        page.goto(f"{url}/status/{PROJECT}/runs/{run_id}")
        page.evaluate("window.stillTheSamePage = true")
        bar = page.locator("progress")
        expect(bar).to_have_attribute("value", f"{38 / 120:.3f}")
        page.get_by_role("link", name="Cancel").focus()
        project.tell(run_id, 90, [[step, 2.0 / step] for step in range(1, 91)])
        expect(bar).to_have_attribute("value", f"{90 / 120:.3f}")
        expect(page.get_by_text("90 of 120")).to_be_visible()
        expect(page.locator("svg.chart desc")).to_contain_text("0.022 at 90")
        expect(page.locator("#pulse")).to_have_text("live")
        assert page.evaluate("document.activeElement.textContent") == "Cancel…", (
            "the focus stays where it was"
        )
        assert page.evaluate("window.stillTheSamePage") is True


def test_by_keyboard_alone(url: str, project: LabelledProject, browser: Browser) -> None:
    with opened(browser) as page:
        page.goto(f"{url}/status/{PROJECT}/versions")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('href') || ''").endswith("/v0002/promote"):
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Let v0002 serve?")).to_be_visible()
        page.get_by_label("Why").focus()
        page.keyboard.type("the customer likes it short")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_have_text("v0002 serves now (before: v0004).")
        with project.service.store.read() as conn:
            assert projects.get(conn, PROJECT).active_version == "v0002"


def test_without_a_script(url: str, project: LabelledProject, browser: Browser) -> None:
    run_id = project.begin_run()
    with opened(browser, java_script_enabled=False) as page:
        page.goto(f"{url}/status/{PROJECT}")
        expect(page.get_by_role("heading", name="The loop at a glance")).to_be_visible()
        expect(page.locator("svg.chart").first).to_be_visible()
        page.get_by_role("link", name="Candidates").click()
        expect(page.locator("article.task").first).to_be_visible()
        page.get_by_role("link", name="Later tasks").click()
        expect(page.locator("article.task h2").first).to_have_text("Task 13")
        page.goto(f"{url}/status/{PROJECT}/runs/{run_id}")
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name=f"Cancel run {run_id}").click()
        expect(page.locator(".notice")).to_have_text(f"Run {run_id} will stop within seconds.")
        with project.service.store.read() as conn:
            assert runs.cancel_requested(conn, run_id)
