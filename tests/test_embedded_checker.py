"""What a rationale must be like to fit; also every way that rationales.py writes one."""

import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.embedded.checker import GENERIC, Reason, check
from illume_plugin.embedded.grammar import parse
from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions import (
    At,
    Color,
    Comparison,
    Count,
    Exists,
    Question,
    Relation,
    Same,
    Verify,
)
from illume_plugin.embedded.rationales import rationales
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene, Thing
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.tasks import WorldTask, make_tasks
from illume_plugin.errors import TaskError

COLOR, SHAPE, SIZE = Attribute
#: red circle . . / . red square . / . . blue circle
SCENE = Scene(
    (
        Thing(0, "large", "red", "circle"),
        Thing(4, "small", "red", "square"),
        Thing(8, "large", "blue", "circle"),
    )
)
RED, CIRCLE, SQUARE = Phrase(color="red"), Phrase(shape="circle"), Phrase(shape="square")
WHAT, IS_IT, SAME = At(COLOR, 0), Verify(SHAPE, 4, "circle"), Same(SIZE, 0, 4)
SOME, NONE = Exists(CIRCLE), Exists(Phrase(color="blue", shape="square"))
NO_TRIANGLE, NO_SMALL_CIRCLE = Exists(Phrase(shape="triangle")), Exists(Phrase("small", shape="circle"))
TWO, ZERO = Count(CIRCLE), Count(Phrase(color="green", shape="triangle"))
UNIQUE, LEFT = Color(SQUARE), Relation("left of", SQUARE, Phrase(color="blue"))
MORE = Comparison(RED, Phrase(color="blue"))

_SEEDS = st.integers(0, 2**32)
TASKS = st.builds(lambda seed: make_tasks(9, seed, Split.TRAIN), _SEEDS).flatmap(st.sampled_from)
#: Every word that says something about a thing, and every place, with what could stand there instead.
ALTERNATIVES = {
    term: [other for other in terms if other != term]
    for terms in (*VALUES.values(), PLACES)
    for term in terms
}
WORDS = [
    *ALTERNATIVES, "Because", "there is", "there are", "I see", "the", "the only", "a", "an", "object",
    "objects", "circles", "one", "two", "no", "in the", "is", "is in", "are", "and", "but only", ".", ",",
]  # fmt: skip


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
        (WHAT, "I see a large red object in the top left", "ok"),
        (WHAT, "a red circle is in the top left", "ok"),
        (WHAT, "the object in the top left is red", "ok"),
        (WHAT, "the object in the top left is a red circle", "ok"),
        (WHAT, "the red circle in the top left is large", "ok"),
        (WHAT, "the red circle is in the top left", "ok"),
        (WHAT, "there is a blue circle in the top left", "false"),
        (WHAT, "the blue object in the top left is red", "false"),
        (WHAT, "the red object in the top left is a blue circle", "false"),
        (WHAT, "the red object is in the top left", "false"),
        (WHAT, "there is an object in the top middle", "false"),
        (WHAT, "the object in the top left is red and the object in the center is blue", "false"),
        (WHAT, "the object in the top left is red and the object in the center is red", "no support"),
        (WHAT, "the object in the top left is red and the object in the top left is red", "no support"),
        (WHAT, "the object in the top left is red and there are two circles", "no support"),
        (WHAT, "there is a large circle in the top left", "no support"),
        (WHAT, "there is a red square in the center", "no support"),
        (WHAT, "there is one in the top left", "no support"),
        (WHAT, "a red circle in the top left", "malformed"),
        (WHAT, "there is a red large circle in the top left", "malformed"),
        (WHAT, "there is a red circle in the top left because", "malformed"),
        (IS_IT, "the object in the center is a square", "ok"),
        (IS_IT, "the object in the center is red", "no support"),
        (IS_IT, "the object in the center is a circle", "false"),
        (SAME, "the object in the top left is large and the object in the center is small", "ok"),
        (SAME, "the object in the center is small and I see a large circle in the top left", "ok"),
        (SAME, "there is a large circle in the top left and a small square in the center", "ok"),
        (SAME, "the object in the top left is large and one in the center", "malformed"),
        (SAME, "the object in the top left is red and the object in the center is red", "no support"),
        (SAME, "the object in the top left is large", "no support"),
        (SOME, "there is a circle in the top left", "ok"),
        (SOME, "the circles are in the top left and the bottom right", "ok"),
        (SOME, "the circles are in the bottom right", "false"),
        (SOME, "there is a red object in the top left", "no support"),
        (SOME, "there are two circles", "no support"),
        (NONE, "the only square is red", "ok"),
        (NONE, "the only blue object is a circle", "ok"),
        (NONE, "the squares are red", "false"),
        (NONE, "there are no blue squares", "no support"),
        (NONE, "there are no triangles", "no support"),
        (NONE, "there is a red square in the center", "no support"),
        (NO_TRIANGLE, "the only shapes are circles and squares", "ok"),
        (NO_TRIANGLE, "the objects are circles and squares", "ok"),
        (NO_TRIANGLE, "the only shapes are circles", "false"),
        (NO_TRIANGLE, "the only shapes are red", "false"),
        (NO_TRIANGLE, "the only colors are red and blue", "no support"),
        (NO_SMALL_CIRCLE, "the circles are large", "ok"),
        (NO_SMALL_CIRCLE, "the only small object is a square", "ok"),
        (NO_SMALL_CIRCLE, "the circles are red and blue", "no support"),
        (TWO, "there is one in the top left and one in the bottom right", "ok"),
        (TWO, "the circles are in the bottom right and the top left", "ok"),
        (TWO, "I see a circle in the top left and a blue circle in the bottom right", "ok"),
        (TWO, "there is one in the top left", "no support"),
        (TWO, "there is one in the top left and one in the center", "false"),
        (TWO, "there is one in the top left and one in the top left", "false"),
        (TWO, "there are two circles", "no support"),
        (ZERO, "there are no triangles", "ok"),
        (ZERO, "there are no green triangles", "no support"),
        (ZERO, "the only colors are red and blue", "ok"),
        (UNIQUE, "there is a red square in the center", "ok"),
        (UNIQUE, "the square in the center is red", "ok"),
        (UNIQUE, "the object in the center is red", "no support"),
        (UNIQUE, "the only square is red", "no support"),
        (LEFT, "the square is in the center and the blue object is in the bottom right", "ok"),
        (LEFT, "there is a blue circle in the bottom right and a square in the center", "ok"),
        (LEFT, "the square is in the center", "no support"),
        (LEFT, "the square is in the center and the red circle is in the top left", "no support"),
        (LEFT, "the square is in the top left and the blue object is in the bottom right", "false"),
        (MORE, "there are two red objects and one blue object", "ok"),
        (MORE, "there are two red objects but only one blue object", "ok"),
        (MORE, "I see one blue object and two red objects", "ok"),
        (MORE, "there are two red objects and no blue objects", "false"),
        (MORE, "there are two circles and one square", "no support"),
        (MORE, "there are two red objects", "no support"),
    ],
)
def test_verdicts(question: Question, sentence: str, expected: str) -> None:
    assert reason(question, f"Because {sentence}.") == expected


