"""Rounds by the worker and by hand: when they are due, who does them, what is told of their failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from at_work import PROJECT, AtWork, Stored, reconcile, service_at
from click.testing import CliRunner, Result
from small_labelstudio import TOKEN, SmallLabelStudio

from backend.app import create_app
from backend.cli import main
from backend.doctor import Check, examine
from backend.keeping_step import LEASE_S, KeepingStep
from backend.service import Service
from backend.settings import Settings
from backend.worker import Worker
from illume_plugin.generation.stopping import never
from illume_plugin.store import leases, reconciliations
from illume_plugin.store.reconciliations import FIRST_RETRY_S, LONGEST_RETRY_S, Reconciliation


@pytest.fixture
def work() -> Iterator[AtWork]:
    with SmallLabelStudio().running() as studio:
        yield AtWork(studio)


@pytest.fixture
def service(work: AtWork, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with service_at(work.studio, settings, tmp_path) as service:
        yield service


class Clock:
    now = 1000.0


@pytest.fixture
def clock(service: Service) -> Clock:
    clock = Clock()
    service.clock = lambda: clock.now
    return clock


def keeping(service: Service, owner: str = "one") -> KeepingStep:
    return KeepingStep(service, owner=owner, stop=never)


def known(service: Service) -> Reconciliation:
    with service.store.read() as conn:
        return reconciliations.find(conn, PROJECT) or Reconciliation()


def refusing(work: AtWork) -> None:
    work.studio.app.view_functions["tasks"] = lambda: ({"detail": "out of memory"}, 500)


def test_a_round_is_due_at_the_start_and_then_now_and_then(
    service: Service, work: AtWork, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.keeping_step.SHARE", 1e9)  # however slow this machine is
    work.import_tasks(["c1"])
    step = keeping(service)
    assert step.rounds() is True
    work.submit(min(work.data()), "c2")
    clock.now += service.settings.reconcile_every_s - 1
    assert step.rounds() is False
    assert known(service).found == 0, "what was there at the first round is no missed event"
    clock.now += 1
    assert step.rounds() is True
    assert Stored(service).preferences() == work.preferences()
    assert known(service).found == 1


def test_rounds_leave_a_slow_label_studio_in_peace(service: Service, work: AtWork, clock: Clock) -> None:
    step = keeping(service)
    step.rounds()
    asked = len(work.studio.asked)
    clock.now += 1e6
    step._not_before[PROJECT] += 1e6  # the last round took so long
    step.rounds()
    assert len(work.studio.asked) == asked


def test_one_process_at_a_time(service: Service, work: AtWork, clock: Clock) -> None:
    work.import_tasks(["c1"])
    with service.store.write() as conn:
        leases.take(conn, f"reconcile {PROJECT}", owner="another", now=clock.now, seconds=LEASE_S)
    step = keeping(service)
    assert step.rounds() is False
    clock.now += LEASE_S + 1
    assert step.rounds() is True
    with service.store.write() as conn:
        assert leases.take(conn, f"reconcile {PROJECT}", owner="another", now=clock.now, seconds=1)


def test_a_long_round_keeps_its_lease_and_ends_when_it_is_lost(
    service: Service, work: AtWork, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = keeping(service)._stopper(PROJECT)
    assert stop() is False
    monkeypatch.setattr("backend.keeping_step.LEASE_S", 0.0)
    assert stop() is False, "renewed"
    clock.now += 1000
    with service.store.write() as conn:
        leases.take(conn, f"reconcile {PROJECT}", owner="another", now=clock.now, seconds=100)
    assert stop() is True


def test_a_failure_is_told_and_tried_again_later_and_later(
    service: Service, work: AtWork, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    view = work.studio.app.view_functions["tasks"]
    refusing(work)
    step = keeping(service)
    waits = []
    for _ in range(8):
        assert step.rounds() is False
        waits.append((known(service).retry_at or 0) - clock.now)
        clock.now += waits[-1] - 1
        asked = len(work.studio.asked)
        step.rounds()
        assert len(work.studio.asked) == asked, "not before its time"
        clock.now += 1
    assert waits[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert waits[-1] == LONGEST_RETRY_S
    assert "out of memory" in (known(service).problem or "")
    assert "out of memory" in caplog.text
    assert TOKEN not in caplog.text
    work.studio.app.view_functions["tasks"] = view
    work.import_tasks(["c1"])
    assert step.rounds() is True
    assert (known(service).problem, known(service).attempts, known(service).retry_at) == (None, 0, None)


def test_without_a_token_nothing_is_asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    door = service.label_studio
    monkeypatch.setattr(service, "label_studio", None)
    assert keeping(service).rounds() is False
    monkeypatch.setattr(service, "label_studio", door)


def test_the_worker_takes_in_what_no_event_tells(
    service: Service, work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.import_tasks(["c1"], ["c2"])
    worker, done = Worker(service), threading.Event()
    rounds = worker.keeping_step.rounds

    def told() -> bool:
        found = rounds()
        if known(service).checked_at is not None:
            done.set()
        return found

    monkeypatch.setattr(worker.keeping_step, "rounds", told)
    thread = threading.Thread(target=worker.run, kwargs={"handle_signals": False})
    thread.start()
    assert done.wait(60)
    worker.shut_down()
    thread.join(60)
    assert not thread.is_alive()
    assert Stored(service).preferences() == work.preferences()


# -- what is told --------------------------------------------------------------------------------------


def of_doctor(service: Service) -> Check:
    (check,) = [
        check for check in examine(service, model=False) if check.name == f"project {PROJECT}: in step"
    ]
    return check


def test_what_the_doctor_says(service: Service, work: AtWork, clock: Clock) -> None:
    never_asked = of_doctor(service)
    assert never_asked.outcome == "warning"
    assert "illume worker" in never_asked.todo
    work.import_tasks(["c1"])
    reconcile(service)
    clock.now += 5
    good = of_doctor(service)
    assert good.outcome == "ok"
    assert "5 s ago" in good.detail
    clock.now += 1000
    assert of_doctor(service).outcome == "warning"
    refusing(work)
    keeping(service).rounds()
    broken = of_doctor(service)
    assert broken.outcome == "failed"
    assert "out of memory" in broken.detail
    assert f"illume sync --project {PROJECT}" in broken.todo


def test_what_the_metrics_say(service: Service, work: AtWork, clock: Clock) -> None:
    client = create_app(service.settings, service=service).test_client()
    assert b"illume_reconciled_timestamp_seconds{" not in client.get("/metrics").data
    work.import_tasks(["c1"])
    reconcile(service)
    work.submit(min(work.data()), "c2")
    reconcile(service)
    refusing(work)
    clock.now += 1000
    keeping(service).rounds()
    told = client.get("/metrics").data.decode()
    assert 'illume_reconciled_timestamp_seconds{project="1"} 1000' in told
    assert 'illume_reconcile_failures{project="1"} 1' in told
    assert 'illume_reconcile_found_total{project="1"} 1' in told


@pytest.fixture
def illume(service: Service, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["sync", *arguments])

    settings = service.settings
    for name in ("data_dir", "database_url", "label_studio_url"):
        monkeypatch.setenv(f"ILLUME_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("ILLUME_LABEL_STUDIO_TOKEN", TOKEN)
    return run


def test_by_hand(illume: Any, service: Service, work: AtWork) -> None:
    work.import_tasks(["c1"], None)
    told = illume("--dry-run")
    assert told.exit_code == 0, told.output
    assert "project 1: would take in 2 new tasks, 1 new annotations (" in told.output
    assert "Nothing was changed (--dry-run)." in told.output
    assert Stored(service).data() == {}
    assert "project 1: 2 new tasks, 1 new annotations (" in illume("--project", "1").output
    assert "project 1: no difference (2 requests" in illume().output
    assert "project 1: no difference (" in illume("--full").output
    assert "Project 9 is not connected" in illume("--project", "9").output


def test_totals_that_differ_are_told(illume: Any, work: AtWork) -> None:
    work.import_tasks(None)
    work.studio.add(work.studio.annotations, project=PROJECT, task=None, was_cancelled=False)
    assert "would look where" in illume("--dry-run").output
    told = illume()
    assert told.exit_code == 1
    assert "still differ" in told.output


def test_an_unreachable_label_studio_is_one_sentence(
    illume: Any, work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILLUME_LABEL_STUDIO_URL", "http://127.0.0.1:9")
    told = illume()
    assert told.exit_code == 1
    assert "cannot be reached" in told.output
    assert "Traceback" not in told.output
