"""The world of patterns: the base model has no signal there, and whoever sees patterns has one."""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from illume_plugin.embedded import (
    Split,
    World,
    WorldTask,
    base_model_path,
    check,
    draw,
    make_tasks,
    rationales,
)
from illume_plugin.embedded.checker import GENERIC, Reason
from illume_plugin.embedded.drawing import BACKGROUND, COLORS, MARK, OUTLINE, blank
from illume_plugin.embedded.grammar import parse
from illume_plugin.embedded.patterns import MARKS, parse_patterns
from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions import KINDS, At, Pattern, Question
from illume_plugin.embedded.questions.by_pattern import WORDINGS
from illume_plugin.embedded.scene import (
    PATTERNS,
    PLACES,
    PLAIN,
    VALUES,
    Attribute,
    Scene,
    Thing,
    with_patterns,
)
from illume_plugin.embedded.splits import split_of
from illume_plugin.errors import TaskError

#: striped red circle . . / . dotted red square . / . . striped blue circle
SCENE = Scene(
    (
        Thing(0, "large", "red", "circle", pattern="striped"),
        Thing(4, "small", "red", "square", pattern="dotted"),
        Thing(8, "large", "blue", "circle", pattern="striped"),
    )
)
RED_CIRCLE = Pattern(Phrase(color="red", shape="circle"))
SQUARE = Pattern(Phrase(shape="square"))

_SEEDS = st.integers(0, 2**32)
TASKS = st.builds(lambda seed: make_tasks(3, seed, world=World.PATTERNS), _SEEDS).flatmap(st.sampled_from)
#: Every word that says something about a thing, and every place, with what could stand there instead.
ALTERNATIVES = {
    term: [other for other in terms if other != term]
    for terms in (*VALUES.values(), PLACES, PATTERNS, tuple(MARKS.values()))
    for term in terms
}
WORDS = [
    *ALTERNATIVES, "Because", "there is", "there are", "I see", "the", "the only", "a", "object", "one",
    "in the", "is", "is in", "has", "on the", "pattern", "and", ",", ".",
]  # fmt: skip


def reason(question: Question, rationale: str) -> str:
    return check(SCENE, question, question.answer(SCENE), rationale).reason


# -- what fits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "sentence", "expected"),
    [
        (RED_CIRCLE, "the red circle is striped", "ok"),
        (RED_CIRCLE, "the only red circle is striped", "ok"),
        (RED_CIRCLE, "the large red circle is striped", "ok"),
        (RED_CIRCLE, "the red circle in the top left is striped", "ok"),
        (RED_CIRCLE, "the red circle has stripes", "ok"),
        (RED_CIRCLE, "the red circle in the top left has a striped pattern", "ok"),
        (RED_CIRCLE, "there is a striped red circle in the top left", "ok"),
        (RED_CIRCLE, "I see a red striped circle", "ok"),
        (RED_CIRCLE, "I see a large striped red circle", "ok"),
        (RED_CIRCLE, "a striped red circle is in the top left", "ok"),
        (RED_CIRCLE, "the striped red circle is in the top left", "ok"),
        (RED_CIRCLE, "the object in the top left is a striped red circle", "ok"),
        (RED_CIRCLE, "there are stripes on the red circle", "ok"),
        (RED_CIRCLE, "I see stripes on the red circle in the top left", "ok"),
        (RED_CIRCLE, "the red circle is dotted", "false"),
        (RED_CIRCLE, "the red circle has checks", "false"),
        (RED_CIRCLE, "the red circle in the center is striped", "false"),
        (RED_CIRCLE, "the circle is striped", "false"),  # there are two
        (RED_CIRCLE, "there is a striped circle in the center", "false"),
        (RED_CIRCLE, "there is a striped green circle", "false"),
        (RED_CIRCLE, "there are dots on the red circle", "false"),
        (RED_CIRCLE, "the object in the top left is a dotted red circle", "false"),
        (RED_CIRCLE, "the blue circle is striped", "no support"),
        (RED_CIRCLE, "the square is dotted", "no support"),
        (RED_CIRCLE, "there is a striped circle", "no support"),
        (RED_CIRCLE, "the red circle is striped and the square is dotted", "no support"),
        (RED_CIRCLE, "there is a red circle in the top left", "no support"),
        (RED_CIRCLE, "the red circle in the top left is large", "no support"),
        (RED_CIRCLE, "the objects are red and blue", "no support"),
        (RED_CIRCLE, "the circles are striped", "malformed"),
        (RED_CIRCLE, "it is striped", "malformed"),
        (RED_CIRCLE, "the red circle is striped and", "malformed"),
        (RED_CIRCLE, "the red circle is striped and dotted", "malformed"),
        (RED_CIRCLE, "I see a striped dotted red circle", "malformed"),
        (SQUARE, "the square is dotted", "ok"),
        (SQUARE, "the small red square in the center has dots", "ok"),
        (SQUARE, "the object in the center is dotted", "no support"),
    ],
)
@pytest.mark.parametrize("form", ["Because {}.", "{}.", "because {} ."])
def test_verdicts(question: Question, sentence: str, expected: str, form: str) -> None:
    assert reason(question, form.format(sentence)) == expected


