"""The texts of a run as tokens, and which of them may share the reading of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from illume_plugin.base_model import Piece, Prompts, Role, split_tokens
from illume_plugin.examples import FeedbackExample
from illume_plugin.training.objectives.dress import hindsight
from illume_plugin.training.terms import Text

#: Rows with the same key may become one trie.
ShareKey = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """The tokenizer's part of a row: everything but what the processor makes of the picture.

    Attributes:
        prompt: text of the first piece, which holds the picture.
        head: tokens of `prompt`, the picture's placeholder still one of them.
        tail: all tokens behind, none of them of a picture.
        roles: the role of each token of `tail`.
        key: rows with the same key differ after the picture only (for models that read the prompt in both
            directions: after the prompt only).
    """

    row: Text
    prompt: str
    head: tuple[int, ...]
    tail: tuple[int, ...]
    roles: tuple[Role, ...]
    key: ShareKey


def pieces(prompts: Prompts, row: Text) -> list[Piece]:
    """The text of a row: with its rationale where it has one, otherwise question and answer alone."""
    if isinstance(row, FeedbackExample):
        return list(hindsight(prompts, row))
    if row.rationale is None:
        return prompts.answer_only(row.question, row.answer)
    return prompts.explained(row.question, row.answer, row.rationale)


def encode_row(prompts: Prompts, row: Text, *, two_way_prompt: bool) -> EncodedRow:
    """Tokenise a row.

    Args:
        two_way_prompt: whether the model reads the whole prompt in both directions (`Traits`).
    """
    text = pieces(prompts, row)
    head, tail, roles = split_tokens(prompts, text)
    shared = head if two_way_prompt else head[: _picture_end(prompts, head)]
    key = (row.image, tuple(shared))
    return EncodedRow(row, text[0].text, tuple(head), tuple(tail), tuple(roles), key)


def _picture_end(prompts: Prompts, head: Sequence[int]) -> int:
    """Tokens up to and with the picture's placeholder; all of them where it is not known."""
    placeholder = prompts.processor.tokenizer.convert_tokens_to_ids(
        getattr(prompts.processor, "image_token", None) or ""
    )
    places = [index for index, token in enumerate(head) if token == placeholder]
    return places[-1] + 1 if places else len(head)
