"""Sampling, answering and scoring on a vLLM server, behind the same protocol as sampling in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from http.client import NOT_FOUND
from itertools import groupby
from pathlib import Path
from typing import Any

from illume_plugin.base_model import Prompts
from illume_plugin.errors import ModelError
from illume_plugin.generation.engine import MAX_ANSWER_TOKENS
from illume_plugin.generation.generator import EngineFacts, SampleRequest
from illume_plugin.generation.plan import SamplingPlan, not_on_a_server
from illume_plugin.generation.stopping import never
from illume_plugin.generation.vllm.adapters import ServerAdapters
from illume_plugin.generation.vllm.answers import choices
from illume_plugin.generation.vllm.chat import CHAT, PLAIN, messages
from illume_plugin.generation.vllm.client import Body, VllmClient
from illume_plugin.generation.vllm.failures import RefusedError
from illume_plugin.generation.vllm.likelihood import Memory
from illume_plugin.generation.vllm.meeting import meet, probe
from illume_plugin.generation.vllm.pictures import data_url
from illume_plugin.generation.vllm.reading import Reader, Told
from illume_plugin.generation.wordings import messages_of, prompt_of
from illume_plugin.selection import clean
from illume_plugin.types import Blind, Candidate


class VllmGenerator:
    """Samples on a vLLM server. Threads may share it.

    The same task, adapter and plan give the same candidates as long as the server and its settings stay the
    same, up to rounding; they are others than the ones that `TransformersGenerator` draws.

    Args:
        client: the server; closed by whoever made it.
        prompts: of the base model that it serves.
        model: the server's name of that base model; empty for the first one that it lists.
        rows: texts that are sampled at a time.
        reads: whether it may be asked for log-probabilities of prompts (`reading`).
        adapters: the folder of all adapters, and the same folder as the server sees it.

    Attributes:
        rows: see above.
    """

    def __init__(
        self,
        client: VllmClient,
        prompts: Prompts,
        *,
        model: str = "",
        rows: int = 256,
        reads: bool = False,
        adapters: tuple[Path, Path] | None = None,
    ) -> None:
        self.rows = rows
        self._client, self._prompts, self._model = client, prompts, model
        self._folders = adapters
        self._reads = reads
        self._memory = Memory(8 * rows)
        self._reader = Reader(client, self._ask, prompts, self._memory, reads=reads)
        self._remembers = False
        self._known: ServerAdapters | None = None
        self._meeting = threading.Lock()
        tokenizer = prompts.processor.tokenizer
        self._vocabulary = len(tokenizer)
        self._end_ids = list(tokenizer.convert_tokens_to_ids(list(prompts.ends)))

    @property
    def mode(self) -> str:
        """How candidates are decoded."""
        return f"vLLM server at {self._client.url}"

    def facts(self) -> EngineFacts:
        """How the server draws and scores; meets it, if that has not been done."""
        model = self._adapters().on_server(None)
        told = "log-probabilities of what it draws" if self._remembers else "none of what it draws"
        return EngineFacts(
            decoding=self.mode,
            scoring=f"{told}, {'and' if self._reads else 'not'} of other texts",
            blind=Blind.TEXT.value if self._reads else "not read (ILLUME_VLLM_READS)",
            place=f"model {model}",
            concern=""
            if self._remembers
            else "it tells no plain log-probabilities; start it with --logprobs-mode raw_logprobs",
        )

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let the server load the adapter in `folder` beside the others.

        Raises:
            ModelError: it is damaged, does not fit, or the server does not take it; the others go on.
        """
        self._adapters().load(name, folder)

    def has(self, name: str) -> bool:
        """Whether the server has an adapter of that name, loaded through this generator."""
        return self._adapters().has(name)

    def drop_adapter(self, name: str) -> None:
        """Let the server forget an adapter."""
        self._adapters().drop(name)

    def sample(
        self, requests: Sequence[SampleRequest], plan: SamplingPlan, *, adapter: str | None = None
    ) -> list[list[Candidate]]:
        """Candidates for every task, conditioned on its given answer: drawn, cleaned, scored."""
        drawn = self.draw(requests, plan, adapter=adapter)
        return self.score(requests, [clean(draws).kept for draws in drawn], adapter=adapter)

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        """Every draw of the plan for each task, in the plan's order, as it came: repeated, empty, unscored.

        A draw that did not end within `plan.max_new_tokens` is None. One request draws all texts of a task at
        one temperature; the server gives them its seed and the numbers after it.

        Args:
            stop: asked now and then; true ends the sampling.

        Raises:
            SamplingStopped: `stop` said so.
            UnavailableError: the server does not answer in time.
            ModelError, TaskError, ImageError: it refuses, or a task cannot be sampled.
            SettingsError: the plan has a search, which a server does not do.
        """
        if plan.search:
            raise not_on_a_server()
        bodies = [list(self._bodies(request, plan, adapter)) for request in requests]
        answers = iter(self._ask(adapter, [body for some in bodies for _, body in some], stop))
        return [
            [
                candidate
                for wording, body in some
                for candidate in self._candidates(request, wording, body, next(answers), adapter)
            ]
            for request, some in zip(requests, bodies, strict=True)
        ]

    def score(
        self,
        requests: Sequence[SampleRequest],
        candidates: Sequence[Sequence[Candidate]],
        *,
        adapter: str | None = None,
        blind: bool = True,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate]]:
        """The candidates of each task with their scores by the adapter, as `scoring.score` defines them.

        They stay unscored where the server does not tell log-probabilities.
        """
        told = [
            Told(request.task, one.text, request.image, _key(request, adapter, one.text))
            for request, some in zip(requests, candidates, strict=True)
            for one in some
        ]
        flat = iter(self._reader.score(adapter, told, blind=blind, stop=stop))
        return [
            [one.with_scores(scores) if (scores := next(flat)) else one for one in some]
            for some in candidates
        ]

    def answer(
        self,
        requests: Sequence[SampleRequest],
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[str]:
        """The answer that the model gives by itself (greedily) to each question."""
        bodies = [
            {
                "messages": messages(self._prompts.answer_messages(each.task.question), data_url(each.image)),
                **PLAIN,
                "temperature": 0.0,
                "max_tokens": MAX_ANSWER_TOKENS,
                "stop_token_ids": self._end_ids,
            }
            for each in requests
        ]
        answers = self._ask(adapter, bodies, stop)
        return self._client.read(CHAT, lambda: [choices(each)[0].text for each in answers])

    def _ask(self, adapter: str | None, bodies: Sequence[Body], stop: Callable[[], bool]) -> list[Any]:
        """Answers to chats by the model with an adapter; one that the server has lost is loaded once more."""
        adapters = self._adapters()
        model = adapters.on_server(adapter)
        asked = [{"model": model, **body} for body in bodies]
        try:
            return self._client.post_all(CHAT, asked, stop=stop)
        except RefusedError as error:
            if adapter is None or error.answered != NOT_FOUND:
                raise
        adapters.restore(adapter)
        return self._client.post_all(CHAT, asked, stop=stop)

    def _adapters(self) -> ServerAdapters:
        """The server's adapters; on first use, makes sure that we can work with it."""
        with self._meeting:
            if self._known is None:
                met = meet(self._client, self._prompts, self._model)
                self._remembers = met.plain_logprobs
                self._known = ServerAdapters(
                    self._client,
                    met.model,
                    lambda name: probe(self._client, name, self._prompts),
                    folders=self._folders,
                )
            return self._known

    def _bodies(
        self, request: SampleRequest, plan: SamplingPlan, adapter: str | None
    ) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
        """One request for each wording of the prompt and each temperature, with its wording."""
        self._prompts.must_hold_words(request.task.question, request.task.answer)
        picture = data_url(request.image)
        for index, wording in enumerate(plan.wordings):
            chat = messages(messages_of(self._prompts, wording, request), picture)
            draws = plan.seeds(request.task, adapter, index, wish=request.wish)
            for temperature, some in groupby(draws, key=lambda draw: draw[0]):
                seeds = [seed for _, seed in some]
                yield (
                    wording,
                    {
                        "messages": chat,
                        **PLAIN,
                        "temperature": temperature,
                        "top_k": plan.top_k(self._vocabulary),
                        "n": len(seeds),
                        "seed": seeds[0],
                        "max_tokens": plan.max_new_tokens,
                        "stop_token_ids": self._end_ids,
                        "logprobs": True,
                        "return_token_ids": True,
                    },
                )

    def _candidates(
        self,
        request: SampleRequest,
        wording: str | None,
        body: Mapping[str, Any],
        answer: Any,
        adapter: str | None,
    ) -> Iterator[Candidate | None]:
        prompt = prompt_of(self._prompts, wording, request)
        own = wording is None and request.conversation is None
        drawn = self._client.read(CHAT, lambda: choices(answer))
        if len(drawn) != body["n"]:
            raise ModelError(f"The vLLM server drew {len(drawn)} texts instead of {body['n']}.")
        for index, choice in enumerate(drawn):
            # Behind another prompt the text has other probabilities than the ones that we score with.
            if choice.drawn and self._remembers and own:
                self._memory.put(_key(request, adapter, choice.text), choice.drawn)
            candidate = Candidate(choice.text, body["temperature"], body["seed"] + index, prompt)
            yield candidate if choice.ended else None


def _key(request: SampleRequest, adapter: str | None, text: str) -> Hashable:
    return adapter, request.image, request.task.question, request.task.answer, text