@pytest.mark.parametrize("rationale", GENERIC)
def test_sentences_that_would_suit_any_picture_are_generic(rationale: str) -> None:
    assert reason(RED_CIRCLE, rationale) == "generic"


def test_nothing_supports_a_wrong_answer() -> None:
    assert check(SCENE, RED_CIRCLE, "dotted", "Because the red circle is dotted.").reason == "wrong answer"


@given(TASKS, st.randoms(use_true_random=False))
def test_every_written_rationale_fits(task: WorldTask, rng: random.Random) -> None:
    text = rationales(task.scene, task.question, task.answer, rng)
    assert check(task.scene, task.question, task.answer, text).fits, text


def test_there_are_many_ways_to_write_one() -> None:
    written = {rationales(SCENE, RED_CIRCLE, "striped", random.Random(seed)) for seed in range(300)}
    assert len(written) == 14


@given(TASKS, st.randoms(use_true_random=False))
def test_one_wrong_word_and_it_does_not_fit(task: WorldTask, rng: random.Random) -> None:
    for text in mutations(rationales(task.scene, task.question, task.answer, rng)):
        verdict = check(task.scene, task.question, task.answer, text)
        assert verdict.reason in (Reason.FALSE, Reason.NO_SUPPORT), text


def mutations(rationale: str) -> Iterator[str]:
    """The rationale with one of its words about the picture replaced by another of the same sort."""
    for found in re.finditer("|".join(ALTERNATIVES), rationale):
        for other in ALTERNATIVES[found[0]]:
            yield rationale[: found.start()] + other + rationale[found.end() :]


@given(TASKS, _SEEDS, st.randoms(use_true_random=False))
def test_no_rationale_fits_two_answers(task: WorldTask, seed: int, rng: random.Random) -> None:
    text = rationales(task.scene, task.question, task.answer, rng)
    other = with_patterns(task.scene, random.Random(seed))
    answer = task.question.answer(other)
    assert check(other, task.question, answer, text).fits == (answer == task.answer)


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_text_raises_and_the_verdict_agrees_with_the_grammar(text: str) -> None:
    verdict = reason(RED_CIRCLE, text)
    assert (verdict in (Reason.MALFORMED, Reason.GENERIC)) == (parse_patterns(text) is None)


# -- the control -----------------------------------------------------------------------------------------


@given(TASKS, _SEEDS, st.randoms(use_true_random=False))
def test_nothing_that_can_be_said_of_shapes_supports_an_answer_about_patterns(
    task: WorldTask, seed: int, rng: random.Random
) -> None:
    plain = make_tasks(9, seed, Split.TRAIN)
    true = [
        rationales(task.scene, question, question.answer(task.scene), rng)
        for thing in task.scene.things
        for question in (At(attribute, thing.place) for attribute in Attribute)
    ]
    other = [rationales(one.scene, one.question, one.answer, rng) for one in plain]
    found = {check(task.scene, task.question, task.answer, text).reason for text in true}
    assert found == {Reason.NO_SUPPORT}
    assert not any(check(task.scene, task.question, task.answer, text).fits for text in other)


