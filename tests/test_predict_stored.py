"""Calls of /predict for candidates that are there: one look at the database, and no write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from conftest import task
from sqlalchemy import Connection

from backend.service import Service
from illume_plugin.store import candidates, projects
from illume_plugin.types import BASE_VERSION


@pytest.fixture
def opened(service: Service, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a transaction of each kind was begun."""
    counts: Counter[str] = Counter()
    for kind in ("read", "write"):
        begin = getattr(service.store, kind)

        @contextmanager
        def counted(begin: object = begin, kind: str = kind) -> Iterator[Connection]:
            counts[kind] += 1
            with begin() as conn:  # type: ignore[operator]
                yield conn

        monkeypatch.setattr(service.store, kind, counted)
    return counts


def given(service: Service, project_id: int, task_ids: list[int]) -> bool:
    with service.store.read() as conn:
        key = {"version": BASE_VERSION, "plan": service.plan.hash}
        found, all_given = candidates.look_up(conn, project_id, task_ids, **key)
    assert sorted(found) == task_ids
    return all_given


def test_the_second_call_looks_once_and_writes_nothing(
    service: Service, connected: int, opened: Counter[str]
) -> None:
    first = service.predictor.predict(connected, None, [task(1), task(2)])
    assert given(service, connected, [1, 2])
    opened.clear()
    assert service.predictor.predict(connected, None, [task(1), task(2)]) == first
    assert opened == {"read": 1}


def test_what_was_sampled_ahead_is_noted_as_given_when_it_is_asked_for(
    service: Service, connected: int, opened: Counter[str]
) -> None:
    with service.store.read() as conn:
        project = projects.get(conn, connected)
    service.sampler.sample(project, {1: task(1)["data"]}, keys=service.keys)
    assert not given(service, connected, [1])
    service.predictor.predict(connected, None, [task(1)])
    assert given(service, connected, [1])


def test_a_new_labelling_configuration_is_noted_on_the_way(service: Service, connected: int) -> None:
    with service.store.read() as conn:
        before = projects.get(conn, connected)
    changed = before.label_config.replace("<View", "<!-- changed --><View", 1)
    service.predictor.predict(connected, changed, [task(1)])
    with service.store.read() as conn:
        assert projects.get(conn, connected) == replace(before, label_config=changed)
