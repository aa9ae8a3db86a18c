"""What we make sure of before a server samples for us: that it serves our base model and reads as we do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from illume_plugin.base_model import Prompts, encode_prompts
from illume_plugin.errors import ModelError
from illume_plugin.generation.vllm.answers import choices, served
from illume_plugin.generation.vllm.chat import CHAT, PLAIN, messages
from illume_plugin.generation.vllm.client import VllmClient
from illume_plugin.generation.vllm.pictures import picture_url

log = logging.getLogger(__name__)

#: Words that show how a template treats spaces, capitals and several lines.
_QUESTION, _ANSWER = "What  is it, there?\n(Say.)", "A dog"
_PICTURE = Image.new("RGB", (64, 48), (128, 128, 128))
#: The likeliest token each time, but by sampling, which a server would do otherwise for temperature 0.
_PROBE = {**PLAIN, "temperature": 1.0, "top_k": 1, "seed": 1, "max_tokens": 8, "logprobs": True}


@dataclass(frozen=True, slots=True)
class Met:
    """A server that we can work with.

    Attributes:
        model: its name of the base model.
        plain_logprobs: whether the log-probabilities of what it draws are the model's own.
    """

    model: str
    plain_logprobs: bool


def meet(client: VllmClient, prompts: Prompts, wanted: str) -> Met:
    """Find out about a server.

    Args:
        wanted: its name of the base model; empty for the first one that it lists.

    Raises:
        ModelError: it serves another model, or makes other tokens of our prompts.
        UnavailableError, SettingsError: it cannot be asked.
    """
    model = _base_model(client, wanted)
    _must_read_alike(client, model, prompts)
    # Where they are taken after top-k, the only token that is left has probability 1.
    plain = any(probe(client, model, prompts))
    if not plain:
        log.warning("The vLLM server tells no plain log-probabilities (--logprobs-mode raw_logprobs would).")
    log.info("sampling with %s on the vLLM server at %s", model, client.url)
    return Met(model, plain)


def probe(client: VllmClient, model: str, prompts: Prompts) -> tuple[float, ...]:
    """log P of what a model says to one fixed task: another model says something else, or less surely.

    Empty where the server does not tell.
    """
    chat = messages(prompts.rationale_messages(_QUESTION, _ANSWER), picture_url(_PICTURE))
    answer = client.post(CHAT, {"model": model, "messages": chat, "return_token_ids": True, **_PROBE})
    (choice,) = client.read(CHAT, lambda: choices(answer))
    return choice.drawn.logprobs if choice.drawn else ()


def _base_model(client: VllmClient, wanted: str) -> str:
    answer = client.get("/v1/models")
    names = [name for name, base in client.read("/v1/models", lambda: served(answer)).items() if base is None]
    if not names or (wanted and wanted not in names):
        raise ModelError(
            f"The vLLM server at {client.url} does not serve the base model {wanted!r}.",
            why=f"It serves: {', '.join(names) or 'nothing'}.",
            todo="Set ILLUME_VLLM_MODEL to one of these, or start the server with --served-model-name.",
        )
    return wanted or names[0]


def _must_read_alike(client: VllmClient, model: str, prompts: Prompts) -> None:
    """Compare the tokens that the server makes of our prompts, picture included, with ours."""
    if not prompts.chat:
        raise ModelError(
            "The base model has no chat template.",
            why="A vLLM server takes pictures in chats only.",
            todo="Choose a chat model, or sample in this process (unset ILLUME_VLLM_URL).",
        )
    for text, chat in (
        (prompts.answer(_QUESTION), prompts.answer_messages(_QUESTION)),
        (prompts.rationale(_QUESTION, _ANSWER), prompts.rationale_messages(_QUESTION, _ANSWER)),
    ):
        ours = encode_prompts(prompts, [text], [_PICTURE])["input_ids"][0].tolist()
        body = {"model": model, "messages": messages(chat, picture_url(_PICTURE))}
        theirs = _tokens(client, body)
        if theirs != ours:
            raise _differs(client.url, ours, theirs)


def _tokens(client: VllmClient, body: Mapping[str, object]) -> list[int]:
    answer = client.post("/tokenize", body)
    return client.read("/tokenize", lambda: [int(token) for token in answer["tokens"]])


def _differs(where: str, ours: Sequence[int], theirs: Sequence[int]) -> ModelError:
    pairs = enumerate(zip(ours, theirs, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    part = slice(first, first + 4)
    return ModelError(
        f"The vLLM server at {where} makes {len(theirs)} tokens of a prompt that are {len(ours)} here:"
        f" from token {first} on {list(theirs[part])} instead of {list(ours[part])}.",
        why="Adapters are trained on prompts as this process writes them.",
        todo="ILLUME_BASE_MODEL must be the model that it serves, with the same chat template; start it with"
        " --chat-template-content-format openai if it puts the picture elsewhere.",
    )
