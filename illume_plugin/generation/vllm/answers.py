"""What a vLLM server answers, as our own records. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn text as tokens, the end token last, and log P of each."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One drawn text.

    Attributes:
        ended: whether the model ended it itself.
        drawn: its tokens; None where the server did not tell them.
    """

    text: str
    ended: bool
    drawn: Drawn | None


def choices(answer: Mapping[str, Any]) -> list[Choice]:
    """The texts of one answer to a chat, in the order of their seeds."""
    ordered = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    return [
        Choice(
            text=str(choice["message"]["content"] or "").strip(),
            ended=choice["finish_reason"] == "stop",
            drawn=_drawn(choice.get("token_ids"), choice.get("logprobs")),
        )
        for choice in ordered
    ]


def served(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """What is served by name: for an adapter the name of its base model, for a base model None."""
    return {str(one["id"]): one.get("parent") for one in answer["data"]}


def _drawn(tokens: Sequence[int] | None, logprobs: Mapping[str, Any] | None) -> Drawn | None:
    values = tuple(float(one["logprob"]) for one in (logprobs or {}).get("content") or ())
    return Drawn(tuple(tokens), values) if tokens and len(tokens) == len(values) else None
