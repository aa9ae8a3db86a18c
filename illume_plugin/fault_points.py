"""Named points at which a test has a process die. They do nothing unless the environment names one.

    ILLUME_FAULT=publish.before_rename:kill      the process dies when it comes there
    ILLUME_FAULT=publish.before_rename:kill@3    when it comes there for the third time
    ILLUME_FAULT_ONCE=FILE                       only the process that makes FILE dies: one of a worker,
                                                 of what starts in its place, and of their training processes

All that a point can do is to send SIGKILL to its own process: no handler runs, no file is closed, as when the
machine kills it for want of memory. Nothing that comes from outside reaches a point, only the environment.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from illume_plugin.errors import SettingsError

VARIABLE = "ILLUME_FAULT"
ONCE_VARIABLE = "ILLUME_FAULT_ONCE"

#: Point -> when a process comes there.
POINTS: Mapping[str, str] = {
    "intake.before_commit": "a webhook event is written, and not yet kept",
    "intake.after_commit": "it is kept, and Label Studio is not yet answered",
    "fold.before_commit": "events are folded into preferences, and that is not yet kept",
    "fold.after_commit": "that is kept",
    "picture.before_rename": "a picture is fetched, and has not yet its name in the cache",
    "picture.after_rename": "it has its name",
    "candidates.before_commit": "candidates are written, and not yet kept",
    "candidates.after_commit": "they are kept",
    "push.before": "predictions are about to be sent to Label Studio",
    "push.sent": "Label Studio has them, and we have not noted so",
    "push.noted": "we have noted so",
    "reconcile.before_commit": "what Label Studio shows is written, and not yet kept",
    "reconcile.after_commit": "it is kept, with the note of how far we have come",
    "run.queued": "a run is asked for",
    "run.claimed": "a worker has taken it, and not begun",
    "run.snapshot_kept": "its training set is kept",
    "run.trained": "its training has ended, and nothing is published",
    "checkpoint.before_rename": "a checkpoint is complete, and has not yet its name",
    "checkpoint.after_rename": "it has its name, and older ones are still there",
    "child.adapter_saved": "the training process has written the adapter, and no result",
    "child.result_written": "it has written the result, and not ended",
    "publish.before_rename": "an adapter's files are on the disk, and it has no number",
    "publish.after_rename": "it has its number, and the run does not know",
    "switch.before_commit": "a run lets its version serve, and that is not yet kept",
    "switch.after_commit": "it is kept; the run is over, and its folder is still there",
    "promote.before_commit": "a person lets a version serve, and that is not yet kept",
    "promote.after_commit": "it is kept",
    "backup.before_name": "a backup is on the disk, and has not yet its name",
    "backup.after_name": "it has its name",
}

_FORM = re.compile(r"([a-z_.]+):kill(?:@([1-9][0-9]{0,5}))?")
_visits: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """Where the process is to die, and at which visit, from 1."""

    name: str
    visit: int


def point(name: str) -> None:
    """A point of POINTS; the process ends here if the environment says so."""
    if VARIABLE in os.environ:
        _come_to(name)


def armed() -> Fault | None:
    """What the environment asks for.

    Raises:
        SettingsError: it is not of the form `POINT:kill` or `POINT:kill@N`, or there is no such point.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in POINTS:
        raise SettingsError(
            f"{VARIABLE}={text!r} is not POINT:kill or POINT:kill@N.",
            why="It is for tests alone: it makes the program kill itself.",
            todo=f"Remove it from the environment. Points are: {', '.join(POINTS)}.",
        )
    return Fault(found[1], int(found[2] or 1))


def _come_to(name: str) -> None:
    fault = armed()
    if fault is None or fault.name != name or next(_visits[name]) != fault.visit or not _first():
        return
    _log.critical("%s: process %d kills itself at %s", VARIABLE, os.getpid(), name)
    os.kill(os.getpid(), signal.SIGKILL)


def _first() -> bool:
    """Whether no other process has died of this fault; whoever asks and hears so is to die."""
    mark = os.environ.get(ONCE_VARIABLE)
    if mark is None:
        return True
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True
