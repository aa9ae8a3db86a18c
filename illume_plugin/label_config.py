"""Reads a labelling configuration: which controls it has, and where image, question and answer stand."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from illume_plugin.errors import LabelConfigError, TaskError
from illume_plugin.types import MAX_CANDIDATES, Json, Task

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: Names of the controls. They are stored inside every annotation, so they never change.
CANDIDATES = "cand"
FITS = "fits"
OWN = "own"
BEST = "best"
HELPFUL = "helpful"
HONEST = "honest"
HARMLESS = "harmless"
CRITIQUE = "critique"
REFINE = "refine"
#: Finished rounds of candidates, one JSON object each; written by the answer to an interactive call.
LOG = "log"
#: What became of the last wish, for the annotator to see; written by the answer, too.
STATE = "state"

#: The choice of `fits` that says: none of the candidates fits.
NONE_FITS = "none"

#: No base model reads more; what is longer is somebody's file, not a question.
MAX_CHARACTERS = 100_000

#: Nobody wrote a longer or deeper one by hand; deeper ones exhaust the stack of whoever reads them.
_MAX_CONFIG_CHARACTERS = 1_000_000
_MAX_CONFIG_DEPTH = 50

_VARIABLE = re.compile(r"\$([^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """What we need to know of a labelling configuration.

    Attributes:
        to_name: name of the Image tag that both controls belong to.
        image_key, question_key, answer_key: keys of the task data.
        slots: number of candidates that can be ticked, 1 to 10.
        controls: name -> tag type of every control.
    """

    xml: str
    to_name: str
    image_key: str
    question_key: str
    answer_key: str
    slots: int
    controls: Mapping[str, str] = field(hash=False)


def parse_label_config(
    xml: str, *, question_key: str = "question", answer_key: str = "answer"
) -> LabelConfig:
    """Read a labelling configuration.

    Args:
        question_key, answer_key: keys of the task data that hold question and answer. Where the
            configuration displays exactly two variables in Header or Text tags, those are taken instead.

    Raises:
        LabelConfigError: the text is not XML, or tags are missing; all of them are named at once.
    """
    if not isinstance(xml, str) or not xml.strip():
        raise _refusal([f"it is empty ({xml!r:.40})"])
    if len(xml) > _MAX_CONFIG_CHARACTERS:
        raise _refusal([f"it has {len(xml)} characters, more than {_MAX_CONFIG_CHARACTERS}"])
    return _parse(xml, question_key, answer_key)


@lru_cache(maxsize=64)
def _parse(xml: str, question_key: str, answer_key: str) -> LabelConfig:
    tags = _tags(xml)
    controls = {tag.attrib["name"]: tag for tag in tags if "name" in tag.attrib and "toName" in tag.attrib}
    images = {tag.attrib["name"]: tag for tag in tags if tag.tag == "Image" and "name" in tag.attrib}
    candidates = controls.get(CANDIDATES)
    fits = controls.get(FITS)
    image = None if candidates is None else images.get(candidates.attrib["toName"])
    problems = [*_candidates_problems(candidates, image), *_fits_problems(fits, candidates)]
    if problems or candidates is None or fits is None or image is None:
        raise _refusal(problems)
    question, answer = _question_and_answer(tags, question_key, answer_key)
    return LabelConfig(
        xml=xml,
        to_name=candidates.attrib["toName"],
        image_key=_variables(image)[0],
        question_key=question,
        answer_key=answer,
        slots=_highest(_choices(fits)),
        controls=MappingProxyType({name: tag.tag for name, tag in controls.items()}),
    )


def _refusal(problems: list[str]) -> LabelConfigError:
    return LabelConfigError(
        f"The labelling configuration does not fit ILLUME: {'; '.join(problems)}.",
        why="Candidates could not be shown, or ticks could not be read.",
        todo="Use label_config/select.xml (Settings, Labeling Interface, Code), or add these tags to yours.",
    )


def _tags(xml: str) -> list[Element]:
    try:
        root = fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise _refusal([f"it is not XML that can be read ({error})"]) from error
    if _is_deep(root):
        raise _refusal([f"its tags nest more than {_MAX_CONFIG_DEPTH} levels deep"])
    return list(root.iter())


def _is_deep(root: Element) -> bool:
    level = [root]
    for _ in range(_MAX_CONFIG_DEPTH):
        level = [child for tag in level for child in tag]
        if not level:
            return False
    return True


def _candidates_problems(candidates: Element | None, image: Element | None) -> list[str]:
    if candidates is None or candidates.tag != "TextArea":
        return [f'it has no <TextArea name="{CANDIDATES}" toName="image"/>']
    if image is None:
        name = candidates.attrib["toName"]
        return [f'it has no <Image name="{name}" value="$image"/>, which "{CANDIDATES}" names']
    if len(_variables(image)) != 1:
        return [f'the Image takes its value from {image.get("value")!r}, not from one variable like "$image"']
    return []


def _fits_problems(fits: Element | None, candidates: Element | None) -> list[str]:
    if fits is None or fits.tag != "Choices":
        return [f'it has no <Choices name="{FITS}" toName="image" choice="multiple">']
    problems = []
    if fits.get("choice") != "multiple":
        # with a single choice every candidate but one would be read as "does not fit"
        problems.append(f'"{FITS}" allows one tick only, it needs choice="multiple"')
    if candidates is not None and candidates.attrib["toName"] != fits.attrib["toName"]:
        problems.append(f'"{FITS}" and "{CANDIDATES}" name different objects')
    choices = _choices(fits)
    wanted = [f"c{k}" for k in range(1, max(1, _highest(choices)) + 1)] + [NONE_FITS]
    missing = [value for value in wanted if value not in choices]
    if missing:
        problems.append(f'"{FITS}" lacks the choices {", ".join(missing)}')
    return problems


def _choices(fits: Element) -> set[str]:
    # an alias is what Label Studio stores instead of the value
    return {choice.get("alias") or choice.get("value") or "" for choice in fits.iter("Choice")}


def _highest(choices: set[str]) -> int:
    return max((k for k in range(1, MAX_CANDIDATES + 1) if f"c{k}" in choices), default=0)


def _variables(tag: Element) -> list[str]:
    return _VARIABLE.findall(tag.get("value", ""))


def _question_and_answer(tags: list[Element], question_key: str, answer_key: str) -> tuple[str, str]:
    shown = [name for tag in tags if tag.tag in {"Header", "Text"} for name in _variables(tag)]
    distinct = list(dict.fromkeys(shown))
    if len(distinct) != 2:
        return question_key, answer_key
    first, second = distinct
    if first == answer_key or second == question_key:
        return second, first
    return first, second


def read_task(config: LabelConfig, project_id: int, task_id: int, data: Mapping[str, Json]) -> Task:
    """Read image, question and answer from a task's data.

    The image is taken exactly as it stands; question and answer lose surrounding white space, and a
    number becomes its text.

    Raises:
        TaskError: something is missing, blank, far too long, or not a text; all of it is named at once.
    """
    if not isinstance(data, Mapping):
        raise _task_refusal(task_id, [f"its data is not an object ({data!r:.40})"])
    keys = (config.image_key, config.question_key, config.answer_key)
    found = (_data_problem(data, key, number_is_text=key != config.image_key) for key in keys)
    problems = [problem for problem in found if problem]
    if problems:
        raise _task_refusal(task_id, problems)
    image, question, answer = (str(data[key]) for key in keys)
    return Task(project_id, task_id, image, question.strip(), answer.strip())


def _data_problem(data: Mapping[str, Json], key: str, *, number_is_text: bool) -> str:
    if key not in data:
        return f'"{key}" is missing'
    value = data[key]
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        return f'"{key}" has {len(value)} characters, more than {MAX_CHARACTERS}'
    if isinstance(value, str):
        return "" if any(map(_is_seen, value)) else f'"{key}" is blank'
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if number and number_is_text:
        return ""
    return f'"{key}" is not a text ({value!r:.40})'


def _is_seen(letter: str) -> bool:
    """Whether a letter shows: no space, control, mark of direction or half of a pair."""
    kind = unicodedata.category(letter)
    return kind[0] != "Z" and kind not in {"Cc", "Cf", "Cs"}


def _task_refusal(task_id: int, problems: list[str]) -> TaskError:
    return TaskError(
        f"Task {task_id} cannot be used: {'; '.join(problems)}.",
        why="A rationale needs a picture, a question and an answer.",
        todo="Correct the task's data in Label Studio, or import it again.",
    )
