"""The progress of a run in words, and in the log: at each new stage, and ten times while it trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

#: Lines that a run's training has in the log.
LINES = 10
log = logging.getLogger(__name__)


def in_words(progress: Mapping[str, Any]) -> str:
    """Such as `training 12/40, loss 0.312 (illume 0.298, dpo 0.140), about 9 s left`; "" for nothing."""
    parts = [_stage(progress), _losses(progress)]
    if progress.get("eta_s") is not None:
        parts.append(f"about {progress['eta_s']:.0f} s left")
    return ", ".join(part for part in parts if part)


class RunLog:
    """Writes into the log how a run goes, a line now and then."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._told: tuple[str, int] | None = None

    def note(self, progress: Mapping[str, Any] | None) -> None:
        """Take in the newest progress, as often as one likes."""
        if not progress or not progress.get("stage"):
            return
        where = (str(progress["stage"]), LINES * progress.get("step", 0) // max(progress.get("steps", 0), 1))
        if where != self._told:
            self._told = where
            log.info("run %d: %s", self._run_id, in_words(progress))


def _stage(progress: Mapping[str, Any]) -> str:
    stage = str(progress.get("stage") or "")
    return f"{stage} {progress.get('step', 0)}/{progress['steps']}" if progress.get("steps") else stage


def _losses(progress: Mapping[str, Any]) -> str:
    if progress.get("loss") is None:
        return ""
    objectives = progress.get("objectives") or {}
    each = ", ".join(f"{name} {figures['loss']:.3f}" for name, figures in objectives.items())
    return f"loss {progress['loss']:.3f}" + (f" ({each})" if len(objectives) > 1 else "")
