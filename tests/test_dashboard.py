"""The status page as a browser without scripts sees it: pages, buttons, JSON, metrics."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SECRET, SELECT, SayingGenerator, task
from flask.testing import FlaskClient
from labelled_project import OPEN, PER_VERSION, PROJECT, QUALITY, DrawnPictures, LabelledProject

from backend.app import create_app
from backend.dashboard.live import HEADER
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.embedded import make_tasks
from illume_plugin.store import candidates, projects, runs, versions
from illume_plugin.types import RunState

LOCAL = {"base_url": "http://localhost:9090", "environ_base": {"REMOTE_ADDR": "127.0.0.1"}}
ROOT = Path(__file__).resolve().parents[1]
PAGES = ["", "/runs", "/runs/1", "/versions", "/candidates", "/annotators"]
TASKS = len(QUALITY) * PER_VERSION + OPEN


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The data folder of a labelled project, made once, and what time it is there."""
    folder = tmp_path_factory.mktemp("labelled")
    service = Service(load_settings(data_dir=folder / "data", secret=SECRET, train_after=0))
    project = LabelledProject(service, folder)
    project.fill()
    service.close()
    return folder / "data", project.now


@pytest.fixture
def labelled(_filled: tuple[Path, float], tmp_path: Path) -> Iterator[Service]:
    data, now = _filled
    shutil.copytree(data, tmp_path / "data")
    service = Service(load_settings(data_dir=tmp_path / "data", secret=SECRET, train_after=0))
    service.clock = lambda: now
    service.engine._generator = SayingGenerator()
    service.images = DrawnPictures(tmp_path, make_tasks(TASKS, 11))  # type: ignore[assignment]
    yield service
    service.close()


class Browser:
    """Opens pages as a browser does, cookies and all."""

    def __init__(self, service: Service) -> None:
        self.client: FlaskClient = create_app(service.settings, service=service).test_client()

    def get(self, path: str, status: int = 200, **more: Any) -> str:
        with self.client.get(path, **LOCAL, **more) as answer:  # a file is closed with its answer
            assert answer.status_code == status, answer.text
            return answer.text

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def press(self, page: str, status: int = 303, **fields: str) -> str:
        """Open a page, send its form (with `fields` in place of its own), and follow to what it says."""
        form = self.get(page)
        (action,) = re.findall(r'<form method="post" action="([^"]+)"', form)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
        answer = self.client.post(action, data={**hidden, **fields}, **LOCAL)
        assert answer.status_code == status, answer.text
        return self.get(answer.location) if status == 303 else answer.text


@pytest.fixture
def browser(labelled: Service) -> Browser:
    return Browser(labelled)


@pytest.fixture
def filled_with_a_run(labelled: Service, browser: Browser, tmp_path: Path) -> tuple[Browser, int]:
    """The same project while a run goes on, and the run."""
    project = LabelledProject(labelled, tmp_path)
    project.now = labelled.clock()
    return browser, project.begin_run()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_labelled_project(browser: Browser, page: str) -> None:
    text = browser.get(f"/status/{PROJECT}{page}")
    assert "<h1>" in text
    assert "<title>" in text
    assert "None" not in re.sub(r"<[^>]+>", "", text), "nothing that is missing is written out"


@pytest.mark.parametrize("page", ["", "/runs", "/versions", "/candidates", "/annotators"])
def test_every_page_of_an_empty_project(service: Service, connected: int, page: str) -> None:
    assert "<h1>" in Browser(service).get(f"/status/{connected}{page}")


def test_without_a_project_it_says_how_to_connect_one(service: Service) -> None:
    assert "illume connect" in Browser(service).get("/status")


def test_one_project_is_shown_at_once_of_several_one_is_chosen(labelled: Service) -> None:
    browser = Browser(labelled)
    assert browser.client.get("/status", **LOCAL).location == f"/status/{PROJECT}"
    with labelled.store.write() as conn:
        projects.put(conn, 9, title="<i>other</i>", label_config=SELECT, now=1.0)
    text = browser.get("/status")
    assert "/status/9" in text
    assert "&lt;i&gt;other&lt;/i&gt;" in text


