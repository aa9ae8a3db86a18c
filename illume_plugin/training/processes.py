"""This process among those of a run, and the signals that ask it to stop. torch is loaded when needed."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def is_first() -> bool:
    """Whether this process tells, evaluates and writes: under torchrun the one with rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device(wanted: str | None) -> str | None:
    """The device of this process: under torchrun each has a GPU of its own, unless one is named."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or wanted not in (None, "cuda"):
        return wanted
    import torch

    return f"cuda:{local}" if torch.cuda.is_available() else wanted


def tells_of_another(error: Exception) -> bool:
    """Whether an error says no more than that another process of the run is gone, which knows why."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not isinstance(error, RuntimeError):
        return False
    import torch.distributed

    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def peak_memory() -> int:
    """Most bytes that were in use at a time: of this process's GPU where it used one, otherwise of itself."""
    import torch

    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return int(used)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM and SIGINT end nothing; what is given says whether one of them has come."""
    asked = threading.Event()
    before = {each: signal.signal(each, lambda *_: asked.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
