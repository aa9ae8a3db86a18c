"""Child processes that end when we end, whatever ends us.

Each child has a process group of its own, so that Ctrl-C reaches us alone and we stop them in order. On
Linux the kernel also sends a child SIGTERM when we are killed outright; elsewhere such a child lives on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from illume_plugin.errors import IllumeError

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_POLL_S = 0.5


class ProcessError(IllumeError):
    """A child process cannot start, or has ended by itself."""

    title = "a process ended"


class Child:
    """One child process and its log file.

    Args:
        name: what a person calls it.
        command: program and arguments; visible to every user of the machine, so no secrets.
        environment: all of its environment.
        log: file that gets its output, appended.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start it. To be called from a thread that lives as long as we do: Linux takes the end of the
        starting thread for our own end.

        Raises:
            ProcessError: the program is missing or may not be run.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                    self.command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_dies_with(os.getpid()),
                )
            except OSError as error:
                raise ProcessError(f"{self.name} cannot be started: {error}.") from error

    @property
    def ended(self) -> int | None:
        """Its exit status, or None while it runs (or was never started)."""
        return None if self._process is None else self._process.poll()

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            ProcessError: it has ended; with the end of its log.
        """
        if self.ended is not None:
            raise ProcessError(
                f"{self.name} ended by itself with status {self.ended}.",
                why=f"The end of its log:\n{self.tail()}\n",
                todo=f"All of it is in {self.log}.",
            )

    def tail(self, lines: int = 15) -> str:
        """The last lines that it wrote since its start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def stop(self, grace_s: float = 10.0) -> None:
        """End its process group: ask, wait up to `grace_s` seconds, then kill. Harmless when it has ended."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended between the two lines
                os.killpg(self._process.pid, number)


class Startable(Protocol):
    """What a Supervisor takes charge of: a Child, or something made of one."""

    def start(self) -> None: ...

    def check(self) -> None: ...

    def stop(self) -> None: ...


StartableT = TypeVar("StartableT", bound=Startable)


class Supervisor:
    """Starts processes in order and stops them in reverse order when its `with` block ends, however.

    To be used in the main thread, which Python's signals need, and inside `stop_on_terminate`.
    """

    def __init__(self) -> None:
        self._processes: list[Startable] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _deaf_to_signals():  # an impatient second Ctrl-C must not leave processes behind
            while self._processes:
                self._processes.pop().stop()

    def take(self, process: StartableT) -> StartableT:
        """Take charge of a process that the caller starts."""
        self._processes.append(process)
        return process

    def start(self, process: StartableT) -> StartableT:
        """Take charge of a process and start it."""
        self.take(process).start()
        return process

    def check(self) -> None:
        """Make sure that all of them run; ProcessError names the one that does not."""
        for process in self._processes:
            process.check()

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Watch them until `until()` is true or Ctrl-C.

        Raises:
            ProcessError: one of them has ended by itself.
        """
        with contextlib.suppress(KeyboardInterrupt):
            while not until():
                self.check()
                time.sleep(_POLL_S)


@contextlib.contextmanager
def stop_on_terminate() -> Iterator[None]:
    """Within this block SIGTERM acts like Ctrl-C, so that `with` and `finally` do their work."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _deaf_to_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_free_port(port: int, option: str) -> None:
    """Make sure that a loopback port can be listened on.

    Args:
        option: the command line option with which another port is chosen.

    Raises:
        ProcessError: something listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ProcessError(
                f"Port {port} cannot be used: {error.strerror}.",
                todo=f"Stop the program that listens there, or choose another port with {option}.",
            ) from error


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What a new child does first on Linux: ask the kernel for SIGTERM at our death."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: after it only little is safe

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # we died before the kernel was asked
            os._exit(1)

    return ask
