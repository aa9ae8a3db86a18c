"""What the doctor says of the model on this machine."""

from __future__ import annotations

import pytest
from conftest import SayingGenerator, both_stores

from backend.doctor import Check, Finding, Outcome, examine
from backend.service import Service
from backend.settings import Settings
from illume_plugin.generation.generator import EngineFacts


def of_model(service: Service) -> Check:
    (check,) = [check for check in examine(service) if check.name == "model"]
    return check


def test_the_model_can_be_left_out(service: Service) -> None:
    names = [check.name for check in examine(service, model=False)]
    assert "model" not in names
    assert "backend" in names


@both_stores
def test_the_database_and_its_clock(service: Service) -> None:
    def database() -> Check:
        (check,) = [check for check in examine(service, model=False) if check.name == "database"]
        return check

    assert database().outcome is Outcome.OK
    clock = service.clock
    service.clock = lambda: clock() - 30
    if service.store.dialect == "sqlite":
        assert database().outcome is Outcome.OK, "one machine, one clock"
        return
    assert database().finding is Finding.CLOCK_DATABASE
    assert "30 s behind" in database().detail


def test_nothing_to_mend(service: Service) -> None:
    check = of_model(service)
    assert check.outcome is Outcome.OK
    assert check.detail == (
        "embedded on nowhere, 60 rows at a time; decoding: sayings; scoring: none; without the picture: none"
    )


def test_what_is_slower_than_it_could_be(
    service: Service, generator: SayingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = EngineFacts("plain generate: no cache", "plain rows", "grey", "cpu, float32", "no cache")
    monkeypatch.setattr(generator, "facts", lambda: slow)
    check = of_model(service)
    assert check.finding is Finding.MODEL_SLOW
    assert "no cache" in check.todo


@pytest.mark.torch
def test_the_embedded_model(settings: Settings) -> None:
    service = Service(settings)
    check = of_model(service)
    service.close()
    assert check.outcome is Outcome.OK, check
    for word in (
        "cpu, float32, 120 rows",
        "decoding: shared prefix",
        "all candidates as one tree",
        "picture: text",
    ):
        assert word in check.detail


@pytest.mark.torch
def test_a_model_that_cannot_be_loaded(settings: Settings) -> None:
    service = Service(settings.model_copy(update={"base_model": "./nowhere"}))
    check = of_model(service)
    service.close()
    assert check.finding is Finding.MODEL_UNSUITABLE
    assert "does not exist" in check.detail
    assert "ILLUME_BASE_MODEL" in check.todo