def test_the_glance(browser: Browser) -> None:
    counts = browser.json(f"/api/projects/{PROJECT}")["counts"]
    judged = len(QUALITY) * PER_VERSION
    assert counts["tasks"] == TASKS
    assert counts["judged"] == judged
    assert counts["sampled"] == PER_VERSION + OPEN
    assert (counts["pushed"], counts["unready"]) == (0, 0)
    text = browser.get(f"/status/{PROJECT}")
    assert f"<dd>{TASKS}</dd>" in text
    assert f"<dd>{judged}</dd>" in text


def test_tasks_that_would_open_without_candidates_are_told(service: Service, connected: int) -> None:
    browser = Browser(service)
    assert "import some in Label Studio" in browser.get("/status/2")
    with service.store.write() as conn:
        projects.put_tasks(conn, connected, [(number, task(number)["data"]) for number in (1, 2, 3)])
        candidates.note_problem(conn, connected, 3, version="v0000", problem="It is no picture.", now=1.0)
    browser = Browser(service)
    assert browser.json("/api/projects/2")["counts"]["unready"] == 3
    assert "3 open without candidates" in browser.get("/status/2")
    assert "It is no picture." in browser.get("/status/2/candidates?which=problems")


def test_fit_rates_are_the_share_of_ticks(browser: Browser, labelled: Service) -> None:
    found = browser.json(f"/api/projects/{PROJECT}/curve")["versions"]
    assert [one["version"] for one in found] == [f"v{k:04d}" for k in range(len(QUALITY))]
    with labelled.store.read() as conn:
        rows = conn.exec_driver_sql("SELECT version, verdict FROM preferences").all()
    for one in found:
        verdicts = [verdict for version, verdict in rows if version == one["version"]]
        assert one["rate"]["value"] == pytest.approx(verdicts.count("fits") / len(verdicts))
        assert one["rate"]["n"] == len(verdicts)
        assert one["tasks"] == PER_VERSION
    learnt = [one["learnt_from"] for one in found]
    assert learnt[0] == 0
    fits_before = [v for version, v in rows if version != found[-1]["version"]].count("fits")
    assert learnt[-1] == fits_before


def test_annotators(browser: Browser) -> None:
    found = browser.json(f"/api/projects/{PROJECT}/annotators")
    people = {one["annotator"]: one for one in found["annotators"]}
    assert set(people) == {3, 4, 5}
    assert people[5]["annotations"] == len(QUALITY) * PER_VERSION // 4
    assert 31 <= people[5]["seconds"] <= 32
    assert people[5]["pairs"] == people[3]["pairs"] + people[4]["pairs"] > 0
    assert 0.5 < found["alpha"]["value"] < 1
    assert found["position"]["p"] is not None


