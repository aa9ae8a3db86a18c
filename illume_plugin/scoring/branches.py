"""A task's candidates as tokens after one shared prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from illume_plugin.base_model import Prompts, encode_prompts, tokens_with_ends
from illume_plugin.errors import ModelError
from illume_plugin.scoring.tree import Tokens, common_prefix
from illume_plugin.sentences import sentence_ends

Batch = dict[str, torch.Tensor]

#: What a processor gives for each token of the prompt.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True, slots=True)
class Branch:
    """What follows the shared prompt when the model says one candidate.

    Attributes:
        tokens: everything after the shared prompt, the end token last.
        sentences: for each of the candidate's own tokens, the last of `tokens`, which sentence it is in.
        ends: how many of them only end the reply.
    """

    tokens: Tokens
    sentences: tuple[int, ...]
    ends: int


@dataclass(frozen=True, slots=True)
class Branches:
    """One prompt, read once, and all candidates after it.

    Attributes:
        prompt: one row of tensors: the prompt with its picture.
    """

    prompt: Batch
    branches: list[Branch]

    @property
    def length(self) -> int:
        """Tokens of the prompt, the picture's among them."""
        return self.prompt["input_ids"].shape[1]


def encode(
    prompts: Prompts, question: str, answer: str, texts: Sequence[str], picture: Image.Image
) -> Branches:
    """Encode the rationale prompt of a task once, and every candidate as what follows it.

    A candidate is tokenised together with its prompt, as `encode_rows` does it. Where the tokenizer merges
    across their border, the merged tokens leave the shared prompt and stand in every candidate.

    Args:
        picture: not used where `prompts` render without the picture.

    Raises:
        ModelError: the processor's prompt does not end as the tokenizer's.
    """
    told = [prompts.told(question, answer, text) for text in texts]
    prompt = prompts.rationale(question, answer)
    ids, _ = tokens_with_ends(prompts, prompt)
    rows = [tokens_with_ends(prompts, prompt + reply.text) for _, reply in told]
    shared = min((common_prefix(ids, row) for row, _ in rows), default=len(ids))
    batch = _prompt_batch(prompts, prompt, picture, ids, len(ids) - shared)
    branches = [
        branch_of(prompts, row[shared:], stops[shared:], len(prompt), reply.text)
        for (row, stops), (_, reply) in zip(rows, told, strict=True)
    ]
    return Branches(batch, branches)


def _prompt_batch(
    prompts: Prompts, prompt: str, picture: Image.Image, ids: Sequence[int], dropped: int
) -> Batch:
    batch = encode_prompts(prompts, [prompt], [picture])
    batch.pop("labels", None)  # PaliGemma's processor makes its own
    if not dropped:
        return batch
    if batch["input_ids"][0, -dropped:].tolist() != list(ids[-dropped:]):
        raise ModelError(
            "The processor's prompt does not end with the tokenizer's tokens.",
            why="Rationales begin inside a token of the prompt, so their log-probability would be wrong.",
            todo="Choose another base model, or report this one to us.",
        )
    return {key: value[:, :-dropped] if key in PER_TOKEN else value for key, value in batch.items()}


def branch_of(
    prompts: Prompts, tokens: Sequence[int], stops: Sequence[int], start: int, reply: str
) -> Branch:
    """The branch of one reply.

    Args:
        tokens: of the prompt's end and the reply, or of any more of the prompt.
        stops: for each of them the character at which it ends, counted from the prompt's start.
        start: characters of the prompt.
    """
    said = next((reply.removesuffix(end) for end in prompts.ends if reply.endswith(end)), reply)
    borders = [start + end for end in sentence_ends(said)]
    own = [stop for stop in stops if stop > start]
    last = len(borders) - 1
    return Branch(
        tokens=tuple(tokens),
        sentences=tuple(next((i for i, end in enumerate(borders) if stop <= end), last) for stop in own),
        ends=sum(stop > borders[-1] for stop in own),
    )
