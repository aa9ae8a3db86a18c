"""What every kind of question has in common."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar

from illume_plugin.embedded.scene import Scene
from illume_plugin.types import Json

YES, NO = "yes", "no"


class Question(ABC):
    """A question about a scene; the kinds are frozen dataclasses, so that questions compare by content."""

    #: The name of the kind.
    kind: ClassVar[str]
    #: What within the kind is asked about -> every answer that such a question can have.
    topics: ClassVar[Mapping[str, Sequence[str]]]

    @property
    @abstractmethod
    def text(self) -> str:
        """The question in words."""

    @abstractmethod
    def answer(self, scene: Scene) -> str:
        """The right answer in this scene.

        Raises:
            TaskError: the question has none, say because it asks for the color of a thing that is not there.
        """

    @classmethod
    @abstractmethod
    def propose(cls, scene: Scene, topic: str, answer: str, rng: random.Random) -> Question | None:
        """A question of this kind whose answer in this scene is `answer`, or None if the scene has none."""

    @abstractmethod
    def roles(self, scene: Scene, /) -> tuple[frozenset[int], frozenset[int]]:
        """The places of the things that the question speaks of: first mentioned, second mentioned."""

    def to_json(self) -> Json:
        """An object with `kind` and the kind's own fields, ready for `json.dumps`."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]
