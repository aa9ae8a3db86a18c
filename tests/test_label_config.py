"""Labelling configurations and task data: what is read, and what a refusal says."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import label_config
from illume_plugin.errors import LabelConfigError, TaskError
from illume_plugin.examples import MAX_STARS
from illume_plugin.label_config import parse_label_config, read_task
from illume_plugin.live_rounds import has_live_rounds

SELECT = (Path(__file__).parents[1] / "label_config" / "select.xml").read_text()


def xml(
    *,
    image: str = '<Image name="image" value="$image"/>',
    headers: str = '<Header value="$question"/><Header value="$answer"/>',
    candidates: str = '<TextArea name="cand" toName="image"/>',
    fits: str = '<Choices name="fits" toName="image" choice="multiple">',
    choices: tuple[str, ...] = ("c1", "c2", "none"),
) -> str:
    items = "".join(f'<Choice value="{value}"/>' for value in choices)
    return f"<View>{image}{headers}{fits}{items}</Choices>{candidates}</View>"


def test_full_xml() -> None:
    config = parse_label_config(label_config.read("full"))
    assert (config.slots, config.image_key, config.question_key, config.answer_key) == (
        10,
        "image",
        "question",
        "answer",
    )
    texts = {"cand", "own", "critique", "refine", "log"}
    assert {name for name, tag in config.controls.items() if tag == "TextArea"} == texts
    assert {name for name, tag in config.controls.items() if tag == "Rating"} == {
        "helpful",
        "honest",
        "harmless",
    }
    assert has_live_rounds(config)
    assert set(re.findall('maxRating="([0-9]+)"', config.xml)) == {str(MAX_STARS)}
    assert re.findall('name="([a-z]+)"[^>]*smartOnly="true"', config.xml) == ["refine"]


def test_select_xml() -> None:
    config = parse_label_config(SELECT)
    assert (config.to_name, config.image_key, config.question_key, config.answer_key) == (
        "image",
        "image",
        "question",
        "answer",
    )
    assert config.slots == 10
    assert dict(config.controls) == {"fits": "Choices", "cand": "TextArea", "own": "TextArea"}
    assert config.xml == SELECT


def test_names_of_image_and_keys_are_free() -> None:
    config = parse_label_config(
        '<View><Image name="i" value="$pic"/><Text name="q" value="$q"/><Header value="Answer: $a"/>'
        '<Choices name="fits" toName="i" choice="multiple"><Choice value="x" alias="c1"/>'
        '<Choice value="none"/></Choices><TextArea name="cand" toName="i"/></View>'
    )
    assert (config.to_name, config.image_key, config.question_key, config.answer_key, config.slots) == (
        "i",
        "pic",
        "q",
        "a",
        1,
    )


@pytest.mark.parametrize(
    ("shown", "keys"),
    [
        ("$question $answer", ("question", "answer")),
        ("$answer then $question", ("question", "answer")),
        ("$answer then $prompt", ("prompt", "answer")),
        ("$question then $label", ("question", "label")),
        ("$label then $question", ("question", "label")),
        ("$first $second", ("first", "second")),
        ("$question", ("question", "answer")),
        ("$a $b $c", ("question", "answer")),
        ("costs $5 and $6", ("question", "answer")),
        ("", ("question", "answer")),
    ],
)
def test_question_and_answer_keys(shown: str, keys: tuple[str, str]) -> None:
    config = parse_label_config(xml(headers=f'<Header value="{shown}"/>'))
    assert (config.question_key, config.answer_key) == keys


def test_keys_given_by_the_caller_hold_where_the_configuration_says_nothing() -> None:
    config = parse_label_config(xml(headers=""), question_key="q", answer_key="a")
    assert (config.question_key, config.answer_key) == ("q", "a")


@pytest.mark.parametrize(
    ("choices", "slots"),
    [(("c1", "none"), 1), (("none", "c2", "c1"), 2), (("none", *(f"c{k}" for k in range(1, 13))), 10)],
)
def test_slots(choices: tuple[str, ...], slots: int) -> None:
    assert parse_label_config(xml(choices=choices)).slots == slots


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("", ["empty"]),
        ("   ", ["empty"]),
        ("<View>", ["not XML"]),
        ("not xml", ["not XML"]),
        ("<View>\x00</View>", ["not XML"]),
        ("<View/>", ['<TextArea name="cand"', '<Choices name="fits"']),
        (xml(candidates=""), ['<TextArea name="cand"']),
        (xml(candidates='<TextArea name="cand"/>'), ['<TextArea name="cand"']),
        (xml(candidates='<Choices name="cand" toName="image"/>'), ['<TextArea name="cand"']),
        (xml(image=""), ['<Image name="image"']),
        (xml(image='<Text name="image" value="$image"/>'), ['<Image name="image"']),
        (xml(image='<Image name="image" value="http://x/a.png"/>'), ["http://x/a.png"]),
        (xml(choices=("c1", "c2")), ["none"]),
        (xml(choices=("none",)), ["c1"]),
        (xml(choices=("c1", "c4", "none")), ["c2, c3"]),
        (xml(choices=()), ["c1, none"]),
        (xml(fits='<Choices name="fits" toName="image">'), ['choice="multiple"']),
        (xml(fits='<Choices name="fits" toName="other" choice="multiple">'), ["different objects"]),
        (xml(candidates="", choices=("c1",)), ['<TextArea name="cand"', "none"]),
    ],
)
def test_a_refusal_names_everything_that_is_missing(config: str, named: list[str]) -> None:
    with pytest.raises(LabelConfigError) as refused:
        parse_label_config(config)
    assert [part for part in named if part not in refused.value.what] == []
    assert "label_config/select.xml" in refused.value.todo


@pytest.mark.parametrize("config", [None, 7, {"xml": "<View/>"}, b"<View/>"])
def test_a_configuration_that_is_no_text_is_refused(config: object) -> None:
    with pytest.raises(LabelConfigError):
        parse_label_config(config)  # type: ignore[arg-type]


def test_entities_are_refused() -> None:
    bomb = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>'
    with pytest.raises(LabelConfigError, match="not XML that can be read"):
        parse_label_config(bomb)


CONFIG = parse_label_config(SELECT)


@pytest.mark.parametrize(
    ("data", "question", "answer"),
    [
        ({"image": " /a b.png", "question": " Why? ", "answer": "yes\n"}, "Why?", "yes"),
        ({"image": " /a b.png", "question": "How many?", "answer": 2}, "How many?", "2"),
        ({"image": " /a b.png", "question": "How much?", "answer": 0.5, "more": None}, "How much?", "0.5"),
    ],
)
def test_read_task(data: dict[str, object], question: str, answer: str) -> None:
    task = read_task(CONFIG, 3, 9, data)
    assert (task.project_id, task.task_id, task.image, task.question, task.answer) == (
        3,
        9,
        " /a b.png",
        question,
        answer,
    )


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, ['"image" is missing', '"question" is missing', '"answer" is missing']),
        ({"image": "/a", "question": "q", "answer": " "}, ['"answer" is blank']),
        ({"image": 5, "question": "q", "answer": "a"}, ['"image" is not a text (5)']),
        ({"image": "", "question": ["q"], "answer": None}, ['"image" is blank', "(['q'])", "(None)"]),
        ({"image": "/a", "question": "q", "answer": True}, ["(True)"]),
        ({"image": "/a", "question": "q", "answer": math.nan}, ["(nan)"]),
        ({"image": "/a", "question": "q", "answer": -math.inf}, ["(-inf)"]),
        (["/a"], ["(['/a'])"]),
        (None, ["(None)"]),
    ],
)
def test_a_task_that_cannot_be_used_says_all_of_why(data: object, named: list[str]) -> None:
    with pytest.raises(TaskError) as refused:
        read_task(CONFIG, 3, 9, data)  # type: ignore[arg-type]
    assert "Task 9" in refused.value.what
    assert [part for part in named if part not in refused.value.what] == []


def test_the_pure_modules_load_neither_torch_nor_label_studio() -> None:
    modules = "label_config, predictions, preferences, dataset, gate"
    script = (
        f"from illume_plugin import {modules}; import sys; "
        "print([m for m in ('torch', 'transformers', 'label_studio_sdk', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
