"""A small vision-language model and the picture world it knows: for the demo, tests and benchmarks.

Nothing here loads torch except `python -m illume_plugin.embedded.measure`.
"""

from __future__ import annotations

from pathlib import Path

from illume_plugin.embedded.checker import Check, Reason, check
from illume_plugin.embedded.drawing import blank, draw
from illume_plugin.embedded.questions import Question
from illume_plugin.embedded.rationales import rationales
from illume_plugin.embedded.scene import Scene, Thing
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.tasks import WorldTask, make_tasks
from illume_plugin.embedded.worlds import World

__all__ = [
    "Check", "Question", "Reason", "Scene", "Split", "Thing", "World", "WorldTask",
    "base_model_path", "blank", "check", "draw", "make_tasks", "rationales",
]  # fmt: skip


def base_model_path() -> Path:
    """The folder of the shipped weights, as `from_pretrained` takes it."""
    return Path(__file__).parent / "weights"
