"""Scores of rationales by a vLLM server, as `scoring` defines them.

The server tells the log-probability of every token that it draws, so texts that it drew need not be read
again. Others, and all of them without the picture, it must read (`prompt_logprobs`). It does so only where we
were told that it can: a server with adapters on its last layer dies of two such requests at once (vLLM 0.32,
its issue 16668), and takes all other requests with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from illume_plugin.base_model import Prompts
from illume_plugin.generation.stopping import never
from illume_plugin.generation.vllm.chat import CHAT, blind_prompts, messages
from illume_plugin.generation.vllm.client import VllmClient
from illume_plugin.generation.vllm.likelihood import Memory, Reply
from illume_plugin.scoring.score import scores_of
from illume_plugin.types import Blind, Scores

log = logging.getLogger(__name__)

#: The server has to draw at least one token; that is the least that makes it read.
_READ = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "add_generation_prompt": False}


@dataclass(frozen=True, slots=True)
class Told:
    """A rationale to be scored.

    Attributes:
        picture: of its task, as a data URL.
        key: under which the server's own words on it are remembered.
    """

    question: str
    answer: str
    text: str
    picture: str
    key: Hashable


class Reader:
    """Scores rationales with what a server tells.

    Args:
        reads: whether the server may be asked for log-probabilities of prompts.

    Attributes:
        memory: what it told of the texts that it drew.
    """

    def __init__(self, client: VllmClient, prompts: Prompts, memory: Memory, *, reads: bool) -> None:
        self.memory = memory
        self._client, self._reads = client, reads
        self._prompts, self._blind = prompts, blind_prompts(prompts)
        self._said = False

    def score(
        self, model: str, told: Sequence[Told], *, blind: bool, stop: Callable[[], bool] = never
    ) -> list[Scores | None]:
        """Scores by the model of that server name; None where the server does not tell enough.

        Args:
            blind: read them without the picture too, for `i2c` and `pmi`.
        """
        replies = [Reply.of(self._prompts, one.question, one.answer, one.text) for one in told]
        seen = [reply.drawn(self.memory.get(one.key)) for reply, one in zip(replies, told, strict=True)]
        missing = [i for i, one in enumerate(seen) if one is None]
        some = [told[i] for i in missing], [replies[i] for i in missing]
        for i, read in zip(missing, self._read(model, *some, stop, pictured=True), strict=True):
            seen[i] = read
        unseen = self._read(model, told, replies, stop, pictured=False) if blind else [None] * len(told)
        return [
            scores_of(reply.branch, with_it, without, Blind.TEXT if without else None) if with_it else None
            for reply, with_it, without in zip(replies, seen, unseen, strict=True)
        ]

    def _read(
        self,
        model: str,
        told: Sequence[Told],
        replies: Sequence[Reply],
        stop: Callable[[], bool],
        *,
        pictured: bool,
    ) -> list[list[float] | None]:
        """log P of each text's tokens, with its picture or without; None where the server does not tell."""
        bodies = [{"model": model, "messages": self._chat(one, pictured), **_READ} for one in told]
        answers: list[Any] = (
            self._client.post_all(CHAT, bodies, stop=stop) if self._reads else [{}] * len(told)
        )
        found = self._client.read(
            CHAT,
            lambda: [
                reply.read(answer.get("prompt_logprobs"))
                for reply, answer in zip(replies, answers, strict=True)
            ],
        )
        if None in found and not self._said:
            self._said = True
            log.warning(
                "The vLLM server %s; some candidates get no scores (log-probability, i2c, pmi).",
                "tells no log-probabilities of our texts"
                if self._reads
                else "may not read (ILLUME_VLLM_READS)",
            )
        return found

    def _chat(self, told: Told, pictured: bool) -> list[dict[str, Any]]:
        prompts = self._prompts if pictured else self._blind
        ours = prompts.told_messages(told.question, told.answer, told.text)
        return messages(ours, told.picture)
