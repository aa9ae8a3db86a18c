"""Simulated annotators tick what they should, the same every time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.annotators import (
    STRICT_TICKS,
    CheckerAnnotator,
    Critic,
    RougeAnnotator,
    SlippingAnnotator,
    Strictness,
    team,
)
from illume_plugin.embedded import WorldTask, check, make_tasks, rationales
from illume_plugin.embedded.checker import GENERIC
from illume_plugin.errors import SettingsError

TASKS = make_tasks(30, 5)


def true_texts(task: WorldTask, n: int) -> list[str]:
    return [rationales(task.scene, task.question, task.answer, random.Random(k)) for k in range(n)]


@pytest.mark.parametrize("task", TASKS[:6])
@pytest.mark.parametrize(
    ("strictness", "expected"),
    [
        (Strictness.EXACT, [True, False, True, True, False]),
        (Strictness.LENIENT, [True, True, True, True, False]),
        (Strictness.STRICT, [True, False, True, False, False]),
    ],
)
def test_strictness(task: WorldTask, strictness: Strictness, expected: list[bool]) -> None:
    a, b, c = true_texts(task, 3)
    texts = [a, GENERIC[0], b, c, "because flurb ."]
    assert CheckerAnnotator(strictness).ticks(task, texts) == expected


def test_the_lenient_one_still_refuses_what_is_false() -> None:
    task, other = TASKS[0], TASKS[1:]
    wrong = [text for one in other for text in true_texts(one, 3)]
    false = [text for text in wrong if check(task.scene, task.question, task.answer, text).reason == "false"]
    assert false
    assert not any(CheckerAnnotator(Strictness.LENIENT).ticks(task, false))


@given(st.sampled_from(TASKS), st.lists(st.integers(0, 40), max_size=10))
def test_the_strict_one_ticks_a_few_of_what_the_exact_one_ticks(task: WorldTask, picks: list[int]) -> None:
    texts = [[*true_texts(task, 20), *GENERIC * 4][pick % 40] for pick in picks]
    exact = CheckerAnnotator().ticks(task, texts)
    strict = CheckerAnnotator(Strictness.STRICT).ticks(task, texts)
    assert sum(strict) == min(STRICT_TICKS, sum(exact))
    assert all(fits or not tick for tick, fits in zip(strict, exact, strict=True))


def test_the_rouge_critic_accepts_its_reference_and_is_nearly_blind() -> None:
    critic = RougeAnnotator(seed=3)
    for task in TASKS:
        assert critic.ticks(task, [critic.reference(task), GENERIC[0]]) == [True, False]
    said = [tick for task in TASKS for tick in critic.ticks(task, true_texts(task, 10))]
    assert 0 < sum(said) < len(said), "it takes some true rationales for wrong ones"
    assert RougeAnnotator(seed=3).reference(TASKS[0]) == critic.reference(TASKS[0])


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_slips_come_at_their_rate_and_again_at_the_same_candidates(noise: float) -> None:
    texts = {id(task): true_texts(task, 40) for task in TASKS}
    careful, slipping = CheckerAnnotator(), SlippingAnnotator(CheckerAnnotator(), noise, seed=1)
    differ = distinct = 0
    for task in TASKS:
        shown = sorted(set(texts[id(task)]))
        meant, ticked = careful.ticks(task, shown), slipping.ticks(task, shown)
        assert slipping.ticks(task, shown) == ticked
        differ += sum(a != b for a, b in zip(meant, ticked, strict=True))
        distinct += len(shown)
    assert abs(differ / distinct - noise) < 0.06, distinct


def test_members_of_a_team_slip_independently_and_take_strictness_in_turn() -> None:
    first, second, third = team(3, Critic.CHECKER, [Strictness.EXACT, Strictness.LENIENT], noise=0.5, seed=1)
    assert isinstance(second, SlippingAnnotator)
    assert [m.careful for m in (first, second, third) if isinstance(m, SlippingAnnotator)] == [
        CheckerAnnotator(Strictness.EXACT),
        CheckerAnnotator(Strictness.LENIENT),
        CheckerAnnotator(Strictness.EXACT),
    ]
    ticks = [[t for task in TASKS for t in m.ticks(task, true_texts(task, 4))] for m in (first, third)]
    assert ticks[0] != ticks[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, Critic.CHECKER, [Strictness.EXACT, Strictness.STRICT]), "2 kinds of strictness"),
        ((1, Critic.CHECKER, []), "0 kinds"),
        ((1, Critic.ROUGE, [Strictness.LENIENT]), "cannot be lenient"),
    ],
)
def test_what_makes_no_team(arguments: tuple[int, Critic, list[Strictness]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        team(*arguments)


def test_noise_is_a_probability() -> None:
    with pytest.raises(SettingsError, match=r"not 1\.5"):
        team(1, Critic.CHECKER, [Strictness.EXACT], noise=1.5)
