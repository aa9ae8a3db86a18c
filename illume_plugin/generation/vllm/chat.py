"""Our prompts as a server's chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from illume_plugin.base_model import Prompts
from illume_plugin.base_model.prompts import Message

CHAT = "/v1/chat/completions"

#: A server fills gaps from the model's own generation settings; we draw from its plain distribution.
PLAIN = {
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def messages(ours: Sequence[Message], picture: str) -> list[dict[str, Any]]:
    """A chat of ours as the server takes it.

    Args:
        picture: a data URL; it stands where the chat has its picture.
    """
    return [
        {"role": message["role"], "content": [_part(part, picture) for part in message["content"]]}
        for message in ours
    ]


def blind_prompts(prompts: Prompts) -> Prompts:
    """The same prompts without the picture."""
    return replace(prompts, pictured=False)


def _part(part: dict[str, str], picture: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": picture}} if part["type"] == "image" else part
