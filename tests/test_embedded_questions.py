import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions import (
    KINDS,
    At,
    Color,
    Comparison,
    Count,
    Exists,
    Question,
    Relation,
    Same,
    Shape,
    Verify,
    question_from_json,
)
from illume_plugin.embedded.scene import Attribute, Scene, Thing, sample_scene
from illume_plugin.errors import TaskError

COLOR, SHAPE, SIZE = Attribute
RED, BLUE, CIRCLE, SQUARE = (
    Phrase(color="red"),
    Phrase(color="blue"),
    Phrase(shape="circle"),
    Phrase(shape="square"),
)
SMALL_RED = Phrase(size="small", color="red")
#: red circle . . / . red square . / . . blue circle
SCENE = Scene(
    (
        Thing(0, "large", "red", "circle"),
        Thing(4, "small", "red", "square"),
        Thing(8, "large", "blue", "circle"),
    )
)


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        (At(COLOR, 0), "What color is the object in the top left?", "red"),
        (At(SHAPE, 4), "What shape is the object in the center?", "square"),
        (At(SIZE, 8), "What size is the object in the bottom right?", "large"),
        (Verify(COLOR, 0, "red"), "Is the object in the top left red?", "yes"),
        (Verify(SHAPE, 4, "circle"), "Is the object in the center a circle?", "no"),
        (Verify(SIZE, 4, "small"), "Is the object in the center small?", "yes"),
        (Same(COLOR, 0, 4), "Do the objects in the top left and the center have the same color?", "yes"),
        (Same(SHAPE, 8, 4), "Do the objects in the bottom right and the center have the same shape?", "no"),
        (Exists(RED), "Is there a red object?", "yes"),
        (Exists(Phrase(color="blue", shape="square")), "Is there a blue square?", "no"),
        (Count(CIRCLE), "How many circles are there?", "two"),
        (Count(Phrase(shape="triangle")), "How many triangles are there?", "zero"),
        (Count(SMALL_RED), "How many small red objects are there?", "one"),
        (Color(SQUARE), "What color is the square?", "red"),
        (Shape(BLUE), "What shape is the blue object?", "circle"),
        (Relation("left of", SQUARE, BLUE), "Is the square left of the blue object?", "yes"),
        (Relation("right of", SQUARE, BLUE), "Is the square right of the blue object?", "no"),
        (Relation("above", BLUE, SMALL_RED), "Is the blue object above the small red object?", "no"),
        (Relation("below", BLUE, SMALL_RED), "Is the blue object below the small red object?", "yes"),
        (Comparison(RED, BLUE), "Are there more red objects than blue objects?", "yes"),
        (Comparison(SQUARE, CIRCLE), "Are there more squares than circles?", "no"),
    ],
)
def test_wording_and_answer(question: Question, text: str, answer: str) -> None:
    assert (question.text, question.answer(SCENE)) == (text, answer)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (At(COLOR, 1), "top middle"),
        (Verify(SIZE, 1, "large"), "top middle"),
        (Same(COLOR, 1, 4), "top middle"),
        (Same(COLOR, 4, 1), "top middle"),
        (Color(CIRCLE), "two circles"),
        (Shape(Phrase(color="green")), "no green objects"),
        (Relation("above", RED, BLUE), "two red objects"),
    ],
)
def test_a_question_about_what_is_not_there_or_not_unique_has_no_answer(
    question: Question, said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        question.answer(SCENE)


TOPICS = st.sampled_from([(kind, topic) for kind in KINDS.values() for topic in kind.topics])


@given(st.integers(0, 2**32), TOPICS, st.booleans(), st.data())
def test_a_proposed_question_has_the_wanted_answer_and_survives_json(
    seed: int, about: tuple[type[Question], str], novel: bool, data: st.DataObject
) -> None:
    rng = random.Random(seed)
    kind, topic = about
    scene = sample_scene(rng, novel=novel)
    answer = data.draw(st.sampled_from(kind.topics[topic]))
    question = kind.propose(scene, topic, answer, rng)
    if question is not None:
        assert question.answer(scene) == answer
        assert question_from_json(json.loads(json.dumps(question.to_json()))) == question


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_can_be_asked_for(kind: str) -> None:
    rng = random.Random(0)
    for topic, answers in KINDS[kind].topics.items():
        for answer in answers:
            found = (KINDS[kind].propose(sample_scene(rng), topic, answer, rng) for _ in range(1000))
            assert any(question is not None for question in found), (topic, answer)


@pytest.mark.parametrize("topic", Exists.topics)
def test_what_is_asked_for_in_vain_is_there_word_by_word_where_that_can_be(topic: str) -> None:
    rng = random.Random(1)
    for _ in range(100):
        scene = sample_scene(rng)
        question = Exists.propose(scene, topic, "no", rng)
        if isinstance(question, Exists) and len(question.phrase.named) == 2:
            apart = [Phrase(**{a.value: v}) for a, v in question.phrase.values]
            missing = [phrase for phrase in apart if not phrase.among(scene)]
            assert not missing or not _near_miss_exists(scene, question.phrase)


def _near_miss_exists(scene: Scene, like: Phrase) -> bool:
    """Whether some absent phrase of this form has each of its words in the scene."""
    seen = [{thing.value(a) for thing in scene.things} for a in sorted(like.named)]
    pairs = {(one, other) for one in seen[0] for other in seen[1]}
    there = {tuple(thing.value(a) for a in sorted(like.named)) for thing in scene.things}
    names = sorted(like.named)
    return any(
        not Phrase(**{n.value: v for n, v in zip(names, pair, strict=True)}).is_novel
        for pair in pairs - there
    )


@pytest.mark.parametrize(
    ("question", "roles"),
    [
        (Exists(CIRCLE), ({0, 8}, set())),
        (Relation("above", SQUARE, BLUE), ({4}, {8})),
        (Comparison(RED, BLUE), ({0, 4}, {8})),
        (Same(COLOR, 8, 4), ({8}, {4})),
        (At(COLOR, 4), ({4}, set())),
    ],
)
def test_roles_are_the_places_of_what_is_spoken_of(
    question: Question, roles: tuple[set[int], set[int]]
) -> None:
    assert question.roles(SCENE) == roles


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "weigh", "attribute": "color", "place": 1},
        {"kind": "at", "attribute": "weight", "place": 1},
        {"kind": "at", "attribute": "color", "place": 12},
        {"kind": "at", "attribute": "color"},
        {"kind": "verify", "attribute": "color", "place": 1, "value": "square"},
        {"kind": "same", "attribute": "color", "place": 1, "other": 1},
        {"kind": ["at"], "attribute": "color", "place": 1},
        {"kind": "exists"},
        {"kind": "exists", "phrase": {"color": "pink"}},
        {"kind": "exists", "phrase": {"weight": 3}},
        {"kind": "color", "phrase": {"color": "red"}},
        {"kind": "relation", "direction": "near", "one": {"color": "red"}, "other": {"color": "blue"}},
    ],
)
def test_json_that_is_no_question_is_refused(data: Any) -> None:
    with pytest.raises(TaskError):
        question_from_json(data)
