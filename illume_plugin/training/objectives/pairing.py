"""Which rationale of another task stands in for a mismatch in KTO's baseline. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from illume_plugin.examples import LabelledRationale


def mismatched(labels: Sequence[LabelledRationale]) -> list[LabelledRationale]:
    """Each task with the rationale of another one, for the baseline.

    TRL takes the neighbour's rationale; this takes that of the nearest earlier label (counted round) of
    another task, for a task's own candidates would be no mismatch. None where all are of one task.
    """
    found = []
    for place, label in enumerate(labels):
        earlier = [*reversed(labels[:place]), *reversed(labels[place:])]
        other = next((each for each in earlier if each.task_id != label.task_id), None)
        if other is not None:
            found.append(replace(label, rationale=other.rationale))
    return found
