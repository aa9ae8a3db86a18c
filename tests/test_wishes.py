"""What is proposed for a wish: with draws of a few lines, and with the embedded model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.plan import SentenceSearch
from illume_plugin.generation.stopping import never
from illume_plugin.proposals import Choice
from illume_plugin.types import Candidate, Task, Wish
from illume_plugin.wishes import propose_for_wish

TASK = Task(1, 1, "/data/1.png", "what is it?", "a dog")
REQUEST = SampleRequest(TASK, Path("1.png"))
WISH = Wish(1, "say what it does", "it is a dog", frozenset({"It is a dog."}), rows=9)
PLAIN = {"It has fur.": -1.0, "It is a dog.": -0.5, "It wags a tail.": -2.0}
WISHED = {"It runs after a ball.": -1.5, "Dog the dog ball of.": -4.0}


class Drawing:
    """Draws other texts behind a wish, and knows how likely each text is as a plain rationale."""

    rows = 10

    def __init__(self, plain: dict[str, float] = PLAIN, wished: dict[str, float] = WISHED) -> None:
        self.plain, self.wished = plain, wished
        self.plans: list[SamplingPlan] = []

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        self.plans.append(plan)
        return [self._told(each.wish) for each in requests]

    def _told(self, wish: Wish | None) -> list[Candidate | None]:
        asked = bool(wish and wish.text)
        texts = self.wished if asked else self.plain
        return [Candidate(text, 0.5, 1, "asked" if asked else "plain") for text in texts]

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
    ) -> list[list[Candidate]]:
        known = {**self.wished, **self.plain}
        return [[replace(each, logprob_mean=known[each.text]) for each in some] for some in candidates]


def proposed(generator: Drawing, limit: int = 9, wish: Wish = WISH) -> list[str]:
    found = propose_for_wish(generator, [REQUEST], SamplingPlan(), Choice(limit=limit), wish=wish)  # type: ignore[arg-type]
    return [each.text for each in found[0].chosen]


def test_what_was_wished_for_comes_first_and_what_was_shown_not_at_all() -> None:
    texts = proposed(Drawing())
    assert texts[0] == "It runs after a ball."
    assert set(texts) == {"It runs after a ball.", "It has fur.", "It wags a tail."}


def test_what_both_ways_say_is_shown_once() -> None:
    texts = proposed(Drawing(wished={**WISHED, "it has fur": -1.0}))
    assert sorted(text.casefold().strip(".") for text in texts) == [
        "it has fur",
        "it runs after a ball",
        "it wags a tail",
    ]


def test_nonsense_behind_a_wish_is_left_out() -> None:
    assert "Dog the dog ball of." not in proposed(Drawing())
    assert "Dog the dog ball of." in proposed(Drawing(plain={"It barks.": -5.0}))


def test_unscored_texts_stay() -> None:
    class Unscored(Drawing):
        def score(
            self, _: object, candidates: Sequence[Sequence[Candidate]], **__: object
        ) -> list[list[Candidate]]:
            return [list(some) for some in candidates]

    assert "Dog the dog ball of." in proposed(Unscored())


def test_there_is_room_for_so_many() -> None:
    assert proposed(Drawing(), limit=1) == ["It runs after a ball."]


def test_a_spelling_of_what_was_shown_is_not_new() -> None:
    seen = replace(WISH, shown=frozenset({"it has the fur", "It runs after a ball!", "it wags a tail"}))
    assert proposed(Drawing(), wish=seen) == ["It is a dog."]


def test_a_search_draws_in_one_go() -> None:
    generator = Drawing()
    plan = SamplingPlan(search=SentenceSearch(), samples=5)
    propose_for_wish(generator, [REQUEST], plan, Choice(), wish=WISH)  # type: ignore[arg-type]
    assert [(each.search, each.samples) for each in generator.plans] == [(None, 3)]


def test_another_wish_or_round_has_other_noise() -> None:
    plan = SamplingPlan()
    wishes = [None, WISH, replace(WISH, text=""), replace(WISH, round=2), replace(WISH, before="x")]
    seeds = [seed for wish in wishes for _, seed in plan.seeds(TASK, "v0001", wish=wish)]
    assert len(set(seeds)) == len(wishes) * plan.copies


@pytest.mark.torch
def test_the_embedded_model_gives_new_rationales_and_no_nonsense(tmp_path: Path) -> None:
    from illume_plugin.base_model import load_base_model
    from illume_plugin.embedded import Reason, base_model_path, check, draw, make_tasks
    from illume_plugin.generation.engine import TransformersGenerator
    from illume_plugin.proposals import propose

    generator = TransformersGenerator(load_base_model(str(base_model_path()), device="cpu", dtype="float32"))
    new, malformed, wished = 0, 0, 0
    for number, world in enumerate(make_tasks(6, seed=5)):
        path = tmp_path / f"{number}.png"
        draw(world.scene, px=240).save(path)
        request = SampleRequest(Task(1, number, str(path), world.question_text, world.answer), path)
        (first,) = propose(generator, [request], SamplingPlan(), Choice())
        shown = frozenset(each.text for each in first.chosen)
        wish = Wish(1, "name the colors", first.chosen[0].text, shown)
        (second,) = propose_for_wish(generator, [request], SamplingPlan(), Choice(), wish=wish)
        (again,) = propose_for_wish(generator, [request], SamplingPlan(), Choice(), wish=wish)
        assert [each.text for each in again.chosen] == [each.text for each in second.chosen]
        assert shown.isdisjoint(each.text for each in second.chosen)
        new += len(second.chosen)
        wished += sum("name the colors" in each.prompt for each in second.chosen)
        reasons = [
            check(world.scene, world.question, world.answer, each.text).reason for each in second.chosen
        ]
        malformed += reasons.count(Reason.MALFORMED)
    assert new >= 12
    assert wished > 0  # what comes from the conversation is among them where it makes sense
    assert malformed <= new // 10
