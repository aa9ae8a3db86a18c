"""A run and its surroundings: a database that goes away, pictures that the cache drops."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import OnePicture
from test_retrain import StandInChild, active, child, labelled, run_now  # noqa: F401 - fixtures

import backend.retrain
from backend.retrain import PICTURES_FOLDER, Retrain, run_folder
from backend.service import Service
from illume_plugin.errors import UnavailableError
from illume_plugin.store import Store, runs
from illume_plugin.training.spec import read_spec
from illume_plugin.types import RunState


class Away:
    """Lets the store fail while it is told to."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = False
        write = store.write

        @contextmanager
        def failing() -> Iterator[Any]:
            if self.now:
                raise UnavailableError("The database does not answer.")
            with write() as conn:
                yield conn

        monkeypatch.setattr(store, "write", failing)


@pytest.fixture
def away(labelled: Service, monkeypatch: pytest.MonkeyPatch) -> Away:  # noqa: F811
    return Away(labelled.store, monkeypatch)


def test_a_run_outlives_a_database_that_is_away_while_it_trains(
    labelled: Service,  # noqa: F811
    child: type[StandInChild],  # noqa: F811
    away: Away,
) -> None:
    def gone() -> None:
        away.now = True

    child.during = staticmethod(gone)
    wait, running = child.wait, child.running
    looks = []

    def back_after_a_while(self: StandInChild) -> bool:
        looks.append(1)
        if len(looks) == 6:
            away.now = False
        return running(self) or len(looks) < 6

    child.running = back_after_a_while  # type: ignore[method-assign]
    child.wait = wait  # type: ignore[method-assign]
    run = run_now(labelled)
    assert run.state is RunState.PROMOTED, run.error
    assert len(looks) == 6


def test_a_run_whose_end_cannot_be_written_ends_later_without_training_again(
    labelled: Service,  # noqa: F811
    child: type[StandInChild],  # noqa: F811
    away: Away,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    switch = Retrain._switch

    def gone(self: Retrain, *what: Any) -> None:
        away.now = True
        switch(self, *what)

    with monkeypatch.context() as patch:
        patch.setattr(Retrain, "_switch", gone)
        run = run_now(labelled)
    assert run.state is RunState.RUNNING
    away.now = False
    assert Retrain(labelled, owner="next").claim_and_run() is None, "the lease is still held"
    later = labelled.clock() + runs.LEASE_S + 1
    labelled.clock = lambda: later
    ended = Retrain(labelled, owner="next").claim_and_run()
    assert ended is not None
    assert (ended.run_id, ended.state) == (run.run_id, RunState.PROMOTED)
    assert child.started == 1
    assert active(labelled) == "v0001"


@pytest.mark.parametrize("links", [True, False])
def test_a_run_has_its_pictures_whatever_the_cache_drops(
    labelled: Service,  # noqa: F811
    child: type[StandInChild],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    links: bool,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    images = labelled.images
    assert isinstance(images, OnePicture)
    seen: list[Path] = []
    write_spec = backend.retrain.write_spec

    def dropped(folder: Path, spec: Any) -> None:
        write_spec(folder, spec)
        images.path.unlink()
        seen.extend(map(Path, read_spec(folder).images.values()))
        assert all(path.read_bytes() for path in seen)

    monkeypatch.setattr(backend.retrain, "write_spec", dropped)
    run = run_now(labelled)
    assert run.state is RunState.PROMOTED, run.error
    pictures = run_folder(labelled.settings, run.run_id) / PICTURES_FOLDER
    assert {path.parent for path in seen} == {pictures}
    assert not pictures.exists(), "they went with the run's folder"
