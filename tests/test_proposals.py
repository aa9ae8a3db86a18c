"""From draws to what is shown, with a generator and an encoder of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from illume_plugin.errors import SettingsError
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.plan import SentenceSearch
from illume_plugin.generation.stopping import never
from illume_plugin.proposals import Choice, Proposal, propose
from illume_plugin.types import Candidate, Searched, Side, Task

PLAN = SamplingPlan()
DRAWS = ["It rains.", "it rains", "", None, "The street is wet.", "People hold big umbrellas."]
LOGPROBS = {"It rains.": -1.0, "The street is wet.": -2.0, "People hold big umbrellas.": -3.0}


class Drawing:
    """Draws the same for every task and knows how likely each text is."""

    rows = 10

    def __init__(self) -> None:
        self.scored: list[tuple[list[list[str]], str | None, bool]] = []

    def load_adapter(self, name: str, folder: Path) -> None: ...

    def has(self, name: str) -> bool:
        return True

    def drop_adapter(self, name: str) -> None: ...

    def answer(self, requests: Sequence[SampleRequest], *, adapter: str | None = None) -> list[str]:
        return []

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        return [
            [None if text is None else Candidate(text, 0.5, seed) for seed, text in enumerate(DRAWS)]
            for _ in requests
        ]

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
    ) -> list[list[Candidate]]:
        self.scored.append(([[c.text for c in some] for some in candidates], adapter, blind))
        return [[replace(c, logprob_mean=LOGPROBS[c.text]) for c in some] for some in candidates]


class Encoding:
    """Finds that later letters of the alphabet go better with a picture called z."""

    def relevances(
        self, images: Sequence[Path], texts: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        sign = {"z": 1, "a": -1}
        return [
            [(50.0 + sign[image.stem] * (ord(text[0]) - ord("I")),) for text in some]
            for image, some in zip(images, texts, strict=True)
        ]


def request(name: str) -> SampleRequest:
    return SampleRequest(Task(1, 1, "", "what?", "rain"), Path(f"{name}.png"))


def proposal(choice: Choice | None = None, *, encoder: Encoding | None = None, image: str = "z") -> Proposal:
    (found,) = propose(Drawing(), [request(image)], PLAN, choice or Choice(), encoder=encoder)
    return found


def test_what_is_left_is_ranked_by_likelihood_and_what_is_gone_is_counted() -> None:
    found = proposal(Choice(limit=2, trade_off=1.0))
    assert [(c.text, c.rank, c.logprob_mean) for c in found.chosen] == [
        ("It rains.", 1.0, -1.0),
        ("The street is wet.", 0.5, -2.0),
    ]
    assert found.dropped == {"empty": 1, "not chosen": 1, "repeated": 1, "unfinished": 1}
    assert sum(found.dropped.values()) + len(found.chosen) == len(DRAWS)


@pytest.mark.parametrize(("image", "best"), [("z", "The street is wet."), ("a", "It rains.")])
def test_with_an_encoder_the_picture_decides(image: str, best: str) -> None:
    found = proposal(encoder=Encoding(), image=image)
    assert found.chosen[0].text == best
    assert all(c.relevance == c.sentence_relevances[0] for c in found.chosen)


def test_the_weight_of_relevance_can_be_nothing() -> None:
    found = proposal(Choice(relevance_weight=0.0), encoder=Encoding())
    assert [c.rank for c in found.chosen] == [1.0, 0.5, 0.0]


def test_only_what_is_clean_is_scored_by_the_adapter_that_drew_it() -> None:
    generator = Drawing()
    found = propose(generator, [request("z")] * 2, PLAN, Choice(blind=False), adapter="p1-v0001")
    ((texts, adapter, blind),) = generator.scored
    assert [sorted(some) for some in texts] == [sorted(LOGPROBS)] * 2
    assert (adapter, blind) == ("p1-v0001", False)
    assert found[0] == found[1]


class Searching(Drawing):
    """Finds two rationales, the likelier one on the worse path."""

    def __init__(self) -> None:
        super().__init__()
        self.relevances: object = None

    def search(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        relevances: object = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        self.relevances = relevances
        best, worst = Searched(0.9, (0.9,), (-5.0,), side=Side.BEST), Searched(0.2, (0.2,), (-1.0,))
        return [
            [
                Candidate("The street is wet.", 0.5, 1, searched=best),
                Candidate("It rains.", 0.5, 2, searched=worst),
                None,
            ]
            for _ in requests
        ]


def test_what_a_search_found_has_the_rank_of_its_path() -> None:
    generator, encoder = Searching(), Encoding()
    plan = SamplingPlan(search=SentenceSearch())
    (found,) = propose(generator, [request("a")], plan, Choice(), encoder=encoder)
    assert [(c.text, c.rank) for c in found.chosen] == [("The street is wet.", 0.9), ("It rains.", 0.2)]
    assert found.dropped == {"unfinished": 1}
    assert generator.relevances == encoder.relevances
    propose(generator, [request("a")], plan, Choice())
    assert generator.relevances is None


def test_a_generator_that_cannot_search_is_named() -> None:
    with pytest.raises(SettingsError, match=r"Drawing cannot search.*ILLUME_STRATEGY=sample"):
        propose(Drawing(), [request("a")], SamplingPlan(search=SentenceSearch()), Choice())


def test_no_requests() -> None:
    assert propose(Drawing(), [], PLAN, Choice()) == []
