"""From a task to the candidates a person will see: drawn, cleaned, scored, ranked, chosen. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol

from illume_plugin.errors import SettingsError
from illume_plugin.generation.generator import Generator, SampleRequest, SentenceSearcher
from illume_plugin.generation.plan import SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.selection import (
    RELEVANCE_WEIGHT,
    TRADE_OFF,
    Drop,
    Reason,
    calibrated_ranks,
    choose,
    clean,
    counts,
)
from illume_plugin.types import MAX_CANDIDATES, Candidate


class Encoder(Protocol):
    """An image-text encoder (`relevance.ImageTextEncoder`)."""

    def relevances(
        self, images: Sequence[Path], texts: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        """Relevance of every sentence of every text to its picture, in [0, 100]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How candidates are scored and chosen.

    Attributes:
        limit: candidates that are shown at most.
        relevance_weight: CSR's lambda, in [0, 1]; without an encoder it plays no part.
        trade_off: quality against novelty, in [0, 1] (`selection.choose`).
        blind: whether candidates are scored without the picture as well.
    """

    limit: int = MAX_CANDIDATES
    relevance_weight: float = RELEVANCE_WEIGHT
    trade_off: float = TRADE_OFF
    blind: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidates of one task.

    Attributes:
        chosen: with all their scores, best first.
        dropped: draws that are not shown, by reason.
    """

    chosen: list[Candidate]
    dropped: Mapping[str, int]


def propose(
    generator: Generator,
    requests: Sequence[SampleRequest],
    plan: SamplingPlan,
    choice: Choice,
    *,
    adapter: str | None = None,
    encoder: Encoder | None = None,
    stop: Callable[[], bool] = never,
) -> list[Proposal]:
    """Draw, clean, score, rank and choose the candidates of every task.

    A candidate's rank comes from its likelihood per token by the adapter that drew it and, with an encoder,
    its relevance to the picture: it was sampled in one go, so it is one node of CSR's tree, and its siblings
    are the task's other candidates. One that a search found has the rank of its path.

    Raises:
        ModelError: no adapter of that name is loaded.
        ImageError: a picture cannot be read.
        SamplingStopped: `stop`, which is asked between two tokens, said so.
        SettingsError: the plan has a search, and the generator cannot search.
    """
    drawn = _drawn(generator, requests, plan, adapter, encoder, stop)
    cleaned = [clean(draws) for draws in drawn]
    kept = [each.kept for each in cleaned]
    found = scored(generator, requests, kept, choice, adapter, encoder)
    return [
        _proposal(candidates, each.dropped, choice) for candidates, each in zip(found, cleaned, strict=True)
    ]


def scored(
    generator: Generator,
    requests: Sequence[SampleRequest],
    kept: Sequence[Sequence[Candidate]],
    choice: Choice,
    adapter: str | None,
    encoder: Encoder | None,
) -> list[list[Candidate]]:
    """The candidates of each task with what the adapter and, if there is one, the encoder make of them."""
    found = generator.score(requests, kept, adapter=adapter, blind=choice.blind)
    return _with_relevance(encoder, requests, found) if encoder else found


def chosen(candidates: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """The candidates of one task that are shown, ranked among each other, best first."""
    ranks = calibrated_ranks(
        [candidate.logprob_mean for candidate in candidates],
        [candidate.relevance for candidate in candidates],
        weight=choice.relevance_weight,
    )
    ranked = [
        replace(candidate, rank=candidate.searched.rank if candidate.searched else rank)
        for candidate, rank in zip(candidates, ranks, strict=True)
    ]
    return choose(ranked, choice.limit, trade_off=choice.trade_off)


def _drawn(
    generator: Generator,
    requests: Sequence[SampleRequest],
    plan: SamplingPlan,
    adapter: str | None,
    encoder: Encoder | None,
    stop: Callable[[], bool],
) -> list[list[Candidate | None]]:
    if plan.search is None:
        return generator.draw(requests, plan, adapter=adapter, stop=stop)
    if not isinstance(generator, SentenceSearcher):
        raise SettingsError(
            f"{type(generator).__name__} cannot search sentence by sentence.",
            todo="Set ILLUME_STRATEGY=sample.",
        )
    relevances = encoder.relevances if encoder else None
    return generator.search(requests, plan, adapter=adapter, relevances=relevances, stop=stop)


def _with_relevance(
    encoder: Encoder, requests: Sequence[SampleRequest], scored: Sequence[Sequence[Candidate]]
) -> list[list[Candidate]]:
    texts = [[candidate.text for candidate in candidates] for candidates in scored]
    found = encoder.relevances([request.image for request in requests], texts)
    return [
        [
            replace(candidate, sentence_relevances=values, relevance=fmean(values) if values else None)
            for candidate, values in zip(candidates, some, strict=True)
        ]
        for candidates, some in zip(scored, found, strict=True)
    ]


def _proposal(candidates: Sequence[Candidate], dropped: Sequence[Drop], choice: Choice) -> Proposal:
    best = chosen(candidates, choice)
    left = [Drop(Reason.NOT_CHOSEN, None)] * (len(candidates) - len(best))
    return Proposal(best, counts([*dropped, *left]))
