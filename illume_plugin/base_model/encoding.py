"""From prompts and pictures to the tensors that the base model reads, with a mask per role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from illume_plugin.base_model.prompts import Piece, Prompts, Role
from illume_plugin.errors import ModelError, TaskError

Batch = dict[str, torch.Tensor]


def encode_prompts(prompts: Prompts, texts: Sequence[str], images: Sequence[Image.Image]) -> Batch:
    """Encode prompts to be continued: padded on the left, so that every row ends where it continues.

    Args:
        images: one for each text; none at all where `prompts` render without the picture.

    Returns:
        What the processor gives; `input_ids` and `attention_mask` have shape (texts, longest prompt).

    Raises:
        TaskError: the processor refuses a picture or a text.
    """
    return _process(prompts, texts, images, padding_side="left")


def encode_rows(prompts: Prompts, rows: Sequence[Sequence[Piece]], images: Sequence[Image.Image]) -> Batch:
    """Encode whole texts, padded on the right, and mark which tokens are answer and which rationale.

    A text is tokenised as one string and its tokens get their roles by character position, so that
    tokens are the ones the model meets when it reads the text, whatever the tokenizer merges.

    Returns:
        What the processor gives, plus `answer_mask` and `rationale_mask`: bool, shape (rows, longest),
        true where the token itself (not its predecessor) is part of the answer or rationale.
    """
    batch = _process(prompts, ["".join(p.text for p in row) for row in rows], images, padding_side="right")
    batch.pop("labels", None)  # PaliGemma's processor makes its own
    masks = {role: torch.zeros_like(batch["input_ids"], dtype=torch.bool) for role in Role}
    for index, row in enumerate(rows):
        _, tail, roles = split_tokens(prompts, row)
        end = int(batch["attention_mask"][index].sum())
        if batch["input_ids"][index, end - len(tail) : end].tolist() != tail:
            raise ModelError(
                "The processor's tokens after the picture are not the tokenizer's.",
                why="Answer and rationale could not be told from the prompt, so training would be wrong.",
                todo="Choose another base model, or report this one to us.",
            )
        for role in Role:
            masks[role][index, end - len(tail) : end] = torch.tensor([r is role for r in roles])
    return {**batch, "answer_mask": masks[Role.ANSWER], "rationale_mask": masks[Role.RATIONALE]}


def _process(
    prompts: Prompts, texts: Sequence[str], images: Sequence[Image.Image], padding_side: str
) -> Batch:
    # Chat models may take several pictures for each text and want a list for each.
    pictures = [[image] for image in images] if prompts.chat else list(images)
    try:
        encoded: Any = prompts.processor(
            text=list(texts),
            **({"images": pictures} if prompts.pictured else {}),
            padding=True,
            padding_side=padding_side,
            add_special_tokens=prompts.add_special_tokens,
            return_tensors="pt",
        )
    except ValueError as error:
        if not prompts.pictured:  # whoever leaves the picture out asks whether that can be done
            raise
        raise TaskError(
            f"The base model's processor refuses a picture or its text: {error}",
            todo="Look at the task's picture: cut or scale it to usual sizes.",
        ) from error
    return dict(encoded)


def tokens_with_ends(prompts: Prompts, text: str) -> tuple[list[int], list[int]]:
    """Token ids of a whole text and, for each, the character position at which it ends.

    The picture's placeholder stays one token: it is the processor that makes many of it.
    """
    encoded = prompts.processor.tokenizer(
        text, add_special_tokens=prompts.add_special_tokens, return_offsets_mapping=True
    )
    return list(encoded["input_ids"]), [end for _, end in encoded["offset_mapping"]]


def split_tokens(prompts: Prompts, row: Sequence[Piece]) -> tuple[list[int], list[int], list[Role]]:
    """The tokenizer's tokens of a whole text, cut where its first piece ends, which holds the picture.

    A token that straddles two pieces belongs to the later one: it is where that one's words begin.

    Returns:
        The first piece's tokens, the picture's placeholder still one of them; the others; their roles.
    """
    ends: list[tuple[int, Role]] = []
    position = 0
    for piece in row:
        position += len(piece.text)
        ends.append((position, piece.role))
    start = ends[0][0]
    tokens, stops = tokens_with_ends(prompts, "".join(piece.text for piece in row))
    head = [token for token, stop in zip(tokens, stops, strict=True) if stop <= start]
    tail = [(token, stop) for token, stop in zip(tokens, stops, strict=True) if stop > start]
    roles = [next(role for end, role in ends if stop <= end) for _, stop in tail]
    return head, [token for token, _ in tail], roles
