"""A server in a process of its own: ours as `illume serve` runs it, or another one that answers /health."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

READY_WITHIN_S = 120


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def backend_process(
    given: Mapping[str, Any], log: Path, *, worker: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Our backend, answering, until the block ends.

    Args:
        given: its settings, `port` among them.
        worker: run the worker in it as well.
    """
    words = ["-m", "backend.cli", "serve", *(["--with-worker"] if worker else [])]
    settings = {f"ILLUME_{name.upper()}": _text(value) for name, value in given.items()}
    with python_process(words, given["port"], log, settings) as process:
        yield process


@contextmanager
def python_process(
    words: Sequence[str], port: int, log: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """This Python with these arguments, once /health answers on the port, until the block ends.

    Args:
        settings: environment variables; of the developer's shell those for ILLUME are left out.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ILLUME_")}
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [sys.executable, *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**kept, **settings},
        )
        try:
            _wait_until_ready(process, port, log)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(READY_WITHIN_S):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
        except httpx.HTTPError:
            pass
        else:
            return
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"The server ended with code {code}:\n{log.read_text()[-2000:]}")
    raise RuntimeError(f"The server was not ready within {READY_WITHIN_S} s:\n{log.read_text()[-2000:]}")
