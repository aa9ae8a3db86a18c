"""What a rationale must be like to fit; also every way that rationales.py writes one."""

import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.embedded.checker import GENERIC, Reason, check, parse
from illume_plugin.embedded.questions import At, Question, Same, Verify
from illume_plugin.embedded.rationales import rationales
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene, Thing
from illume_plugin.embedded.tasks import WorldTask, make_tasks
from illume_plugin.errors import TaskError

COLOR, SHAPE, SIZE = Attribute
SCENE = Scene(
    (
        Thing(0, "large", "red", "circle"),
        Thing(4, "small", "red", "square"),
        Thing(8, "large", "blue", "circle"),
    )
)
WHAT, IS_IT, SAME = At(COLOR, 0), Verify(SHAPE, 4, "circle"), Same(SIZE, 0, 4)
TASKS = st.builds(lambda seed: make_tasks(1, seed)[0], st.integers(0, 2**32))
#: Every word that says something about a thing, and every place, with what could stand there instead.
ALTERNATIVES = {
    term: [other for other in terms if other != term]
    for terms in (*VALUES.values(), PLACES)
    for term in terms
}
WORDS = [
    *ALTERNATIVES,
    "because",
    "there is",
    "i see",
    "the",
    "a",
    "an",
    "object",
    "in the",
    "is",
    "and",
    ".",
    ",",
]


def reason(question: Question, rationale: str) -> str:
    return check(SCENE, question, question.answer(SCENE), rationale).reason


def mutations(rationale: str) -> Iterator[str]:
    """The rationale with one of its words about the picture replaced by another of the same sort."""
    for found in re.finditer("|".join(ALTERNATIVES), rationale):
        for other in ALTERNATIVES[found[0]]:
            yield rationale[: found.start()] + other + rationale[found.end() :]


@pytest.mark.parametrize(
    ("question", "sentence", "expected"),
    [
        (WHAT, "there is a red circle in the top left", "ok"),
        (WHAT, "i see a large red object in the top left", "ok"),
        (WHAT, "the object in the top left is red", "ok"),
        (WHAT, "the object in the top left is a red circle", "ok"),
        (WHAT, "the red circle in the top left is large", "ok"),
        (WHAT, "there is a blue circle in the top left", "false"),
        (WHAT, "the blue object in the top left is red", "false"),
        (WHAT, "the red object in the top left is a blue circle", "false"),
        (WHAT, "there is an object in the top middle", "false"),
        (WHAT, "the object in the top left is red and the object in the center is blue", "false"),
        (WHAT, "the object in the top left is red and the object in the center is red", "no support"),
        (WHAT, "the object in the top left is red and the object in the top left is red", "no support"),
        (WHAT, "there is a large circle in the top left", "no support"),
        (WHAT, "there is a red square in the center", "no support"),
        (WHAT, "a red circle in the top left", "malformed"),
        (WHAT, "there is a red large circle in the top left", "malformed"),
        (WHAT, "there is a red circle in the top left because", "malformed"),
        (IS_IT, "the object in the center is a square", "ok"),
        (IS_IT, "the object in the center is red", "no support"),
        (IS_IT, "the object in the center is a circle", "false"),
        (SAME, "the object in the top left is large and the object in the center is small", "ok"),
        (SAME, "the object in the center is small and i see a large circle in the top left", "ok"),
        (SAME, "there is a large circle in the top left and a small square in the center", "ok"),
        (SAME, "the object in the top left is large and a small square in the center", "malformed"),
        (SAME, "the object in the top left is red and the object in the center is red", "no support"),
        (SAME, "the object in the top left is large", "no support"),
    ],
)
def test_verdicts(question: Question, sentence: str, expected: str) -> None:
    assert reason(question, f"because {sentence} .") == expected


@pytest.mark.parametrize(
    ("rationale", "expected"),
    [
        ("  Because the object in\nthe top left is RED", "ok"),
        ("because the object in the top left is red.", "ok"),
        ("the object in the top left is red .", "malformed"),
        ("because the object in the top left is red . .", "malformed"),
        ("because", "malformed"),
        ("", "malformed"),
    ],
)
def test_case_blanks_and_the_last_full_stop_do_not_matter_but_the_form_does(
    rationale: str, expected: str
) -> None:
    assert reason(WHAT, rationale) == expected


@pytest.mark.parametrize("rationale", GENERIC)
@pytest.mark.parametrize("question", [WHAT, IS_IT, SAME])
def test_sentences_that_would_suit_any_picture_are_generic(question: Question, rationale: str) -> None:
    assert reason(question, rationale) == "generic"
    assert reason(question, rationale.upper().removesuffix(" .")) == "generic"


@pytest.mark.parametrize("answer", ["", " ", "blue", "red circle", "yes"])
def test_nothing_supports_a_wrong_answer(answer: str) -> None:
    verdict = check(SCENE, WHAT, answer, "because there is a red circle in the top left .")
    assert (verdict.fits, verdict.reason) == (False, Reason.WRONG_ANSWER)
    with pytest.raises(TaskError, match="red"):
        rationales(SCENE, WHAT, answer, random.Random(0))


@given(TASKS, st.randoms(use_true_random=False))
def test_every_written_rationale_fits(task: WorldTask, rng: random.Random) -> None:
    text = rationales(task.scene, task.question, task.answer, rng)
    verdict = check(task.scene, task.question, task.answer, text)
    assert (verdict.fits, verdict.reason) == (True, Reason.OK), text


@given(TASKS, st.randoms(use_true_random=False))
def test_one_wrong_word_and_it_does_not_fit(task: WorldTask, rng: random.Random) -> None:
    for text in mutations(rationales(task.scene, task.question, task.answer, rng)):
        verdict = check(task.scene, task.question, task.answer, text)
        assert verdict.reason in (Reason.FALSE, Reason.NO_SUPPORT), text


def test_a_task_has_several_rationales_and_the_seed_picks() -> None:
    for task in make_tasks(30, seed=5):
        drawn = [
            rationales(task.scene, task.question, task.answer, random.Random(seed))
            for seed in (*range(60), 0)
        ]
        assert drawn[0] == drawn[-1]
        assert len(set(drawn)) >= 6


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_text_raises_and_the_verdict_agrees_with_the_grammar(text: str) -> None:
    verdict = reason(WHAT, text)
    assert (verdict in (Reason.MALFORMED, Reason.GENERIC)) == (parse(text) is None)


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["L"])))
def test_a_text_without_letters_is_malformed(text: str) -> None:
    assert reason(WHAT, text) == "malformed"


def test_a_question_that_the_scene_cannot_answer_is_refused() -> None:
    with pytest.raises(TaskError, match="top right"):
        check(SCENE, At(COLOR, 2), "red", "because")
