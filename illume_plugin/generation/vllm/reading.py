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
from pathlib import Path
from typing import Any

from illume_plugin.base_model import Prompts
from illume_plugin.generation.stopping import never
from illume_plugin.generation.vllm.chat import CHAT, blind_prompts, messages
from illume_plugin.generation.vllm.client import Body, VllmClient
from illume_plugin.generation.vllm.likelihood import Memory, Reply
from illume_plugin.generation.vllm.pictures import data_url
from illume_plugin.scoring.score import scores_of
from illume_plugin.types import Blind, Scores, Task

log = logging.getLogger(__name__)

#: The server has to draw at least one token; that is the least that makes it read.
_READ = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "add_generation_prompt": False}


Ask = Callable[[str | None, Sequence[Body], Callable[[], bool]], list[Any]]


@dataclass(frozen=True, slots=True)
class Told:
    """A rationale to be scored.

    Attributes:
        image: picture of its task, a local file.
        key: under which the server's own words on it are remembered.
    """

    task: Task
    text: str
    image: Path
    key: Hashable


class Reader:
    """Scores rationales with what a server tells.

    Args:
        ask: sends bodies of chats to the model with an adapter, None without one; gives the answers.
        reads: whether the server may be asked for log-probabilities of prompts.

    Attributes:
        memory: what it told of the texts that it drew.
    """

    def __init__(
        self, client: VllmClient, ask: Ask, prompts: Prompts, memory: Memory, *, reads: bool
    ) -> None:
        self.memory = memory
        self._client, self._ask, self._reads = client, ask, reads
        self._prompts, self._blind = prompts, blind_prompts(prompts)
        self._said = False

    def score(
        self, adapter: str | None, told: Sequence[Told], *, blind: bool, stop: Callable[[], bool] = never
    ) -> list[Scores | None]:
        """Scores by the model with an adapter; None where the server does not tell enough.

        Args:
            blind: read them without the picture too, for `i2c` and `pmi`.
        """
        replies = [Reply.of(self._prompts, one.task.question, one.task.answer, one.text) for one in told]
        seen = [reply.drawn(self.memory.get(one.key)) for reply, one in zip(replies, told, strict=True)]
        missing = [i for i, one in enumerate(seen) if one is None]
        some = [told[i] for i in missing], [replies[i] for i in missing]
        for i, read in zip(missing, self._read(adapter, *some, stop, pictured=True), strict=True):
            seen[i] = read
        unseen = self._read(adapter, told, replies, stop, pictured=False) if blind else [None] * len(told)
        return [
            scores_of(reply.branch, with_it, without, Blind.TEXT if without else None) if with_it else None
            for reply, with_it, without in zip(replies, seen, unseen, strict=True)
        ]

    def _read(
        self,
        adapter: str | None,
        told: Sequence[Told],
        replies: Sequence[Reply],
        stop: Callable[[], bool],
        *,
        pictured: bool,
    ) -> list[list[float] | None]:
        """log P of each text's tokens, with its picture or without; None where the server does not tell."""
        answers: list[Any] = [{}] * len(told)
        if self._reads:
            urls = {image: data_url(image) for image in {one.image for one in told}} if pictured else {}
            bodies = [{"messages": self._chat(one, urls.get(one.image)), **_READ} for one in told]
            answers = self._ask(adapter, bodies, stop)
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

    def _chat(self, told: Told, picture: str | None) -> list[dict[str, Any]]:
        prompts = self._prompts if picture else self._blind
        return messages(prompts.told_messages(told.task.question, told.task.answer, told.text), picture or "")