#: What the page has to show, and where: a pattern in its HTML.
PROMISED = {
    "the loop at a glance": (
        "",
        r"<dt>Tasks</dt>.*<dt>Sampled ahead</dt>.*<dt>Judged</dt>.*<dt>Waiting to train",
    ),
    "what serves": ("", r"<dt>Serves</dt><dd><a [^>]+>v0004</a>"),
    "fit rates with intervals": ("", r"v0004 \d+ % \(\d+ to \d+, n = 120\)"),
    "the same as a table": ("", r"<th scope=\"row\">v0004</th><td>\d+\xa0% \(\d+\xa0to\xa0\d+\)</td>"),
    "the learning curve": ("", r'ticked rationales learnt from</text>.*class="band"'),
    "is more labelling worth it": (
        "",
        r"Is more labelling worth it\?.*(Yes|Hardly|Unclear)</strong>.*95\xa0% interval",
    ),
    "a live run": ("", r'<progress value="0\.317".*38 of 120|38 of 120.*<progress value="0\.317"'),
    "its loss curve": ("/runs/{live}", r'<svg class="chart".*Loss of run'),
    "what the gate said": ("/runs/1", r"What the gate said.*not worse"),
    "before and after": ("/runs/1", r"own answer right.*95\xa0%"),
    "versions with metrics": (
        "/versions",
        r"fitting scored above unfitting: 82\xa0% \(74\xa0to\xa090\), n\xa0=\xa048",
    ),
    "versions with parent and data": ("/versions", r"v0003, <a [^>]+>run 4</a>.*data 0{12}"),
    "train now": ("/versions", r'href="/status/2/train"'),
    "promote": ("/versions", r'href="/status/2/versions/v0002/promote"'),
    "roll back": ("/versions", r'href="/status/2/rollback"'),
    "cancel": ("/runs/{live}", r'href="/status/2/runs/{live}/cancel"'),
    "which version served when": ("/versions", r"Which version served when.*v0003 → v0004.*run 4.*the gate"),
    "pictures": ("/candidates", r'<img[^>]+src="/status/2/pictures/1"'),
    "ticks": ("/candidates", r"✓</span> 1<span"),
    "scores": ("/candidates", r'<td class="figure">-\d\.\d\d</td>'),
    "annotators' counts": ("/annotators", r'data-label="Annotations">\d+'),
    "seconds per task": ("/annotators", r'data-label="Median time">3\d\xa0s'),
    "agreement": ("/annotators", r"Krippendorff's alpha is <strong>0\.\d\d</strong>"),
    "position bias with its test": ("/annotators", r"p = 0\.\d+; χ² = \d+\.\d with 5 degrees of freedom"),
    "ticks by row": ("/annotators", r'<th scope="row">6</th><td>\d+</td><td>\d+</td><td>\d+\xa0%</td>'),
}


@pytest.mark.parametrize("what", PROMISED)
def test_everything_that_the_page_promises(filled_with_a_run: tuple[Browser, int], what: str) -> None:
    browser, live = filled_with_a_run
    path, pattern = (text.replace("{live}", str(live)) for text in PROMISED[what])
    assert re.search(pattern, browser.get(f"/status/{PROJECT}{path}"), re.DOTALL)


@pytest.mark.parametrize("piece", ["database", "worker", "events", "disk"])
def test_health_of_each_piece(browser: Browser, piece: str) -> None:
    assert re.search(
        rf'<span class="state \w+">\w+</span><div><strong>{piece}', browser.get("/status/health")
    )


def test_labels_and_reasons_are_escaped(browser: Browser) -> None:
    text = browser.get(f"/status/{PROJECT}/runs")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;(illume train)" in text


def test_candidates_are_escaped(service: Service, connected: int) -> None:
    ugly = {"image": "/x.png", "question": '<img src=x onerror="alert(1)">', "answer": "</table><b>"}
    with service.store.write() as conn:
        projects.put_tasks(conn, connected, [(1, ugly)])
    text = Browser(service).get(f"/status/{connected}/candidates")
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in text
    assert "</table><b>" not in text


def test_turning_pages_shows_every_task_once(browser: Browser) -> None:
    seen: list[int] = []
    path = f"/api/projects/{PROJECT}/tasks?"
    page = browser.json(path)
    while True:
        seen += [one["task_id"] for one in page["tasks"]]
        if page["after"] is None:
            break
        page = browser.json(f"{path}after={page['after']}")
    assert seen == list(range(1, TASKS + 1))
    assert page["before"] is not None
    back = browser.json(f"{path}before={page['before']}")
    assert back["tasks"][-1]["task_id"] == page["tasks"][0]["task_id"] - 1
    first = browser.json(f"{path}before=5")
    assert [one["task_id"] for one in first["tasks"]] == [1, 2, 3, 4]
    assert first["before"] is None


def test_judged_candidates_carry_their_verdicts(browser: Browser) -> None:
    page = browser.json(f"/api/projects/{PROJECT}/tasks?which=judged&version=v0000")
    twice = next(one for one in page["tasks"] if one["annotations"] == 2)
    assert twice["versions"] == ["v0000"]
    assert all(one["fits"] + one["unfits"] == 2 for one in twice["candidates"])
    assert twice["candidates"][0]["pmi"] is not None
    # asked for a version that has no set for it: what was judged is shown all the same
    other = browser.json(f"/api/projects/{PROJECT}/tasks?which=judged&version=v0004")
    assert other["tasks"][0]["versions"] == ["v0000"]
    assert len(other["tasks"][0]["candidates"]) == len(twice["candidates"])
    assert other["tasks"][0]["candidates"][0]["pmi"] is not None, "with the scores that it had"
    assert browser.json(f"/api/projects/{PROJECT}/tasks?which=problems")["tasks"] == []


