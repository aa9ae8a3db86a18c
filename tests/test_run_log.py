"""The progress of a run in words and in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from backend.run_log import LINES, RunLog, in_words


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({}, ""),
        ({"stage": "loading"}, "loading"),
        ({"stage": "training", "step": 3, "steps": 40, "loss": 1.25, "eta_s": 9.1},
         "training 3/40, loss 1.250, about 9 s left"),
        ({"stage": "training", "step": 3, "steps": 40, "loss": 1.25, "objectives": {"kto": {"loss": 1.25}}},
         "training 3/40, loss 1.250"),
        ({"stage": "training", "step": 0, "steps": 40, "loss": 0.5, "eta_s": 0,
          "objectives": {"illume": {"loss": 0.4}, "dpo": {"loss": 0.1, "margin": 2.0}}},
         "training 0/40, loss 0.500 (illume 0.400, dpo 0.100), about 0 s left"),
    ],
)  # fmt: skip
def test_in_words(progress: dict[str, Any], words: str) -> None:
    assert in_words(progress) == words


def test_the_log_has_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "backend.run_log")
    told = RunLog(7)
    told.note(None)
    told.note({})
    for _ in range(3):
        told.note({"stage": "loading"})
    for step in range(1001):
        told.note({"stage": "training", "step": step, "steps": 1000, "loss": 1.0})
    for _ in range(3):
        told.note({"stage": "evaluating"})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 + (LINES + 1) + 1
    assert lines[0] == "run 7: loading"
    assert lines[2] == "run 7: training 100/1000, loss 1.000"
    assert lines[-1] == "run 7: evaluating"
