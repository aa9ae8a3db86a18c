"""The candidate browser and trials: nothing tells who wrote what while one is open, everything afterwards."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import task
from flask.testing import FlaskClient
from test_trial_service import (
    CHALLENGER,
    NEW,
    OLD,
    connected_with_tasks,
    judge,
    on_screen,
    prefer,
    project_of,
    sample_and_push,
    texts_of,
    tried,
)
from test_worker import TakingLabelStudio, label_studio

from backend import trials
from backend.service import Service
from illume_plugin.store import projects
from illume_plugin.types import BASE_VERSION

__all__ = ["connected_with_tasks", "label_studio", "tried"]

#: Scores by which a row could be told from another one's.
SCORES = ("logprob_mean", "i2c", "pmi", "relevance", "rank")
BOTH = [BASE_VERSION, CHALLENGER]


def listed(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/projects/2/tasks{query}").get_json()["tasks"]
    return found


def page(client: FlaskClient, query: str = "") -> str:
    return client.get(f"/status/2/candidates{query}").get_data(as_text=True)


def wrote(row: dict[str, Any]) -> list[str]:
    return [CHALLENGER if row["text"].endswith(NEW) else BASE_VERSION]


@pytest.fixture
def judged(tried: Service) -> Service:
    """Three tasks were judged during the trial, and one more by somebody who corrected a text."""
    shown = [texts_of(on_screen(tried, task_id)) for task_id in (1, 2, 3)]
    for task_id in (1, 2, 3):
        judge(tried, task_id, prefer(NEW))
    tried.apply_events()
    assert all(len(texts) == 6 for texts in shown)
    return tried


@pytest.mark.parametrize("query", ["", "?which=judged", "?which=trial", "?version=v0000", "?version=v0001"])
def test_while_it_is_open_nothing_tells_who_wrote_what(
    judged: Service, stranger: FlaskClient, query: str
) -> None:
    for one in listed(stranger, query):
        assert texts_of(on_screen(judged, one["task_id"])) == [row["text"] for row in one["candidates"]]
        assert (one["versions"], one["blind"]) == (BOTH, True)
        for row in one["candidates"]:
            assert row["versions"] == []
            assert [row[name] for name in SCORES] == [None] * len(SCORES)
    text = page(stranger, query)
    assert 'class="wrote"' not in text
    assert "who wrote what is told when it is over" in text


@pytest.mark.parametrize("side", [NEW, OLD, ""])
def test_when_it_is_over_each_row_says_who_wrote_it(
    judged: Service, stranger: FlaskClient, side: str
) -> None:
    seen = {task_id: texts_of(on_screen(judged, task_id)) for task_id in (1, 2, 3)}
    for task_id in range(4, 16):
        judge(judged, task_id, prefer(side or "nobody"))
        judged.apply_events()
    if trials.review(judged, project_of(judged)) is None:
        trials.stop(judged, 2, who="ann", reason="enough")
    sample_and_push(judged)
    for one in listed(stranger, "?which=judged")[:3]:
        assert [row["text"] for row in one["candidates"]] == seen[one["task_id"]], "what people saw"
        assert (one["versions"], one["blind"]) == (BOTH, False)
        for row in one["candidates"]:
            assert row["versions"] == wrote(row)
            assert (row["fits"], row["unfits"]) == ((1, 0) if row["text"].endswith(NEW) else (0, 1))
            assert row["rank"] is not None
    text = page(stranger, "?which=judged")
    assert len(re.findall(r'class="wrote">v000[01]<', text)) == 6 * len(listed(stranger, "?which=judged"))
    (open_task,) = listed(stranger, "?after=15")
    assert len(open_task["versions"]) == 1, "what people will see is one version's again"
    assert all(row["versions"] == [] for row in open_task["candidates"])


def test_the_tasks_of_the_latest_trial(judged: Service, stranger: FlaskClient) -> None:
    assert [one["task_id"] for one in listed(stranger, "?which=trial")] == [1, 2, 3]
    assert "that count in the latest trial" in page(stranger)
    assert [one["task_id"] for one in listed(stranger, "?which=trial&after=1")] == [2, 3]
    assert [one["task_id"] for one in listed(stranger, "?which=trial&before=3")] == [1, 2]
    trials.stop(judged, 2, who="ann", reason="enough")
    judge(judged, 9, prefer(NEW))
    judged.apply_events()
    assert [one["task_id"] for one in listed(stranger, "?which=trial")] == [1, 2, 3, 9], (
        "whoever had the page open judged for the trial"
    )


def test_without_a_trial_there_is_nothing_to_choose(
    connected_with_tasks: Service, stranger: FlaskClient
) -> None:
    assert "latest trial" not in page(stranger)
    assert listed(stranger, "?which=trial") == []


def test_texts_that_both_wrote_bear_both_names(
    connected_with_tasks: Service, stranger: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = connected_with_tasks
    generator = service.engine.generator()
    draw = generator.draw
    monkeypatch.setattr(
        generator,
        "draw",
        lambda requests, plan, adapter=None, stop=None: draw(requests, plan, adapter=None),
    )
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(40, task(40)["data"])])
    trials.begin(service, 2, CHALLENGER, who="ann")
    sample_and_push(service)
    judge(service, 40, prefer(OLD))
    service.apply_events()
    trials.stop(service, 2, who="ann", reason="enough")
    (one,) = (one for one in listed(stranger, "?which=judged") if one["task_id"] == 40)
    assert [row["versions"] for row in one["candidates"]] == [BOTH] * 3


def test_what_another_annotator_saw_stands_below_with_its_version(
    connected_with_tasks: Service, stranger: FlaskClient, label_studio: TakingLabelStudio
) -> None:
    service = connected_with_tasks
    first = on_screen(service, 1)
    service.switch(2, CHALLENGER, reason="test")
    sample_and_push(service)
    judge(service, 1, prefer(NEW))
    judge(service, 1, prefer(OLD), annotation=900, prediction=first)
    service.apply_events()
    (one,) = listed(stranger, "?which=judged")
    own, other = one["candidates"][:3], one["candidates"][3:]
    assert [row["versions"] for row in own] == [[]] * 3, "the list's own version stands above"
    assert {tuple(row["versions"]) for row in other} | {tuple(one["versions"])} == {
        (BASE_VERSION,),
        (CHALLENGER,),
    }
    asked = listed(stranger, "?which=judged&version=v0001")[0]
    assert asked["versions"] == [CHALLENGER]
