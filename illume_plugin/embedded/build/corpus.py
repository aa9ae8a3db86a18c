"""Tasks with rationales as arrays, ready to be batched."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illume_plugin.embedded.build.tokens import ASSISTANT, IMAGE, IMAGE_TOKENS, USER, WHY
from illume_plugin.embedded.questions import KINDS
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute, Scene
from illume_plugin.embedded.splits import Split
from illume_plugin.embedded.tasks import WorldTask, tasks
from illume_plugin.embedded.unfit import Mix

LONGEST = 80
#: What a token of a row is to training.
PROMPT, ANSWER, RATIONALE = 0, 1, 2
#: Fitting rationales alone, for every kind of question.
FITTING: Mapping[str, Mix] = dict.fromkeys(KINDS, Mix(1, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Corpus:
    """One row for each task.

    Attributes:
        ids: (n, LONGEST) token ids, padded with zeros on the right.
        parts: (n, LONGEST) PROMPT, ANSWER or RATIONALE.
        answer_ends: (n,) length of the row up to and with the answer's end token.
        ends: (n,) length of the whole row.
        cells: (n, 9, 3) what each place holds, as `describe` says.
        roles: (n, 9, 2) 1 where the question speaks of the thing in the place: first, second mention.
        kinds: (n,) index of the kind of question in KINDS.
    """

    ids: NDArray[np.int16]
    parts: NDArray[np.int8]
    answer_ends: NDArray[np.int16]
    ends: NDArray[np.int16]
    cells: NDArray[np.int8]
    roles: NDArray[np.int8]
    kinds: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def empty(cls, n: int) -> Corpus:
        """`n` rows of zeros."""
        return cls(
            ids=np.zeros((n, LONGEST), np.int16),
            parts=np.zeros((n, LONGEST), np.int8),
            answer_ends=np.zeros(n, np.int16),
            ends=np.zeros(n, np.int16),
            cells=np.zeros((n, len(PLACES), len(Attribute)), np.int8),
            roles=np.zeros((n, len(PLACES), 2), np.int8),
            kinds=np.zeros(n, np.int8),
        )

    def save(self, path: Path) -> None:
        """Write the arrays as .npz."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """The inverse of `save`."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def describe(scene: Scene) -> NDArray[np.int8]:
    """(9, 3): for each place 1 + the index of the thing's color, shape and size; 0 where it is empty."""
    cells = np.zeros((len(PLACES), len(Attribute)), np.int8)
    for thing in scene.things:
        cells[thing.place] = [1 + VALUES[a].index(thing.value(a)) for a in Attribute]
    return cells


def write_corpus(n: int, seed: int, split: Split, mixes: Mapping[str, Mix], tokenizer: Any) -> Corpus:
    """`n` tasks of the split, each with one rationale of the mix for its kind."""
    rng = random.Random(seed)
    speaker = Speaker(tokenizer)
    corpus = Corpus.empty(n)
    kinds = list(KINDS)
    for row, task in enumerate(islice(tasks(rng, split), n)):
        ids, parts = speaker.row(task, mixes[task.question.kind].draw(task, rng))
        corpus.ids[row, : len(ids)] = ids
        corpus.parts[row, : len(ids)] = parts
        corpus.answer_ends[row] = len(ids) - parts[::-1].index(ANSWER)
        corpus.ends[row] = len(ids)
        corpus.cells[row] = describe(task.scene)
        for role, places in enumerate(task.question.roles(task.scene)):
            corpus.roles[row, list(places), role] = 1
        corpus.kinds[row] = kinds.index(task.question.kind)
    return corpus


class Speaker:
    """Turns a task and a rationale into tokens, word for word as the chat template does."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self._user, self._assistant, self._image = tokenizer.convert_tokens_to_ids([USER, ASSISTANT, IMAGE])

    def row(self, task: WorldTask, rationale: str) -> tuple[list[int], list[int]]:
        """Token ids, and for each what it is to training."""
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        question = [bos, self._user, *self._words(task.question_text), *[self._image] * IMAGE_TOKENS]
        answer = [*self._words(task.answer), eos]
        why = [self._user, *self._words(WHY), self._assistant]
        reason = [*self._words(rationale), eos]
        prompt = [*question, self._assistant]
        pieces = ((prompt, PROMPT), (answer, ANSWER), (why, PROMPT), (reason, RATIONALE))
        return [i for ids, _ in pieces for i in ids], [part for ids, part in pieces for _ in ids]

    def _words(self, text: str) -> Iterator[int]:
        """The tokenizer never merges across words, so each word is tokenized once and for all."""
        for word in text.split():
            if word not in self._known:
                self._known[word] = self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            yield from self._known[word]
