"""What a vLLM server thinks of rationales: log-probabilities of their tokens, drawn or read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from illume_plugin.base_model import Prompts, tokens_with_ends
from illume_plugin.generation.vllm.answers import Drawn
from illume_plugin.scoring.branches import Branch, branch_of

#: Tokens that a chat template may write behind the one that ends a reply.
_BEHIND = 8


class Memory:
    """What the server told of the texts that it drew last. Safe to share between threads.

    Args:
        size: texts remembered; the oldest are forgotten first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._drawn: OrderedDict[Hashable, Drawn] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: Hashable, drawn: Drawn) -> None:
        """Remember a text."""
        with self._lock:
            self._drawn[key] = drawn
            self._drawn.move_to_end(key)
            while len(self._drawn) > self._size:
                self._drawn.popitem(last=False)

    def get(self, key: Hashable) -> Drawn | None:
        """What was told of a text; None where it is not remembered."""
        with self._lock:
            return self._drawn.get(key)


@dataclass(frozen=True, slots=True)
class Reply:
    """A rationale behind its prompt, as tokens.

    Attributes:
        branch: its sentences and how many of its tokens only end it.
        own: its token ids, the end token last.
    """

    branch: Branch
    own: tuple[int, ...]

    @classmethod
    def of(cls, prompts: Prompts, question: str, answer: str, text: str) -> Reply:
        """Tokenise a rationale together with its prompt, as `scoring` does."""
        prompt, reply = prompts.told(question, answer, text)
        tokens, stops = tokens_with_ends(prompts, prompt.text + reply.text)
        branch = branch_of(prompts, tokens, stops, len(prompt.text), reply.text)
        return cls(branch, branch.tokens[len(branch.tokens) - len(branch.sentences) :])

    def drawn(self, drawn: Drawn | None) -> list[float] | None:
        """log P of its own tokens, where the server drew exactly those."""
        return list(drawn.logprobs) if drawn and drawn.tokens == self.own else None

    def read(self, told: Sequence[Mapping[str, Any] | None] | None) -> list[float] | None:
        """log P of its own tokens out of a prompt's, or None where they are not at its end.

        Args:
            told: for each token of the prompt a mapping from its id; the first one's is None.
        """
        if not told:
            return None
        ids = [int(next(iter(one))) if one else -1 for one in told]
        size = len(self.own)
        for behind in range(_BEHIND + 1):
            start = len(ids) - behind - size
            if start > 0 and tuple(ids[start : start + size]) == self.own:
                return [_logprob(one) for one in told[start : start + size]]
        return None


def _logprob(one: Mapping[str, Any] | None) -> float:
    if not one:
        raise ValueError("The first token of a prompt has no probability.")
    return float(next(iter(one.values()))["logprob"])
