"""What a run tells its parent: one JSON object a line."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TextIO

_log = logging.getLogger(__name__)


class Progress:
    """Writes progress as JSON lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.notes: list[str] = []
        self._objectives: dict[str, dict[str, float]] = {}
        self._steps_at: list[float] = []

    @property
    def step_s(self) -> float:
        """Seconds of a step in the mean, the first one left out; 0 where there was no other."""
        times = self._steps_at
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0

    def note(self, sentence: str) -> None:
        """Say something with every line from now on."""
        _log.warning("%s", sentence)
        self.notes.append(sentence)

    def figures(self, figures: Mapping[str, float]) -> None:
        """Say with the next line what the step gave: "dpo/margin" -> {"dpo": {"margin": ...}}."""
        self._objectives = {}
        for name, value in figures.items():
            objective, _, figure = name.partition("/")
            self._objectives.setdefault(objective, {})[figure] = value

    def tell(
        self,
        stage: str,
        step: int = 0,
        steps: int = 0,
        *,
        loss: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Write one line."""
        line = {"stage": stage, "step": step, "steps": steps, "loss": loss, "eta_s": eta_s}
        if stage == "training":
            self._steps_at.append(time.monotonic())
        noted = {"notes": self.notes} if self.notes else {}
        told, self._objectives = self._objectives, {}
        objectives = {"objectives": told} if told else {}
        self._stream.write(json.dumps(line | objectives | noted) + "\n")
        self._stream.flush()
