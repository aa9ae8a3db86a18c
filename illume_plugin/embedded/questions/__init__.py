"""The questions of the picture world: one class for each kind, found by name.

A kind says how it is worded, what its answer is in a scene, and how to find an instance with a wanted
answer. To add a kind, write its class, list it below, give it sentences in rationales.py and say in
support.py what supports its answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions.by_content import Color, Comparison, Count, Exists, Relation, Shape
from illume_plugin.embedded.questions.by_pattern import Pattern
from illume_plugin.embedded.questions.by_place import At, Same, Verify
from illume_plugin.embedded.questions.question import NO, YES, Question
from illume_plugin.embedded.scene import Attribute
from illume_plugin.errors import TaskError
from illume_plugin.types import Json

__all__ = [
    "KINDS", "NO", "PATTERN_KINDS", "YES",
    "At", "Color", "Comparison", "Count", "Exists", "Pattern", "Question", "Relation", "Same", "Shape",
    "Verify",
    "question_from_json",
]  # fmt: skip

#: What the base model was taught to answer.
KINDS: Mapping[str, type[Question]] = {
    kind.kind: kind for kind in (Exists, Count, Color, Shape, Relation, Comparison, At, Verify, Same)
}
#: What it cannot know.
PATTERN_KINDS: Mapping[str, type[Question]] = {Pattern.kind: Pattern}
_EVERY_KIND = {**KINDS, **PATTERN_KINDS}


def question_from_json(data: Json) -> Question:
    """The inverse of `Question.to_json`.

    Raises:
        TaskError: `data` is not a question of a known kind.
    """
    try:
        fields = dict(data)
        kind = _EVERY_KIND[fields.pop("kind")]
        return kind(**{name: _read(name, value) for name, value in fields.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise TaskError(
            f"This is not a question of the picture world: {data!r:.200}.",
            why=f"Known kinds are {', '.join(_EVERY_KIND)}.",
        ) from error


def _read(name: str, value: Json) -> object:
    if isinstance(value, dict):
        return Phrase(**value)
    return Attribute(value) if name == "attribute" else value
