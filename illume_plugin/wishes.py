"""Candidates for what an annotator wishes for: drawn in two ways, cleaned, scored, chosen. Loads no torch.

Half of the draws come from the conversation in which the model told the earlier rationale and was asked to
change it (DRESS's second turn). Not every model can follow one: those are found out by what they say. A text
from the conversation that the model itself thinks less likely than the least likely of its plain draws is not
shown [ours]. The other half are plain draws with new noise, which stand in where the first ones are no good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from illume_plugin.generation.generator import Generator, SampleRequest
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.identity import wording
from illume_plugin.proposals import Choice, Encoder, Proposal, chosen, scored
from illume_plugin.selection import Drop, Reason, clean, counts
from illume_plugin.selection.similarity import same_but_for_spelling
from illume_plugin.types import Candidate, Wish


def propose_for_wish(
    generator: Generator,
    requests: Sequence[SampleRequest],
    plan: SamplingPlan,
    choice: Choice,
    *,
    wish: Wish,
    adapter: str | None = None,
    encoder: Encoder | None = None,
    stop: Callable[[], bool] = never,
) -> list[Proposal]:
    """New candidates for tasks on somebody's screen; a search's plan draws in one go, which is quicker.

    What was on the screen already is not proposed again. Candidates from the conversation come first.

    Raises:
        ModelError, ImageError, TaskError, SamplingStopped: as `proposals.propose`.
    """
    half = replace(plan, samples=-(-plan.samples // 2), search=None)
    plain = replace(wish, text="")
    asked = [replace(each, wish=one) for each in requests for one in (wish, plain)]
    drawn = generator.draw(asked, half, adapter=adapter, stop=stop)
    pairs = [(drawn[at], drawn[at + 1]) for at in range(0, len(drawn), 2)]
    cleaned = [clean([*wished, *others]) for wished, others in pairs]
    found = scored(generator, requests, [each.kept for each in cleaned], choice, adapter, encoder)
    return [
        _proposal(candidates, each.dropped, _prompts(others), wish, choice)
        for candidates, each, (_, others) in zip(found, cleaned, pairs, strict=True)
    ]


def _prompts(draws: Sequence[Candidate | None]) -> set[str]:
    return {draw.prompt for draw in draws if draw is not None}


def _proposal(
    candidates: Sequence[Candidate], dropped: Sequence[Drop], plain: set[str], wish: Wish, choice: Choice
) -> Proposal:
    new = [each for each in candidates if not _was_shown(each.text, wish.shown)]
    others = [each for each in new if each.prompt in plain]
    least = min((p for each in candidates if each.prompt in plain and (p := each.logprob_mean) is not None),
                default=None)  # fmt: skip
    wished = [each for each in new if each.prompt not in plain and _is_as_likely(each, least)]
    first = chosen(wished, choice)
    rest = chosen(others, replace(choice, limit=choice.limit - len(first)))
    left = [Drop(Reason.NOT_CHOSEN, None)] * (len(candidates) - len(first) - len(rest))
    return Proposal([*first, *rest], counts([*dropped, *left]))


def _was_shown(text: str, shown: frozenset[str]) -> bool:
    key = wording(text)
    return any(wording(each) == key or same_but_for_spelling(each, text) for each in shown)


def _is_as_likely(candidate: Candidate, least: float | None) -> bool:
    return least is None or candidate.logprob_mean is None or candidate.logprob_mean >= least
