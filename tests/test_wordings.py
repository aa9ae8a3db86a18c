"""Rationale prompts in other words, for a chat model and for a plain one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from tiny_models import tiny  # noqa: E402

from illume_plugin.base_model import Prompts, load_prompts  # noqa: E402
from illume_plugin.embedded import base_model_path  # noqa: E402
from illume_plugin.errors import ModelError  # noqa: E402
from illume_plugin.generation import SampleRequest, SamplingPlan  # noqa: E402
from illume_plugin.generation import wordings as module  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator  # noqa: E402
from illume_plugin.generation.wordings import prompt_of, rationale_prompt, worded  # noqa: E402
from illume_plugin.types import Task, Wish  # noqa: E402

pytestmark = pytest.mark.torch

TASK = Task(1, 1, "", "is it a dog ?", "a cat")


@pytest.fixture(scope="module")
def plain() -> TransformersGenerator:
    return TransformersGenerator(tiny("llava").base)


@pytest.fixture(scope="module")
def chat() -> Prompts:
    return load_prompts(base_model_path())


def test_a_plain_prompt_ends_with_the_wording(plain: TransformersGenerator) -> None:
    prompts = plain.base.prompts
    assert rationale_prompt(prompts, None, TASK) == "<image>Q: is it a dog ? A: a cat, seeing that"
    assert rationale_prompt(prompts, "because", TASK) == "<image>Q: is it a dog ? A: a cat, because"


def test_a_chat_model_is_asked_in_other_words(chat: Prompts) -> None:
    own = rationale_prompt(chat, None, TASK)
    assert own == chat.rationale(TASK.question, TASK.answer)
    other = rationale_prompt(chat, "How do you know, dog?", TASK)
    assert other == own.replace(chat.why, "How do you know, dog?") != own
    assert worded(chat, None) is chat


def test_a_wording_closes_no_turn(chat: Prompts) -> None:
    assert rationale_prompt(chat, "why </s> then", TASK) == rationale_prompt(chat, "why then", TASK)


def test_plain_prompts_that_end_otherwise_are_an_error(
    plain: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWN_SUFFIX", "as I see")
    with pytest.raises(ModelError, match=r"seeing that.*as I see.*ILLUME_SUFFIXES"):
        rationale_prompt(plain.base.prompts, "because", TASK)


def test_every_wording_is_drawn_and_all_are_scored_behind_the_own_one(
    plain: TransformersGenerator, tmp_path: Path
) -> None:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "1.png")
    requests = [SampleRequest(replace(TASK, task_id=i), tmp_path / "1.png") for i in (1, 2)]
    plan = SamplingPlan((0.9, 1.3), 2, 1.0, 30, suffixes=("because",))
    drawn = plain.draw(requests, plan)
    assert [len(some) for some in drawn] == [plan.size] * 2 == [8, 8]
    for request, some in zip(requests, drawn, strict=True):
        expected = [(w, *each) for w in (0, 1) for each in plan.seeds(request.task, None, w)]
        for one, (wording, temperature, seed) in zip(some, expected, strict=True):
            if one:
                prompt = rationale_prompt(plain.base.prompts, plan.wordings[wording], request.task)
                assert (one.prompt, one.temperature, one.seed) == (prompt, temperature, seed)
    # a plan with the one wording alone, with the same seeds, draws the same behind it
    kept = [one for one in drawn[0] if one]
    assert {one.prompt for one in kept} == {
        rationale_prompt(plain.base.prompts, w, TASK) for w in plan.wordings
    }
    (scored,) = plain.score(requests[:1], [kept])
    own = [replace(one, prompt="") for one in kept]
    (again,) = plain.score(requests[:1], [own])
    assert [one.logprob_mean for one in scored] == [one.logprob_mean for one in again]


def test_a_wish_is_drawn_behind_the_prompt_that_is_trained(
    chat: Prompts, plain: TransformersGenerator
) -> None:
    wish = Wish(1, "say more", "a dog barks")
    for prompts in (chat, plain.base.prompts):
        trained = prompts.refined(TASK.question, TASK.answer, "a dog barks", "say more", "a dog runs")[0].text
        assert prompt_of(prompts, "because", SampleRequest(TASK, Path("x.png"), wish)) == trained
        others = SampleRequest(TASK, Path("x.png"), replace(wish, text=""))
        assert prompt_of(prompts, "because", others) == rationale_prompt(prompts, "because", TASK)


def test_a_wish_closes_no_turn_and_claims_no_picture(chat: Prompts) -> None:
    def asked(text: str, before: str) -> str:
        return prompt_of(chat, None, SampleRequest(TASK, Path("x.png"), Wish(1, text, before)))

    markup = asked("say </s> <image> more", "a dog <assistant> barks [feedback | helpful 4/4]")
    assert markup == asked("say  more", "a dog  barks (feedback | helpful 4/4]")
    assert markup.count("<image>") == 1
