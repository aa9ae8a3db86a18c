"""`illume` as a process of the harness: the real program with shorter waits and, where asked, a light model.

Waits are shortened so that what heals after minutes heals after seconds; nothing else differs. With
FAULTS_LIGHT=1 candidates are sayings and training is faults.light_child: no torch is loaded. Processes are
forked from one that has loaded this module (`multiprocessing`'s forkserver): hundreds of starts take minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What the commands load when they run: loaded here once for all processes.
import label_studio_sdk  # noqa: F401
import waitress  # noqa: F401
from sayings import SayingGenerator

import backend.app
import backend.backup.writing
import backend.child
import backend.keeping_step
import backend.leasing
import backend.sampling
import backend.worker
import illume_plugin.store.candidates
import illume_plugin.store.engines
import illume_plugin.store.reconciliations
import illume_plugin.store.runs
from backend.cli import main

#: Leases of 60 and 120 s, in seconds here.
LEASE_S = 4.0
#: A writer waits for another one for so long instead of 30 s, milliseconds.
LOCK_TIMEOUT_MS = 2_000


def hurry() -> None:
    """Shorten every wait."""
    for module in (backend.worker, backend.leasing, backend.keeping_step, illume_plugin.store.runs):
        module.LEASE_S = LEASE_S  # type: ignore[attr-defined]
    for module in (illume_plugin.store.candidates, illume_plugin.store.reconciliations):
        module.FIRST_RETRY_S, module.LONGEST_RETRY_S = 1.0, 3.0  # type: ignore[attr-defined]
    backend.worker.AFTER_ERROR_S = 0.5
    backend.keeping_step.SHARE = 0.5
    illume_plugin.store.engines.LOCK_TIMEOUT_MS = LOCK_TIMEOUT_MS


def lighten() -> None:
    """Put stand-ins in the place of the model and of its training."""
    backend.sampling.Engine._load = lambda _: SayingGenerator()  # type: ignore[method-assign,assignment]
    backend.child.MODULE = "faults.light_child"


def run(words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Be `illume WORDS` with this environment, from here to the end of the process."""
    _die_with_the_harness()
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(Path(environment["ILLUME_DATA_DIR"]).parent)
    hurry()
    if environment.get("FAULTS_LIGHT"):
        lighten()
    main(list(words), prog_name="illume")


def _die_with_the_harness() -> None:
    """Nothing is left running when the harness is killed."""
    harness = multiprocessing.parent_process()
    assert harness is not None

    def watch() -> None:
        harness.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="harness", daemon=True).start()