@pytest.mark.parametrize("query", ["which=odd", "after=-1", "after=x", "before=99999999999999999999"])
def test_what_makes_no_sense_is_said(browser: Browser, query: str) -> None:
    assert "Bad request" in browser.get(f"/status/{PROJECT}/candidates?{query}", 400)


def test_pictures_are_ours(browser: Browser) -> None:
    answer = browser.client.get(f"/status/{PROJECT}/pictures/1", **LOCAL)
    assert answer.content_type == "image/webp"
    assert answer.data[:4] == b"RIFF"
    assert "private" in answer.headers["Cache-Control"]
    browser.get(f"/status/{PROJECT}/pictures/999", 404)
    text = browser.get(f"/status/{PROJECT}/candidates")
    assert set(re.findall(r'<img[^>]+src="(/status/\d+/pictures/)', text)) == {f"/status/{PROJECT}/pictures/"}


@pytest.mark.parametrize(
    "path", ["/status/99", "/status/99/versions", "/status/99/annotators", "/status/2/runs/99"]
)
def test_what_is_not_there(browser: Browser, path: str) -> None:
    assert "<h1>Not found</h1>" in browser.get(path, 404)


def test_nothing_inline_and_nothing_foreign(browser: Browser) -> None:
    answer = browser.client.get(f"/status/{PROJECT}", **LOCAL)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for page in PAGES:
        text = browser.get(f"/status/{PROJECT}{page}")
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"\s(style|on\w+)=", text)
        sources = re.findall(r'(?:src|stylesheet" href)="([^"]+)"', text)
        assert sources
        assert all(source.startswith("/status/") for source in sources)
    for name in ("status.css", "live.js", "mark.svg"):
        browser.get(f"/status/static/{name}")


# -- live ------------------------------------------------------------------------------------------------


def test_a_page_that_has_not_changed_is_not_sent_again(browser: Browser, labelled: Service) -> None:
    path = f"/status/{PROJECT}/runs"
    first = browser.client.get(path, headers={HEADER: "1"}, **LOCAL)
    tag = {HEADER: "1", "If-None-Match": first.headers["ETag"]}
    again = browser.client.get(path, headers=tag, **LOCAL)
    assert (again.status_code, again.data) == (304, b"")
    labelled.request_training(PROJECT, trigger="somebody")
    assert browser.client.get(path, headers=tag, **LOCAL).status_code == 200


def test_the_script_does_not_take_a_visitors_notice_away(browser: Browser) -> None:
    form = f"/status/{PROJECT}/train"
    token = re.search(r'name="token" value="([^"]+)"', browser.get(form))
    assert token
    browser.client.post(form, data={"token": token[1]}, **LOCAL)
    assert "is queued." not in browser.get(f"/status/{PROJECT}/runs", headers={HEADER: "1"})
    assert "is queued." in browser.get(f"/status/{PROJECT}/runs")
    assert "is queued." not in browser.get(f"/status/{PROJECT}/runs")


# -- buttons ---------------------------------------------------------------------------------------------


def state(service: Service) -> tuple[str, int]:
    with service.store.read() as conn:
        return projects.get(conn, PROJECT).active_version, len(runs.recent(conn, PROJECT, limit=100))


def test_promote_and_roll_back(browser: Browser, labelled: Service) -> None:
    said = browser.press(f"/status/{PROJECT}/versions/v0002/promote", why="  shorter\n answers ")
    assert "v0002 serves now (before: v0004)." in said
    assert state(labelled)[0] == "v0002"
    with labelled.store.read() as conn:
        last = versions.switched(conn, PROJECT)[-1]
    assert (last.who, last.reason) == ("somebody at this machine", "shorter answers")
    assert "shorter answers" in browser.get(f"/status/{PROJECT}/versions")
    said = browser.press(f"/status/{PROJECT}/rollback")
    assert "v0004 serves again (before: v0002)." in said
    assert state(labelled)[0] == "v0004"


