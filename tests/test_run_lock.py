"""The lock of a run's folder, and leases that are kept alive."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import leasing
from backend.leasing import leased, new_owner
from backend.pulse import Pulse
from backend.run_lock import alone
from backend.service import Service
from illume_plugin.errors import UnavailableError
from illume_plugin.store import leases

PATIENCE_S = 60.0
#: Inherits a lock, says so, and holds it until its standard input closes.
HOLDS = "import sys; print('here', flush=True); sys.stdin.read()"


class BusyError(Exception):
    """Somebody else has it."""


def give_up() -> None:
    raise BusyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "run-000001"


def test_one_at_a_time(path: Path) -> None:
    with alone(path, wait=give_up), pytest.raises(BusyError), alone(path, wait=give_up):
        pass
    with alone(path, wait=give_up):
        pass


def test_it_leaves_no_file_behind(path: Path) -> None:
    with pytest.raises(BusyError), alone(path, wait=give_up):
        raise BusyError
    assert list(path.parent.iterdir()) == []


def test_who_waits_gets_it_in_the_end_though_its_file_was_removed(path: Path) -> None:
    waiting, order = threading.Event(), []

    def second() -> None:
        with alone(path, wait=waiting.set):
            order.append("second")
            with pytest.raises(BusyError), alone(path, wait=give_up):
                pass

    thread = threading.Thread(target=second)
    with alone(path, wait=give_up):
        thread.start()
        assert waiting.wait(PATIENCE_S)
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def test_a_child_that_was_given_it_holds_it_when_we_are_gone(path: Path) -> None:
    lost = path.with_name("lost")
    with alone(path, wait=give_up) as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(descriptor,),
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        os.rename(path, lost)  # as if we were killed: nothing removes it
    os.rename(lost, path)
    with pytest.raises(BusyError), alone(path, wait=give_up):
        pass
    child.communicate(timeout=PATIENCE_S)
    with alone(path, wait=give_up):
        pass


def beats(until: int, then: Callable[[], bool]) -> tuple[Callable[[], bool], threading.Event]:
    """Says yes so often, then what `then` says; and an event that comes after that."""
    count, reached = iter(range(until)), threading.Event()

    def beat() -> bool:
        if next(count, None) is not None:
            return True
        reached.set()
        return then()

    return beat, reached


def test_a_lease_is_renewed_until_it_is_somebody_elses() -> None:
    said = []

    def lost() -> bool:
        said.append("lost")
        return False

    beat, reached = beats(3, lost)
    with Pulse(beat, every_s=0.001) as pulse:
        assert reached.wait(PATIENCE_S)
        pulse._thread.join(PATIENCE_S)
    assert said == ["lost"]


def test_a_database_that_is_away_for_a_moment_is_asked_again() -> None:
    failures = []

    def away() -> bool:
        failures.append(1)
        if len(failures) == 3:
            again.set()
        raise UnavailableError("The database does not answer.")

    again = threading.Event()
    beat, _ = beats(1, away)
    with Pulse(beat, every_s=0.001):
        assert again.wait(PATIENCE_S)


def test_a_lease_is_held_by_one_and_given_back(service: Service) -> None:
    with leased(service, "x") as ours, leased(service, "x") as theirs:
        assert (ours, theirs) == (True, False)
    with leased(service, "x") as ours:
        assert ours


def test_a_lease_does_not_run_out_while_it_is_held(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "LEASE_S", 0.04)
    renewed, take = threading.Event(), leases.take
    times = []

    def taken(*what: object, **how: object) -> bool:
        times.append(1)
        if len(times) > 5:
            renewed.set()
        return take(*what, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(leasing.leases, "take", taken)
    with leased(service, "x") as ours:
        assert ours
        assert renewed.wait(PATIENCE_S)


def test_a_lease_whose_process_died_is_anybodys_later(service: Service) -> None:
    with service.store.write() as conn:
        leases.take(conn, "x", owner=new_owner(), now=service.clock(), seconds=leasing.LEASE_S)
    with leased(service, "x") as ours:
        assert not ours
    now = service.clock()
    service.clock = lambda: now + leasing.LEASE_S + 1
    with leased(service, "x") as ours:
        assert ours


def test_no_two_owners_have_one_name() -> None:
    assert len({new_owner() for _ in range(100)}) == 100
