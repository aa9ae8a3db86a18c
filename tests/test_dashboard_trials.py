"""The buttons of the blind gate on the status page, and what other buttons say while a trial is open."""

from __future__ import annotations

import pytest
from test_dashboard import Browser
from test_trial_service import (
    CHALLENGER,
    TASKS,
    connected_with_tasks,
    judge,
    now,
    prefer,
    project_of,
    tried,
)
from test_worker import label_studio

from backend.service import Service
from illume_plugin.trials import TrialEnd
from illume_plugin.types import BASE_VERSION

__all__ = ["connected_with_tasks", "label_studio", "tried"]

TRY = f"/status/2/versions/{CHALLENGER}/try"


def test_a_version_is_put_on_trial_and_taken_off_again(connected_with_tasks: Service) -> None:
    browser, service = Browser(connected_with_tasks), connected_with_tasks
    assert f'href="{TRY}"' in browser.get("/status/2/versions")
    form = browser.get(TRY)
    assert f"{TASKS} tasks that nobody has judged will show candidates of v0000 and v0001" in form
    assert "after 1000 judged tasks at the latest" in form
    assert project_of(service).challenger is None, "looking changes nothing"
    assert "v0001 is on trial beside v0000." in browser.press(TRY)
    assert (project_of(service).challenger, now(service).trial.started_by) == (
        CHALLENGER,
        "somebody at this machine",
    )
    page = browser.get("/status/2/versions")
    assert f'href="{TRY}"' not in page, "one trial at a time"
    assert "The trial of v0001 is over; v0000 goes on alone." in browser.press(
        "/status/2/trial/stop", why="a new  guideline"
    )
    ended = now(service).trial
    assert (ended.end, ended.reason, ended.ended_by) == (
        TrialEnd.STOPPED,
        "a new guideline",
        "somebody at this machine",
    )
    assert "Last trial: v0001 beside v0000" in browser.get("/status/2/versions")
    assert "No trial is open" in browser.get("/status/2/trial/stop", 404)


def test_what_cannot_be_tried_is_said(tried: Service) -> None:
    browser = Browser(tried)
    assert "is on trial in project 2 already" in browser.get(TRY, 409)
    browser.press("/status/2/trial/stop")
    assert "v0000 serves project 2 already" in browser.get("/status/2/versions/v0000/try", 400)
    browser.get("/status/2/versions/v0009/try", 404)


@pytest.mark.parametrize("path", [TRY, "/status/2/trial/stop"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_from_elsewhere_changes_nothing(
    connected_with_tasks: Service, path: str, headers: dict[str, str]
) -> None:
    browser = Browser(connected_with_tasks)
    if path != TRY:
        browser.press(TRY)
    before = project_of(connected_with_tasks)
    answer = browser.client.post(
        path,
        data={"token": "guessed", "expected": BASE_VERSION},
        headers=headers,
        base_url="http://localhost:9090",
        environ_base={"REMOTE_ADDR": "127.0.0.1"},
    )
    assert answer.status_code == 403
    assert project_of(connected_with_tasks) == before


def test_what_was_confirmed_must_still_hold(connected_with_tasks: Service) -> None:
    browser = Browser(connected_with_tasks)
    said = browser.press(TRY, status=409, expected="v0005")
    assert "v0000 serves by now, not v0005." in said
    assert project_of(connected_with_tasks).challenger is None


def test_other_buttons_tell_what_becomes_of_the_trial(tried: Service) -> None:
    browser = Browser(tried)
    assert "v0001 is on trial: the new version waits until that is decided." in browser.get("/status/2/train")
    promoting = browser.get(f"/status/2/versions/{CHALLENGER}/promote")
    assert "v0001 is on trial: that trial ends without a verdict." in promoting
    assert "v0001 serves now" in browser.press(f"/status/2/versions/{CHALLENGER}/promote")
    assert now(tried).trial.end is TrialEnd.STOPPED


def test_the_trial_leads_to_what_people_ticked(tried: Service) -> None:
    judge(tried, 1, prefer("nobody"))
    tried.apply_events()
    for page in ("", "/versions"):
        assert 'href="/status/2/candidates?which=trial"' in Browser(tried).get(f"/status/2{page}")
