"""Questions about patterns, which the base model was never shown."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from illume_plugin.embedded.phrases import Phrase
from illume_plugin.embedded.questions.by_content import DESCRIPTIONS, only
from illume_plugin.embedded.questions.question import Question
from illume_plugin.embedded.scene import PATTERNS, Scene
from illume_plugin.errors import TaskError

WORDINGS = (
    "What pattern does the {} have?",
    "Which pattern do you see on the {}?",
    "Is the {} striped, dotted or checked?",
)


@dataclass(frozen=True, slots=True)
class Pattern(Question):
    """What pattern has the one thing that looks like this?

    Attributes:
        wording: an index into WORDINGS; the answer is the same in each.
    """

    kind: ClassVar[str] = "pattern"
    topics = dict.fromkeys(DESCRIPTIONS, PATTERNS)
    phrase: Phrase
    wording: int = 0

    def __post_init__(self) -> None:
        if self.wording not in range(len(WORDINGS)):
            raise TaskError(f"There is no wording {self.wording!r} of a question about a pattern.")

    @property
    def text(self) -> str:
        return WORDINGS[self.wording].format(self.phrase.singular)

    def answer(self, scene: Scene) -> str:
        return only(self.phrase, scene).pattern

    @classmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        asked = (thing for thing in scene.things if thing.pattern == answer)
        phrases = (Phrase.of(thing, DESCRIPTIONS[topic]) for thing in asked)
        unique = [phrase for phrase in phrases if len(phrase.among(scene)) == 1]
        return cls(rng.choice(unique), rng.randrange(len(WORDINGS))) if unique else None

    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset(thing.place for thing in self.phrase.among(scene)), frozenset()