def test_train_then_cancel(browser: Browser, labelled: Service) -> None:
    before = state(labelled)[1]
    assert "is queued." in browser.press(f"/status/{PROJECT}/train")
    assert state(labelled)[1] == before + 1
    assert "no second one was made" in browser.press(f"/status/{PROJECT}/train")
    with labelled.store.read() as conn:
        live = runs.live_run(conn, PROJECT)
    assert live is not None
    assert live.trigger == "somebody at this machine (status page)"
    assert "is cancelled." in browser.press(f"/status/{PROJECT}/runs/{live.run_id}/cancel")
    with labelled.store.read() as conn:
        assert runs.get(conn, live.run_id).state is RunState.CANCELLED
    assert "is over" in browser.get(f"/status/{PROJECT}/runs/{live.run_id}/cancel", 409)


def test_what_was_confirmed_must_still_hold(browser: Browser, labelled: Service) -> None:
    page = f"/status/{PROJECT}/versions/v0001/promote"
    browser.get(page)
    labelled.switch(PROJECT, "v0003", reason="somebody was faster")
    said = browser.press(page, status=409, expected="v0004")
    assert "v0003 serves by now, not v0004." in said
    assert state(labelled)[0] == "v0003"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({"token": "guessed"}, {}),
        ({"token": None}, {"Origin": "http://evil.example"}),
        ({"token": None}, {"Sec-Fetch-Site": "cross-site"}),
        ({"token": None}, {"Sec-Fetch-Site": "same-site"}),
        ({"token": None}, {"Origin": "null"}),
    ],
)
def test_a_form_from_elsewhere_changes_nothing(
    browser: Browser, labelled: Service, fields: dict[str, str | None], headers: dict[str, str]
) -> None:
    before = state(labelled)
    form = browser.get(f"/status/{PROJECT}/train")
    token = re.search(r'name="token" value="([^"]+)"', form)
    assert token
    sent = {name: value or token[1] for name, value in fields.items()}
    posts = [
        ("train", {}),
        ("rollback", {"expected": "v0004"}),
        ("versions/v0001/promote", {"expected": "v0004"}),
    ]
    for path, more in posts:
        answer = browser.client.post(
            f"/status/{PROJECT}/{path}", data={**sent, **more}, headers=headers, **LOCAL
        )
        assert answer.status_code == 403
    assert state(labelled) == before


def test_a_token_is_worth_nothing_in_another_session(browser: Browser, labelled: Service) -> None:
    token = re.search(r'name="token" value="([^"]+)"', browser.get(f"/status/{PROJECT}/train"))
    assert token
    other = Browser(labelled)
    other.get(f"/status/{PROJECT}/train")
    answer = other.client.post(f"/status/{PROJECT}/train", data={"token": token[1]}, **LOCAL)
    assert answer.status_code == 403


def test_the_cookie_is_for_us_alone(browser: Browser) -> None:
    answer = browser.client.get(f"/status/{PROJECT}/train", **LOCAL)
    cookie = answer.headers["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/status"):
        assert word in cookie


def test_getting_a_page_never_changes_anything(browser: Browser, labelled: Service) -> None:
    before = state(labelled)
    for path in ("train", "rollback", "versions/v0001/promote"):
        browser.get(f"/status/{PROJECT}/{path}")
    assert state(labelled) == before


def test_a_version_that_is_not_there_cannot_be_promoted(browser: Browser) -> None:
    browser.get(f"/status/{PROJECT}/versions/v0099/promote", 404)


# -- JSON ------------------------------------------------------------------------------------------------


def test_every_path_of_the_api_answers_and_is_described(browser: Browser) -> None:
    paths = browser.json("/api")["paths"]
    described = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for path in paths:
        assert f"`{path.replace('int:', '')}`" in described
        browser.json(path.replace("<int:project_id>", str(PROJECT)).replace("<int:run_id>", "1"))


def test_errors_of_the_api_are_problems_in_json(browser: Browser) -> None:
    answer = browser.client.get("/api/projects/99", **LOCAL)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
