"""Where sentences end in tokens that are drawn one by one. No torch.

A sentence has ended once words follow it, or the end token does: whether "0.", "e.g." or a closing quote goes
on is known only then. What was drawn behind the sentence to know it is not part of it and is drawn anew.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from illume_plugin.generation.sentence_search import Sentence
from illume_plugin.sentences import sentence_ends

#: Characters that may end a sentence, and the one that stands for a part of one.
_MARKS = frozenset(".!?…。！？\N{REPLACEMENT CHARACTER}")


class SentenceReader:
    """Reads tokens as sentences.

    Args:
        tokenizer: of the base model.
        end_ids: tokens that end a rationale.
    """

    def __init__(self, tokenizer: Any, end_ids: Container[int]) -> None:
        self.end_ids = end_ids
        self._tokenizer = tokenizer
        self._marked: dict[int, bool] = {}

    def text(self, tokens: Sequence[int]) -> str:
        """The words that tokens stand for."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def may_end(self, token: int) -> bool:
        """Whether a mark that ends sentences may be in the token."""
        if token not in self._marked:
            self._marked[token] = not _MARKS.isdisjoint(self.text([token]))
        return self._marked[token]

    def first_sentence(self, tokens: Sequence[int]) -> int | None:
        """Number of tokens of the first sentence; None where no other one follows."""
        ends = sentence_ends(self.text(tokens))
        if len(ends) < 2:
            return None
        count = len(tokens)
        while count > 1 and len(self.text(tokens[: count - 1])) >= ends[0]:
            count -= 1
        return count


class GrowingSentence:
    """A sentence while it is drawn.

    Args:
        limit: tokens by which it must have ended.

    Attributes:
        sentence: once it has ended.
    """

    def __init__(self, reader: SentenceReader, limit: int) -> None:
        self.sentence: Sentence | None = None
        self._reader, self._limit = reader, limit
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._marked = False

    def add(self, token: int, logprob: float) -> bool:
        """Take the next token and its log-probability; true when there is nothing more to draw."""
        self._tokens.append(token)
        self._logprobs.append(logprob)
        if token in self._reader.end_ids:
            self.sentence = self._cut(len(self._tokens) - 1, ended=True)
            return True
        if self._marked and (count := self._reader.first_sentence(self._tokens)) is not None:
            self.sentence = self._cut(count, ended=False)
            return True
        self._marked = self._marked or self._reader.may_end(token)
        return len(self._tokens) >= self._limit

    def _cut(self, count: int, *, ended: bool) -> Sentence:
        tokens = self._tokens[:count]
        logprob = sum(self._logprobs if ended else self._logprobs[:count])
        return Sentence(tuple(tokens), self._reader.text(tokens).strip(), logprob, ended)
