"""The base model: loading it, its prompts, and the adapters that live beside each other on it."""

from illume_plugin.base_model.adapters import Adapters
from illume_plugin.base_model.encoding import encode_prompts, encode_rows, split_tokens, tokens_with_ends
from illume_plugin.base_model.loading import BaseModel, load_base_model, load_prompts
from illume_plugin.base_model.prompts import DEFAULT_WHY, Piece, Prompts, Role
from illume_plugin.images import open_picture as open_image

__all__ = [
    "DEFAULT_WHY",
    "Adapters",
    "BaseModel",
    "Piece",
    "Prompts",
    "Role",
    "encode_prompts",
    "encode_rows",
    "load_base_model",
    "load_prompts",
    "open_image",
    "split_tokens",
    "tokens_with_ends",
]
