import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.embedded.phrases import Phrase, as_predicate, enumerate_words, with_article
from illume_plugin.embedded.scene import VALUES, Attribute, sample_scene
from illume_plugin.errors import TaskError

EVERY = [
    Phrase(size, color, shape)
    for size, color, shape in product(
        (None, *VALUES[Attribute.SIZE]), (None, *VALUES[Attribute.COLOR]), (None, *VALUES[Attribute.SHAPE])
    )
]
PHRASES = st.sampled_from(EVERY)
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize(
    ("phrase", "singular", "none", "one", "two"),
    [
        (Phrase(), "object", "no objects", "one object", "two objects"),
        (Phrase(color="red"), "red object", "no red objects", "one red object", "two red objects"),
        (Phrase(shape="circle"), "circle", "no circles", "one circle", "two circles"),
        (
            Phrase("small", "blue", "square"),
            "small blue square",
            "no small blue squares",
            "one small blue square",
            "two small blue squares",
        ),
    ],
)
def test_wording(phrase: Phrase, singular: str, none: str, one: str, two: str) -> None:
    assert (phrase.singular, phrase.counted(0), phrase.counted(1), phrase.counted(2)) == (
        singular,
        none,
        one,
        two,
    )


@given(PHRASES, PHRASES, SEEDS)
def test_what_implies_another_names_nothing_else(one: Phrase, other: Phrase, seed: int) -> None:
    scene = sample_scene(random.Random(seed))
    if one.implies(other):
        assert set(one.among(scene)) <= set(other.among(scene))


@given(PHRASES, SEEDS)
def test_a_phrase_of_a_thing_names_it_and_fewer_words_name_more(phrase: Phrase, seed: int) -> None:
    scene = sample_scene(random.Random(seed))
    for thing in scene.things:
        assert thing in Phrase.of(thing, phrase.named).among(scene)
    for attribute in phrase.named:
        assert phrase.implies(phrase.without(attribute))
        assert not phrase.without(attribute).implies(phrase)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_enumeration(words: list[str], said: str) -> None:
    assert enumerate_words(words) == said


def test_articles() -> None:
    assert [with_article("object"), with_article("red object")] == ["an object", "a red object"]
    assert [as_predicate(Attribute.SHAPE, "circle"), as_predicate(Attribute.COLOR, "red")] == [
        "a circle",
        "red",
    ]


def test_a_value_from_elsewhere_is_refused() -> None:
    with pytest.raises(TaskError, match="pink"):
        Phrase(color="pink")
