"""Which predictions of earlier versions may be removed from Label Studio, and that no others are."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import task
from test_retrain import submitted
from test_worker import publish_version, sample_all

from backend.old_predictions import old_predictions, remove_old_predictions
from backend.presample import push_ahead
from backend.service import Service
from backend.worker import Worker
from illume_plugin.store import projects, versions
from illume_plugin.types import Project

HOUR = 3600.0


class CountingLabelStudio:
    """Predictions as a count for each version; the real one is in tests/live/test_labelstudio_live.py."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def push_predictions(self, project_id: int, predictions: list[dict[str, str]]) -> int:
        for one in predictions:
            self.held[one["model_version"]] = self.held.get(one["model_version"], 0) + 1
        return len(predictions)

    def predictions_by_version(self, project_id: int) -> dict[str, int]:
        return dict(self.held)

    def delete_predictions(self, project_id: int, version: str) -> int:
        return self.held.pop(version)


@pytest.fixture
def label_studio(service: Service, monkeypatch: pytest.MonkeyPatch) -> CountingLabelStudio:
    counting = CountingLabelStudio()
    monkeypatch.setattr(service, "label_studio", counting)
    return counting


@pytest.fixture
def project(service: Service, connected: int, label_studio: CountingLabelStudio, tmp_path: Path) -> Project:
    """Five tasks, one judged. At 0 h v0001 came to serve, at 10 h v0002; all is pushed; it is 34 h."""
    for _ in range(2):
        publish_version(service, tmp_path)
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(i, task(i)["data"]) for i in range(1, 6)])
    service.receive(submitted(5, ["c1"]))
    service.apply_events()
    for hour, version in ((0, "v0001"), (10, "v0002")):
        give(service)
        with service.store.write() as conn:
            versions.switch(conn, 2, version, reason="test", now=hour * HOUR)
    service.clock = lambda: 34 * HOUR
    return give(service)


def give(service: Service) -> Project:
    with service.store.read() as conn:
        project = projects.get(conn, 2)
    sample_all(service, project)
    push_ahead(service, project, everything=True)
    return project


def test_only_what_was_switched_away_from_long_ago_goes(
    service: Service, project: Project, label_studio: CountingLabelStudio
) -> None:
    label_studio.held["somebody else's"] = 7
    before = dict(label_studio.held)
    assert before == {"v0000": 4, "v0001": 4, "v0002": 4, "somebody else's": 7}
    assert old_predictions(service, project) == {"v0000": 4, "v0001": 4}
    assert label_studio.held == before
    assert remove_old_predictions(service, project) == {"v0000": 4, "v0001": 4}
    assert label_studio.held == {"v0002": 4, "somebody else's": 7}
    assert remove_old_predictions(service, project) == {}


@pytest.mark.parametrize(
    ("hour", "gone"), [(23.9, []), (24, ["v0000"]), (33.9, ["v0000"]), (34, ["v0000", "v0001"])]
)
def test_the_time_that_a_task_may_stay_open(
    service: Service, project: Project, hour: float, gone: list[str]
) -> None:
    service.clock = lambda: hour * HOUR
    assert list(old_predictions(service, project)) == gone


def test_a_version_that_serves_again_keeps_its_predictions(service: Service, project: Project) -> None:
    with service.store.write() as conn:
        versions.switch(conn, 2, "v0001", reason="back", now=11 * HOUR)
        again = projects.get(conn, 2)
    service.clock = lambda: 99 * HOUR
    assert list(old_predictions(service, again)) == ["v0000", "v0002"]


def test_nothing_goes_while_a_task_would_open_empty(service: Service, project: Project) -> None:
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(9, task(9)["data"])])
    assert old_predictions(service, project) == {}, "not sampled yet"
    sample_all(service, project)
    assert old_predictions(service, project) == {}, "not in Label Studio yet"
    give(service)
    assert list(old_predictions(service, project)) == ["v0000", "v0001"]


def test_the_worker_does_it_when_there_is_nothing_else_to_do(
    service: Service, project: Project, label_studio: CountingLabelStudio
) -> None:
    Worker(service)._round()
    assert label_studio.held == {"v0002": 4}