@pytest.mark.parametrize(
    ("rationale", "expected"),
    [
        ("  because the object in\nthe top left is RED", "ok"),
        ("Because the object in the top left is red .", "ok"),
        ("The object in the top left is red.", "malformed"),
        ("Because the object in the top left is red..", "malformed"),
        ("Because", "malformed"),
        ("", "malformed"),
    ],
)
def test_case_blanks_and_the_last_full_stop_do_not_matter_but_the_form_does(
    rationale: str, expected: str
) -> None:
    assert reason(WHAT, rationale) == expected


@pytest.mark.parametrize("rationale", GENERIC)
@pytest.mark.parametrize("question", [WHAT, SAME, NONE, TWO])
def test_sentences_that_would_suit_any_picture_are_generic(question: Question, rationale: str) -> None:
    assert reason(question, rationale) == "generic"
    assert reason(question, rationale.upper().removesuffix(".")) == "generic"


@pytest.mark.parametrize("answer", ["", " ", "blue", "red circle", "yes"])
def test_nothing_supports_a_wrong_answer(answer: str) -> None:
    verdict = check(SCENE, WHAT, answer, "Because there is a red circle in the top left.")
    assert (verdict.fits, verdict.reason) == (False, Reason.WRONG_ANSWER)
    with pytest.raises(TaskError, match="red"):
        rationales(SCENE, WHAT, answer, random.Random(0))


@given(TASKS, st.randoms(use_true_random=False))
def test_every_written_rationale_fits(task: WorldTask, rng: random.Random) -> None:
    text = rationales(task.scene, task.question, task.answer, rng)
    verdict = check(task.scene, task.question, task.answer, text)
    assert (verdict.fits, verdict.reason) == (True, Reason.OK), text


@given(TASKS, _SEEDS, st.randoms(use_true_random=False))
def test_no_rationale_fits_two_answers(task: WorldTask, seed: int, rng: random.Random) -> None:
    text = rationales(task.scene, task.question, task.answer, rng)
    for other in make_tasks(20, seed, Split.TRAIN):
        try:
            answer = task.question.answer(other.scene)
        except TaskError:
            continue
        if answer != task.answer:
            assert not check(other.scene, task.question, answer, text).fits, text


@given(TASKS, st.randoms(use_true_random=False))
def test_one_wrong_word_and_it_does_not_fit(task: WorldTask, rng: random.Random) -> None:
    """Except that a thing asked for may stand in another place too."""
    for text in mutations(rationales(task.scene, task.question, task.answer, rng)):
        verdict = check(task.scene, task.question, task.answer, text)
        if isinstance(task.question, Exists) and len(task.question.roles(task.scene)[0]) > 1:
            continue
        assert verdict.reason in (Reason.FALSE, Reason.NO_SUPPORT), text


def test_most_tasks_have_several_rationales_and_the_seed_picks() -> None:
    tasks = make_tasks(36, seed=5, split=Split.TRAIN)
    varied = 0
    for task in tasks:
        seeds = (*range(60), 0)
        drawn = [rationales(task.scene, task.question, task.answer, random.Random(seed)) for seed in seeds]
        assert drawn[0] == drawn[-1]
        varied += len(set(drawn)) >= 3
    assert varied >= 30


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
        check(SCENE, At(COLOR, 2), "red", "Because")
