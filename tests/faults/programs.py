"""The processes under test, as a supervisor keeps them: whatever dies is started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from faults import process
from illume_plugin import fault_points

TESTS = Path(__file__).resolve().parents[1]


class Program:
    """One `illume` command as a process, and its log.

    Args:
        environment: settings, without ours.
        folder: for its log.
    """

    def __init__(self, name: str, *words: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.ended_by_itself: list[int] = []
        self._words = words
        self._environment = dict(environment)
        self._process: BaseProcess | None = None

    def start(self, *, fault: str | None = None, mark: Path | None = None) -> None:
        """Start it.

        Args:
            fault: what ILLUME_FAULT says.
            mark: file that says that the fault has come.
        """
        armed = {}
        if fault is not None:
            armed = {fault_points.VARIABLE: fault, fault_points.ONCE_VARIABLE: str(mark)}
        arguments = (self._words, {**self._environment, **armed}, self.log)
        self._process = _context().Process(target=process.run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def supervise(self) -> None:
        """Start it again if it has ended."""
        if self._process is not None and not self._process.is_alive():
            code = self._process.exitcode
            if code is not None and code != -signal.SIGKILL:
                self.ended_by_itself.append(code)
            self.start()

    def kill(self, *, tree: bool = False) -> bool:
        """SIGKILL, with everything that it has started (`tree`); returns whether it was running."""
        if not self.running:
            return False
        victims = [self.pid, *(descendants(self.pid) if tree else ())]
        for pid in victims:
            _kill(pid)
        self.wait(30)
        return True

    def kill_child(self) -> bool:
        """SIGKILL to one process that it has started; returns whether there was one."""
        victim = next(descendants(self.pid), None) if self.running else None
        return victim is not None and _kill(victim)

    def wait(self, seconds: float) -> int:
        """Its exit status.

        Raises:
            TimeoutError: it goes on.
        """
        assert self._process is not None
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise TimeoutError(f"{self.name} has not ended within {seconds} s")
        return self._process.exitcode

    def stop(self) -> None:
        """End it in order, and do not start it again."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.join(30)
        self.kill(tree=True)
        self._process = None

    def tail(self, size: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([process.__name__])
    return context


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def descendants(pid: int) -> Iterator[int]:
    """Processes that a process has started, and theirs (Linux)."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from descendants(child)
