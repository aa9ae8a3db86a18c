"""The training child process: started, watched, ended. A crash in it kills the run, not the server."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from backend.loss_curve import LossCurve
from illume_plugin.errors import RunError
from illume_plugin.training.spec import CHECKPOINTS_FOLDER, ERROR_FILE, RESULT_FILE, RunResult, read_result

#: What the process runs; see its docstring.
MODULE = "illume_plugin.training.child"
#: How long the child may take to write its checkpoint when it is asked to end, seconds.
STOP_S = 20.0
#: How far training stands back where others want the processor too, as `nice` counts: a ninth of the time.
NICENESS = 10
#: How much of the child's stderr an error shows, characters.
TAIL = 600
LOG_FILE = "child.log"
#: What the child gets none of: it has no business with Label Studio, the database or a server that samples,
#: and may run code that came with the base model.
SECRETS = (
    "ILLUME_LABEL_STUDIO_TOKEN",
    "ILLUME_SECRET",
    "ILLUME_DASHBOARD_PASSWORD",
    "ILLUME_DATABASE_URL",
    "ILLUME_VLLM_API_KEY",
    "LABEL_STUDIO_API_KEY",
    "PGPASSWORD",
)
log = logging.getLogger(__name__)


class KilledError(RunError):
    """The training process was ended by a signal, such as the system's for want of memory."""


class TrainingChild:
    """`python -m illume_plugin.training.child FOLDER`, ended when the block ends.

    The child watches its stdin, which we hold open: when this process dies, however, the pipe closes and the
    child ends itself.

    Args:
        threads: of the processor, in each process; 0: torch decides.
        processes: that train together; with more than one the child is torchrun, which starts them.
        lock: descriptor of the run's lock, which is then held until the child has ended, too.
    """

    def __init__(
        self, folder: Path, *, threads: int = 0, processes: int = 1, lock: int | None = None
    ) -> None:
        self.folder = folder
        self.threads = threads
        self.processes = processes
        self.lock = lock
        self._progress: dict[str, Any] = {"stage": "starting"}
        self._losses = LossCurve()

    def __enter__(self) -> Self:
        environment = dict(os.environ)
        for name in SECRETS:
            environment.pop(name, None)
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        self._log = (self.folder / LOG_FILE).open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, *self._words()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            pass_fds=() if self.lock is None else (self.lock,),
        )
        # a run takes hours, an annotator waits: who is served comes first where the processor is short
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        assert self._process.stdout is not None  # noqa: S101 - PIPE above
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        return self

    def _words(self) -> list[str]:
        """Python's arguments. Processes that torchrun starts have our pipe as their stdin, too."""
        words = ["-m", MODULE, str(self.folder), "--watch-stdin"]
        if self.processes == 1:
            return words
        return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}", *words]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # while it trains it writes a checkpoint first
            self.wait(STOP_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library printed something; only JSON lines are progress
            if isinstance(event, dict):
                self._losses.note(event.get("step"), event.get("loss"))
                self._progress = event

    def running(self) -> bool:
        """Whether the child lives."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return

    def progress(self) -> dict[str, Any]:
        """The newest progress event, {"stage", "step", "steps", "loss", "eta_s"}, and "losses" so far."""
        return {**self._progress, "losses": self._losses.points()}

    def result(self) -> RunResult:
        """What the child found.

        Raises:
            KilledError: it was killed before it had a result.
            RunError: it failed; the reason is in it.
        """
        code = self._process.returncode
        if code == 0 or any((self.folder / name).is_file() for name in (RESULT_FILE, ERROR_FILE)):
            return read_result(self.folder)
        tail = (self.folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
        # one of torchrun's that fails by itself leaves its reason; torchrun ends with 1 whatever became of it
        killed = code < 0 or self.processes > 1
        raise (KilledError if killed else RunError)(
            f"The training process ended with code {code} and no result.",
            why=tail
            or "It said nothing; a negative code is a signal (-9: killed, often for want of memory).",
            todo="Give it more memory or a smaller micro_batch_size, then start training again.",
        )


def until_it_ends(folder: Path, attempt: Callable[[], RunResult]) -> RunResult:
    """Train, and again from the newest checkpoint when the process was killed, while that gets further.

    Args:
        attempt: starts a training process on `folder` and waits for its result.

    Raises:
        KilledError: it was killed twice at the same checkpoint, or twice before the first one.
        RunError: it failed.
    """
    died_after: set[str] = set()
    while True:
        try:
            return attempt()
        except KilledError as error:
            newest = max((path.name for path in (folder / CHECKPOINTS_FOLDER).glob("step-*")), default="")
            if newest in died_after:
                raise
            died_after.add(newest)
            log.warning("%s It goes on from %s.", error.what, newest or "the beginning")
