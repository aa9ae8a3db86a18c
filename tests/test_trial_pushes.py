"""Candidates on their way to Label Studio when a trial ends: what people see is the active version's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from conftest import both_stores
from test_trial_service import (
    CHALLENGER,
    NEW,
    OLD,
    TASKS,
    connected_with_tasks,
    on_screen,
    project_of,
    sample_and_push,
    texts_of,
)
from test_worker import TakingLabelStudio, label_studio

from backend import presample, trials
from backend.presample import push_ahead, sample_ahead
from backend.service import Service
from backend.worker import Worker
from illume_plugin.store import candidates

__all__ = ["connected_with_tasks", "label_studio"]

pytestmark = both_stores


class Died(BaseException):
    """As if kill -9: nothing of ours handles it."""


@pytest.fixture
def sampled(connected_with_tasks: Service) -> Service:
    """A trial whose candidates are all sampled, and not yet pushed."""
    service = connected_with_tasks
    trials.begin(service, 2, CHALLENGER, who="ann")
    while sample_ahead(service, project_of(service)):
        pass
    return service


def shown(service: Service) -> set[str]:
    """Who wrote what people see."""
    texts = (text for task_id in range(1, TASKS + 1) for text in texts_of(on_screen(service, task_id)))
    return {side for text in texts for side in (OLD, NEW) if text.endswith(side)}


def end(service: Service) -> None:
    trials.stop(service, 2, who="bob", reason="enough")


def work(service: Service) -> None:
    """What a worker that has just been started does until nothing is left to do."""
    worker = Worker(service)
    while worker._round():
        pass
    worker._give_back()


def test_a_push_that_is_under_way_when_the_trial_ends(
    sampled: Service, label_studio: TakingLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = label_studio.push_predictions

    def slow(project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        end(sampled)
        return push(project_id, predictions)

    with monkeypatch.context() as patch:
        patch.setattr(label_studio, "push_predictions", slow)
        assert push_ahead(sampled, project_of(sampled), everything=True) == TASKS
    assert shown(sampled) == {OLD, NEW}
    work(sampled)
    assert shown(sampled) == {OLD}
    pushed = len(label_studio.pushed)
    work(sampled)
    assert len(label_studio.pushed) == pushed, "once"


def test_a_push_whose_process_dies_before_it_is_noted(
    sampled: Service, label_studio: TakingLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(candidates, "mark_pushed", lambda *_, **__: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            push_ahead(sampled, project_of(sampled), everything=True)
    assert shown(sampled) == {OLD, NEW}
    end(sampled)
    work(sampled)
    assert shown(sampled) == {OLD}


def test_who_knows_of_no_end_pushes_nothing(sampled: Service, label_studio: TakingLabelStudio) -> None:
    known = project_of(sampled)
    end(sampled)
    assert push_ahead(sampled, known, everything=True) == 0
    assert shown(sampled) == {OLD}


def test_a_process_that_was_halted_while_it_pushed(sampled: Service, label_studio: TakingLabelStudio) -> None:
    known = project_of(sampled)
    end(sampled)
    work(sampled)
    presample._push(sampled, label_studio, known)  # type: ignore[arg-type]
    assert shown(sampled) == {OLD, NEW}
    work(sampled)
    assert shown(sampled) == {OLD}


def test_the_trials_own_candidates_come_back_with_it(
    sampled: Service, label_studio: TakingLabelStudio
) -> None:
    sample_and_push(sampled)
    work(sampled)
    assert shown(sampled) == {OLD, NEW}, "as long as it is open nothing is taken back"
    end(sampled)
    work(sampled)
    assert shown(sampled) == {OLD}
    trials.begin(sampled, 2, CHALLENGER, who="ann")
    work(sampled)
    assert shown(sampled) == {OLD, NEW}