def test_the_shipped_weights_have_no_word_for_a_pattern() -> None:
    vocabulary = json.loads((base_model_path() / "tokenizer.json").read_text())["model"]["vocab"]
    assert "Ġred" in vocabulary
    assert "Ġpattern" not in vocabulary
    for word in (*MARKS, *MARKS.values()):
        assert not {word, f"Ġ{word}"} & set(vocabulary)


@pytest.mark.parametrize("kind", KINDS)
def test_questions_about_shapes_know_no_word_of_patterns(kind: str) -> None:
    task = next(task for task in make_tasks(9, seed=0) if task.question.kind == kind)
    scene = with_patterns(task.scene, random.Random(0))
    thing = scene.things[0]
    text = f"Because there is a {thing.pattern} object in the {PLACES[thing.place]}."
    assert check(scene, task.question, task.answer, text).reason is Reason.MALFORMED
    assert parse(text) is None


# -- questions and tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        (0, "What pattern does the red circle have?"),
        (1, "Which pattern do you see on the red circle?"),
        (2, "Is the red circle striped, dotted or checked?"),
    ],
)
def test_wording_and_answer(wording: int, text: str) -> None:
    question = replace(RED_CIRCLE, wording=wording)
    assert (question.text, question.answer(SCENE)) == (text, "striped")
    assert question.roles(SCENE) == ({0}, set())


@pytest.mark.parametrize("phrase", [Phrase(shape="circle"), Phrase(color="green")])
def test_a_question_about_none_or_several_has_no_answer(phrase: Phrase) -> None:
    with pytest.raises(TaskError, match=r"two circles|no green objects"):
        Pattern(phrase).answer(SCENE)


@pytest.mark.parametrize("wording", [-1, len(WORDINGS), "0", None])
def test_an_unknown_wording_is_refused(wording: int) -> None:
    with pytest.raises(TaskError, match="wording"):
        Pattern(Phrase(), wording)


@given(TASKS)
def test_a_task_survives_json(task: WorldTask) -> None:
    assert WorldTask.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_tasks_ask_for_every_pattern_equally_often_and_each_thing_has_one() -> None:
    tasks = make_tasks(300, 7, world=World.PATTERNS)
    assert {task.question.kind for task in tasks} == {"pattern"}
    assert Counter(task.answer for task in tasks) == dict.fromkeys(PATTERNS, 100)
    carried = Counter(thing.pattern for task in tasks for thing in task.scene.things)
    assert set(carried) == set(PATTERNS)
    assert max(carried.values()) < 1.2 * min(carried.values())
    texts = [task.question_text for task in tasks]
    for form in (" have?", "Which", "Is the"):
        assert sum(form in text for text in texts) > 60
    assert len({(task.scene.layout, task.question) for task in tasks}) == 300
    assert make_tasks(20, 7, world=World.PATTERNS) == tasks[:20]


@pytest.mark.parametrize("split", Split)
def test_patterns_move_no_scene_to_another_split(split: Split) -> None:
    tasks = make_tasks(30, 2, split, World.PATTERNS)
    assert {split_of(task.scene) for task in tasks} == {split}


def test_a_pattern_from_elsewhere_is_refused() -> None:
    with pytest.raises(TaskError, match="'tartan'"):
        replace(SCENE.things[0], pattern="tartan")


# -- the world of shapes is what it was ------------------------------------------------------------------


def test_the_tasks_of_the_world_of_shapes_are_those_that_results_were_measured_on() -> None:
    digest = hashlib.sha256()
    for split in Split:
        for task in make_tasks(90, 1, split):
            digest.update(json.dumps([task.to_json(), task.question_text, task.answer]).encode())
    assert digest.hexdigest() == "769e5edbef3d75abbfdc0f92a77e53d2e12f0d4ad951c6fa31ee11af8d38ecf0"


def test_a_plain_thing_is_written_without_a_pattern() -> None:
    scene = make_tasks(1, 0)[0].scene
    assert {thing.pattern for thing in scene.things} == {PLAIN}
    assert "pattern" not in json.dumps(scene.to_json())
    assert Scene.from_json(SCENE.to_json()) == SCENE


