"""Sampling for a project: what is shown, what is kept of the rest, and what is said when nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from conftest import SayingGenerator

from backend.sampling import choice_of, sampling_plan
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.errors import ModelError, SettingsError
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.plan import SentenceSearch
from illume_plugin.generation.stopping import never
from illume_plugin.store import projects
from illume_plugin.types import Candidate, Project

DATA = {1: {"image": "/1.png", "question": "what is it?", "answer": "a dog"}}


class Drawing(SayingGenerator):
    """Draws what it is told to draw, the first one as the likeliest."""

    def __init__(self, *texts: str | None) -> None:
        super().__init__()
        self.texts = texts

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        drawn = [
            None if text is None else Candidate(text, 0.5, seed, logprob_mean=-float(seed))
            for seed, text in enumerate(self.texts)
        ]
        return [list(drawn) for _ in requests]


@pytest.fixture
def project(service: Service, connected: int) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, connected)


def test_reasons_are_kept_with_the_set(service: Service, project: Project) -> None:
    service.engine._generator = Drawing("It barks.", "it barks", None, "It has a tail.", "It is is is is it.")
    service.sampler.sample(project, DATA, keys=service.keys)
    stored = service.sampler.stored(project, [1])[1]
    assert sorted(stored.texts) == ["It barks.", "It has a tail."]
    assert stored.dropped == {"loop": 1, "repeated": 1, "unfinished": 1}
    assert {c.text: c.rank for c in stored.candidates} == {"It barks.": 1.0, "It has a tail.": 0.0}


def test_no_more_than_the_plan_shows(service: Service, project: Project) -> None:
    letters = "abcdefgh"
    service.engine._generator = Drawing(*(f"It is {letter}." for letter in letters))
    found = service.sampler.sample(project, DATA, keys=service.keys).sets[1]
    assert len(found.texts) == service.plan.limit == 6
    assert found.dropped == {"not chosen": 2}
    assert "It is a." in found.texts


def test_when_nothing_is_left_the_reasons_are_named(service: Service, project: Project) -> None:
    service.engine._generator = Drawing("", None, None)
    sampled = service.sampler.sample(project, DATA, keys=service.keys)
    assert sampled.sets == {}
    assert "(1 empty, 2 unfinished)" in str(sampled.problems[1])


def test_what_was_not_shown_is_logged(
    service: Service, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    service.engine._generator = Drawing("It barks.", "it barks")
    with caplog.at_level("INFO"):
        service.sampler.sample(project, DATA, keys=service.keys)
    assert "1 candidates for 1 tasks; not shown: 1 repeated" in caplog.text


def test_the_settings_say_how_candidates_are_chosen() -> None:
    choice = choice_of(load_settings(candidates=4, trade_off=1.0, relevance_weight=0.5, score_blind=False))
    assert (choice.limit, choice.trade_off, choice.relevance_weight, choice.blind) == (4, 1.0, 0.5, False)


def test_the_settings_say_how_candidates_are_drawn() -> None:
    assert sampling_plan(load_settings()).hash == SamplingPlan(limit=6).hash
    plan = sampling_plan(
        load_settings(
            strategy="sentence_search",
            suffixes=("because",),
            search_sentences=4,
            search_best=2,
            search_worst=3,
            search_max_sentences=6,
            relevance_weight=0.5,
        )
    )
    assert plan.wordings == (None, "because")
    assert plan.search == SentenceSearch(4, 2, 3, max_sentences=6, relevance_weight=0.5)


def test_a_search_on_a_server_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"ILLUME_STRATEGY=sentence_search.*ILLUME_VLLM_URL") as caught:
        Service(load_settings(strategy="sentence_search", vllm_url="http://gpu:8000", vllm_api_key="pass"))
    assert "pass" not in str(caught.value)
    assert sampling_plan(load_settings(vllm_url="http://gpu:8000")).search is None


def test_without_a_relevance_model_there_is_no_encoder(service: Service) -> None:
    assert service.engine.encoder() is None


@pytest.mark.torch
def test_a_relevance_model_that_is_none_names_the_setting(service: Service) -> None:
    service.engine.settings = load_settings(relevance_model="./nowhere")
    with pytest.raises(ModelError, match="ILLUME_RELEVANCE_MODEL"):
        service.engine.encoder()
