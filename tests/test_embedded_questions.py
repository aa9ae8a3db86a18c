import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded.questions import KINDS, At, Question, Same, Verify, question_from_json
from illume_plugin.embedded.scene import Attribute, Scene, Thing, sample_scene
from illume_plugin.errors import TaskError

COLOR, SHAPE, SIZE = Attribute
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
        (At(COLOR, 0), "what color is the object in the top left ?", "red"),
        (At(SHAPE, 4), "what shape is the object in the center ?", "square"),
        (At(SIZE, 8), "what size is the object in the bottom right ?", "large"),
        (Verify(COLOR, 0, "red"), "is the object in the top left red ?", "yes"),
        (Verify(SHAPE, 4, "circle"), "is the object in the center a circle ?", "no"),
        (Verify(SIZE, 4, "small"), "is the object in the center small ?", "yes"),
        (Same(COLOR, 0, 4), "do the objects in the top left and the center have the same color ?", "yes"),
        (Same(SHAPE, 8, 4), "do the objects in the bottom right and the center have the same shape ?", "no"),
        (Same(SIZE, 8, 0), "do the objects in the bottom right and the top left have the same size ?", "yes"),
    ],
)
def test_wording_and_answer(question: Question, text: str, answer: str) -> None:
    assert (question.text, question.answer(SCENE)) == (text, answer)


@pytest.mark.parametrize(
    "question", [At(COLOR, 1), Verify(SIZE, 1, "large"), Same(COLOR, 1, 4), Same(COLOR, 4, 1)]
)
def test_a_question_about_an_empty_place_has_no_answer(question: Question) -> None:
    with pytest.raises(TaskError, match="top middle"):
        question.answer(SCENE)


@given(st.integers(0, 2**32), st.sampled_from(sorted(KINDS)), st.sampled_from(Attribute), st.data())
def test_a_proposed_question_has_the_wanted_answer_and_survives_json(
    seed: int, kind: str, attribute: Attribute, data: st.DataObject
) -> None:
    rng = random.Random(seed)
    scene = sample_scene(rng)
    answer = data.draw(st.sampled_from(KINDS[kind].answers[attribute]))
    question = KINDS[kind].propose(scene, attribute, answer, rng)
    if question is not None:
        assert question.answer(scene) == answer
        assert question_from_json(json.loads(json.dumps(question.to_json()))) == question


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_can_be_asked_for(kind: str) -> None:
    rng = random.Random(0)
    for attribute in Attribute:
        for answer in KINDS[kind].answers[attribute]:
            found = (KINDS[kind].propose(sample_scene(rng), attribute, answer, rng) for _ in range(200))
            assert any(question is not None for question in found)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "count", "attribute": "color", "place": 1},
        {"kind": "at", "attribute": "weight", "place": 1},
        {"kind": "at", "attribute": "color", "place": 12},
        {"kind": "at", "attribute": "color"},
        {"kind": "verify", "attribute": "color", "place": 1, "value": "square"},
        {"kind": "same", "attribute": "color", "place": 1, "other": 1},
        {"kind": ["at"], "attribute": "color", "place": 1},
    ],
)
def test_json_that_is_no_question_is_refused(data: Any) -> None:
    with pytest.raises(TaskError):
        question_from_json(data)
