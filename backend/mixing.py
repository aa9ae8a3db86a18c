"""During a trial: what two adapters propose for a task becomes the one list that a person sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from illume_plugin import trials
from illume_plugin.generation.generator import SampleRequest
from illume_plugin.proposals import Proposal
from illume_plugin.selection import Reason

Proposed = tuple[SampleRequest, Proposal]


def mixed(
    active: Sequence[Proposed], challenger: Sequence[Proposed], versions: tuple[str, str], limit: int
) -> list[Proposed]:
    """One proposal for each task of `active`, with the challenger's candidates among its own.

    A task for which the challenger proposed nothing keeps the active adapter's: it opens, and counts for
    nobody.
    """
    theirs = {request.task.task_id: proposal for request, proposal in challenger}
    return [
        (request, _mixed(proposal, theirs.get(request.task.task_id, Proposal([], {})), versions, limit))
        for request, proposal in active
    ]


def _mixed(active: Proposal, challenger: Proposal, versions: tuple[str, str], limit: int) -> Proposal:
    shown = trials.mix(active.chosen, challenger.chosen, versions, limit)
    written = sum(len(each.versions) for each in shown)
    left = Counter({Reason.NOT_CHOSEN.value: len(active.chosen) + len(challenger.chosen) - written})
    return Proposal(shown, dict(Counter(active.dropped) + Counter(challenger.dropped) + left))