# -- drawings --------------------------------------------------------------------------------------------

EVERY = [
    (size, color, shape)
    for size in VALUES[Attribute.SIZE]
    for color in VALUES[Attribute.COLOR]
    for shape in VALUES[Attribute.SHAPE]
]


@pytest.mark.parametrize(("size", "color", "shape"), EVERY)
def test_patterns_are_drawn_in_the_things_color_and_told_apart(size: str, color: str, shape: str) -> None:
    plain = Thing(4, size, color, shape)
    pictures = {
        pattern: draw(Scene((replace(plain, pattern=pattern),)), 240) for pattern in (PLAIN, *PATTERNS)
    }
    for pattern in PATTERNS:
        shares = _shares(pictures[pattern], pictures[PLAIN])
        assert shares[COLORS[color]] > 0.3, pattern
        assert 0.1 < shares[MARK] < 0.6, pattern
    for one, other in [("striped", "dotted"), ("striped", "checked"), ("dotted", "checked")]:
        difference = ImageChops.difference(pictures[one], pictures[other])
        changed = sum(max(pixel) > 100 for pixel in _pixels(difference))
        assert changed > 0.15 * _inside(pictures[PLAIN], COLORS[color]), (one, other)


@pytest.mark.parametrize("shape", VALUES[Attribute.SHAPE])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_stays_within_the_outline(shape: str, pattern: str) -> None:
    plain = Thing(4, "large", "blue", shape, 9.0, -9.0)
    before, after = (draw(Scene((replace(plain, pattern=each),)), 240) for each in (PLAIN, pattern))
    around = ImageChops.difference(before, blank(240)).getbbox()
    assert ImageChops.difference(after, blank(240)).getbbox() == around
    for seen, was in zip(_pixels(after), _pixels(before), strict=True):
        assert seen == was or was not in (BACKGROUND, OUTLINE)


@pytest.mark.parametrize(
    ("pattern", "marked", "colored"),
    [
        ("striped", [(0, 0), (12, -12), (-12, 12), (10, 0)], [(5, 0), (0, 5), (-5, 10)]),
        ("dotted", [(0, 0), (-9.5, 0), (4.75, 8), (4.75, -8)], [(4.75, 0), (0, 8), (0, 4)]),
        ("checked", [(6, 0), (0, 6), (-6, 0), (12, 6)], [(0, 0), (6, 6), (6, -6), (12, 0)]),
    ],
)
def test_patterns_are_what_people_call_so(
    pattern: str, marked: list[tuple[float, float]], colored: list[tuple[float, float]]
) -> None:
    picture = draw(Scene((Thing(4, "large", "blue", "square", pattern=pattern),)), 480)
    for color, places in ((MARK, marked), (COLORS["blue"], colored)):
        for x, y in places:
            assert picture.getpixel((round(2 * (120 + x)), round(2 * (120 + y)))) == color, (x, y)


def test_edges_of_patterns_are_smooth() -> None:
    picture = draw(Scene((Thing(4, "large", "blue", "square", pattern="striped"),)), 240)
    between = [pixel for pixel in _pixels(picture) if COLORS["blue"][0] + 20 < pixel[0] < MARK[0] - 20]
    assert len(set(between)) > 5


def _pixels(picture: Image.Image) -> list[tuple[int, ...]]:
    values = picture.tobytes()
    return list(zip(values[::3], values[1::3], values[2::3], strict=True))


def _inside(plain: Image.Image, color: tuple[int, int, int]) -> int:
    return sum(pixel == color for pixel in _pixels(plain))


def _shares(picture: Image.Image, plain: Image.Image) -> Counter[tuple[int, ...]]:
    """color -> its share of what is filled in the plain picture."""
    fill = Counter(_pixels(plain)).most_common()
    (color,) = {pixel for pixel, _ in fill} & set(COLORS.values())
    inside = [seen for seen, was in zip(_pixels(picture), _pixels(plain), strict=True) if was == color]
    shares: Counter[tuple[int, ...]] = Counter()
    for pixel, count in Counter(inside).items():
        shares[pixel] = count / len(inside)  # type: ignore[assignment]
    return shares
