"""The status page of a running demo, as a team lead reads and uses it beside Label Studio."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Page, expect

from illume_plugin.labelstudio import LabelStudio

if TYPE_CHECKING:
    from live.test_loop_live import Demo

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
#: What the page and Label Studio say must be the same within this time, seconds.
AGREE_WITHIN_S = 60.0


class StatusPage:
    """A tab of its own."""

    def __init__(self, page: Page, demo: Demo) -> None:
        self.page = page
        self.demo = demo
        self.url = f"{demo.service.settings.backend_url}/status"
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda told: self.problems.append(told.text) if told.type == "error" else None)

    def open(self, path: str = "") -> None:
        """Open one of the project's pages."""
        self.page.goto(f"{self.url}/{self.demo.project}{path}")

    def shown(self) -> dict[str, str]:
        """The loop at a glance: what stands on each card."""
        cards = self.page.locator("#glance dl.cards > div").all()
        return {card.locator("dt").inner_text(): card.locator("dd").first.inner_text() for card in cards}

    def agrees_with_label_studio(self, version: str) -> None:
        """Wait, without loading the page again, until it tells what Label Studio holds."""
        self.open()
        told: tuple[object, object] = (None, None)
        end = time.monotonic() + AGREE_WITHIN_S
        while time.monotonic() < end:
            told = self._told(), self._in_label_studio(version)
            if told[0] == told[1]:
                return
            self.page.wait_for_timeout(500)
        pytest.fail(f"the page says {told[0]}, Label Studio holds {told[1]}")

    def _told(self) -> dict[str, int | str]:
        cards = self.shown()
        pushed = self.page.locator("#glance dd.quiet", has_text="in Label Studio").inner_text()
        return {
            "tasks": int(cards["Tasks"]),
            "judged": int(cards["Judged"]),
            "candidates in Label Studio": int(pushed.split()[0]),
            "version": cards["Serves"],
        }

    def _in_label_studio(self, version: str) -> dict[str, int | str]:
        number = self.demo.project
        with LabelStudio(self.demo.url, self.demo.service.settings.token(), timeout_s=60) as label_studio:
            headers = label_studio.auth_headers()
        with httpx.Client(base_url=self.demo.url, headers=headers, timeout=60, trust_env=False) as http:
            project = http.get(f"/api/projects/{number}/").raise_for_status().json()
            predictions = http.get("/api/predictions/", params={"project": number}).raise_for_status().json()
        own = {one["task"] for one in predictions if one["model_version"] == version}
        return {
            "tasks": project["task_number"],
            "judged": project["num_tasks_with_annotations"],
            "candidates in Label Studio": len(own),
            "version": version,
        }

    def roll_back(self, to: str, why: str) -> None:
        """Press Roll back, read what it will do, and mean it."""
        self.open("/versions")
        self.page.get_by_role("link", name="Roll back…").click()
        expect(self.page.get_by_role("heading", name=f"Roll back to {to}?")).to_be_visible()
        self._confirm(f"Roll back to {to}", why)
        expect(self.page.get_by_role("status").first).to_contain_text(f"{to} serves again")

    def promote(self, version: str, why: str) -> None:
        """Press Promote, read what it will do, and mean it."""
        self.open("/versions")
        self.page.get_by_role("link", name=f"Promote {version}").click()
        expect(self.page.get_by_role("heading", name=f"Let {version} serve?")).to_be_visible()
        self._confirm(f"Promote {version}", why)
        expect(self.page.get_by_role("status").first).to_contain_text(f"{version} serves now")

    def _confirm(self, button: str, why: str) -> None:
        self.page.get_by_label("Why").fill(why)
        self.page.get_by_role("button", name=button).click()

    def is_healthy(self) -> None:
        """Every piece is well; what Label Studio says of itself comes a moment later."""
        self.page.goto(f"{self.url}/health")
        expect(self.page.locator("#health")).to_contain_text("label studio", timeout=120_000)
        states = self.page.locator("#health .state").all_inner_texts()
        assert set(states) == {"ok"}, self.page.locator("#health").inner_text()

    def pictures(self, folder: Path) -> None:
        """Pages of a real project, light and wide, dark and narrow; none is wider than its screen."""
        for scheme, size in (("light", WIDE), ("dark", NARROW)):
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for name in ("", "versions", "candidates"):
                self.open(f"/{name}".rstrip("/"))
                self._picture(
                    folder / f"live-{name.replace('/', '-') or 'overview'}-{size['width']}-{scheme}.png"
                )
            self.page.goto(f"{self.url}/health")
            self._picture(folder / f"live-health-{size['width']}-{scheme}.png")

    def _picture(self, path: Path) -> None:
        expect(self.page.locator("h1").first).to_be_visible()
        beyond = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert beyond <= 0, f"{path.name}: {beyond} px too wide"
        self.page.screenshot(path=path, full_page=True)
