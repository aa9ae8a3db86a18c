"""Child processes of the demo: they end when we end, and say why when they end before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.demo.processes import Child, ProcessError, Supervisor, require_free_port, stop_on_terminate

#: Says "ready", then waits to be stopped.
WAITS = "import signal; print('ready', flush=True); signal.pause()"
#: The same, deaf to SIGTERM.
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def child(tmp_path: Path, code: str, name: str = "sitter") -> Child:
    return Child(
        name, [sys.executable, "-c", code], environment=dict(os.environ), log=tmp_path / f"{name}.log"
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process runs (one that has ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("code", "grace_s"), [(WAITS, 60.0), (DEAF, 0.1)])
def test_a_child_is_stopped_even_when_it_does_not_listen(tmp_path: Path, code: str, grace_s: float) -> None:
    sitter = child(tmp_path, code)
    assert sitter.ended is None
    sitter.start()
    wait_for(lambda: sitter.tail() == "ready")
    sitter.check()
    sitter.stop(grace_s)
    sitter.stop()  # a second time is harmless


def test_the_whole_group_of_a_child_is_stopped(tmp_path: Path) -> None:
    code = (
        f"import subprocess, sys; inner = subprocess.Popen([sys.executable, '-c', {WAITS!r}]); "
        "print(inner.pid, flush=True); inner.wait()"
    )
    outer = child(tmp_path, code)
    outer.start()
    wait_for(lambda: "ready" in outer.tail())
    inner = int(next(line for line in outer.tail().split() if line.isdigit()))
    outer.stop()
    wait_for(lambda: not runs(inner))


def test_a_child_that_ends_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "sitter.log").write_text("from an earlier start\n")
    sitter = child(tmp_path, "print('line\\n' * 50); raise SystemExit('out of luck')")
    with Supervisor() as supervisor:
        supervisor.start(child(tmp_path, WAITS, "other"))
        supervisor.start(sitter)
        with pytest.raises(ProcessError, match="sitter ended by itself with status 1") as caught:
            supervisor.wait()
    assert "out of luck" in caught.value.why
    assert "earlier start" not in caught.value.why
    assert caught.value.why.count("line") < 20
    assert str(tmp_path / "sitter.log") in caught.value.todo


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    missing = Child("ghost", [str(tmp_path / "ghost")], environment={}, log=tmp_path / "log")
    with Supervisor() as supervisor, pytest.raises(ProcessError, match="ghost cannot be started"):
        supervisor.start(missing)


def test_processes_are_stopped_in_reverse_order_and_signals_given_back() -> None:
    said: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def start(self) -> None:
            said.append(f"start {self.name}")

        def check(self) -> None:
            pass

        def stop(self) -> None:
            said.append(f"stop {self.name}")
            os.kill(os.getpid(), signal.SIGINT)  # an impatient second Ctrl-C

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run() -> None:
        with stop_on_terminate(), Supervisor() as supervisor:
            supervisor.start(Named("a"))
            supervisor.take(Named("b"))
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run()
    assert said == ["start a", "stop b", "stop a"]
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.fixture
def _heeds_interrupts() -> Iterator[None]:
    """Whoever starts the tests in the background may have them ignore Ctrl-C, which is inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeds_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_ends_with_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    sitter = child(tmp_path, WAITS)
    with stop_on_terminate(), Supervisor() as supervisor:
        supervisor.start(sitter)
        wait_for(lambda: sitter.tail() == "ready")
        supervisor.wait(until=lambda: os.kill(os.getpid(), number) is not None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other kernels have no parent-death signal")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "sitter.log"
    code = (
        "import os, signal, sys; from pathlib import Path; from backend.demo.processes import Child; "
        f"Child('sitter', [sys.executable, '-c', {('import os; print(os.getpid()); ' + WAITS)!r}], "
        f"environment=dict(os.environ), log=Path({str(log)!r})).start(); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent) as parent:
        wait_for(lambda: log.is_file() and "ready" in log.read_text())
        sitter = int(log.read_text().split()[0])
        assert runs(sitter)
        parent.kill()
    wait_for(lambda: not runs(sitter))


def test_a_busy_port_is_named_with_the_option_that_changes_it() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"Port {port} cannot be used.*--port"):
            require_free_port(port, "--port")
    require_free_port(port, "--port")
