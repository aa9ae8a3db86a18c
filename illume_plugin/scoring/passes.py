"""Log-probabilities of candidates, three ways: as one tree, one after another, and as plain whole rows.

The first two read the prompt and its picture once and keep its keys and values. A tree is one sequence in
which every token sees the prompt and its own ancestors, at the position it has in its candidate; what several
candidates begin with is computed once and nothing is padded. All three give the same numbers up to rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import DynamicCache

from illume_plugin.base_model.packed_products import packed_products
from illume_plugin.scoring.branches import Batch
from illume_plugin.scoring.tree import Tokens, TokenTree, groups

#: Rows of logits turned into float32 at a time: a vocabulary may have 250,000 tokens.
LOGIT_ROWS = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt that the model has read.

    Attributes:
        position: rotary position of the token after the prompt.
        logits: what the model expects next, float32, shape (1, vocabulary).
    """

    cache: DynamicCache
    length: int
    position: int
    logits: torch.Tensor


def read_prompt(model: Any, prompt: Batch) -> Reading:
    """Run one prompt, shape (1, tokens), and keep its keys and values."""
    cache = DynamicCache()  # without the configuration: every layer keeps all, sliding windows are masks
    length = prompt["input_ids"].shape[1]
    # Pictures on a grid have positions in three dimensions, which only the model itself can count.
    gridded = "image_grid_thw" in prompt
    positions = {} if gridded else {"position_ids": _arange(0, length, prompt["input_ids"].device)}
    with packed_products(model):
        output = model(**prompt, **positions, past_key_values=cache, use_cache=True, **_keep_last(model, 1))
    shift = int(_inner(model).model.rope_deltas[0]) if gridded else 0
    return Reading(cache, length, length + shift, output.logits[0, -1:].float())


def tree_logprobs(
    model: Any, reading: Reading, candidates: Sequence[Tokens], *, tokens_at_a_time: int
) -> list[list[float]]:
    """log P of every token of every candidate, all of them computed together."""
    found: list[list[float]] = [[] for _ in candidates]
    for group in groups(candidates, tokens_at_a_time):
        some = [candidates[index] for index in group]
        for index, logprobs in zip(group, _tree(model, reading, TokenTree.of(some), some), strict=True):
            found[index] = logprobs
    return found


def chain_logprobs(model: Any, reading: Reading, candidates: Sequence[Tokens]) -> list[list[float]]:
    """The same, one candidate after another on the prompt that was read, with the model's own masks."""
    return [_tree(model, reading, TokenTree.of([one]), [one])[0] for one in candidates]


def plain_logprobs(model: Any, prompt: Batch, candidates: Sequence[Tokens]) -> list[list[float]]:
    """The same by whole rows: prompt, picture and candidate anew for each; what the others must equal."""
    found = []
    for tokens in candidates:
        row = _continued(model, prompt, tokens[:-1])
        logits = model(**row, use_cache=False, **_keep_last(model, len(tokens))).logits[0, -len(tokens) :]
        found.append(_picked(logits, list(range(len(tokens))), tokens))
    return found


def sliding_window(model: Any) -> int | None:
    """Tokens that the layers with the shortest sight can see; None where all see everything."""
    config = _inner(model).config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    return None if kinds and "sliding_attention" not in kinds else window


def _tree(model: Any, reading: Reading, tree: TokenTree, candidates: Sequence[Tokens]) -> list[list[float]]:
    firsts = _picked(reading.logits, [0] * len(candidates), [tokens[0] for tokens in candidates])
    if not tree.tokens:
        return [[first] for first in firsts]
    device = reading.logits.device
    size = len(tree.tokens)
    with packed_products(model):
        output = model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=_mask(model, reading.length, tree, device),
            position_ids=torch.tensor([tree.depths], device=device) + reading.position,
            past_key_values=reading.cache,
            use_cache=True,
        )
    reading.cache.crop(-size)  # the next group follows the prompt again
    nodes = [node for path in tree.paths for node in path[1:]]
    others = iter(_picked(output.logits[0], nodes, [t for tokens in candidates for t in tokens[1:]]))
    return [[first, *islice(others, len(path) - 1)] for first, path in zip(firsts, tree.paths, strict=True)]


def _mask(model: Any, length: int, tree: TokenTree, device: torch.device) -> torch.Tensor:
    """What each node sees, of the prompt and of the tree.

    A chain needs no more than the usual mask of ones, shape (1, length + nodes); a tree gets an additive
    mask of shape (1, 1, nodes, length + nodes), which transformers hands to the attention as it is.
    """
    size = len(tree.tokens)
    if tree.chain:
        return torch.ones(1, length + size, dtype=torch.long, device=device)
    dtype = _inner(model).dtype
    mask = torch.zeros(size, length + size, dtype=dtype)
    mask[:, length:].masked_fill_(~torch.from_numpy(tree.ancestors()), torch.finfo(dtype).min)
    return mask[None, None].to(device)


def _continued(model: Any, prompt: Batch, tokens: Tokens) -> Batch:
    """The prompt's row with `tokens` behind it."""
    # Of a token's type, 0 means ordinary text everywhere but in PaliGemma, where it means two-way attention.
    behind = {
        "input_ids": torch.tensor([tokens], dtype=torch.long),
        "attention_mask": torch.ones(1, len(tokens), dtype=torch.long),
        "token_type_ids": torch.full(
            (1, len(tokens)), int(_inner(model).config.model_type == "paligemma"), dtype=torch.long
        ),
        "mm_token_type_ids": torch.zeros(1, len(tokens), dtype=torch.long),
    }
    return {
        key: torch.cat([value, behind[key].to(value)], dim=1) if key in behind else value
        for key, value in prompt.items()
    }


def _picked(logits: torch.Tensor, rows: list[int], targets: Sequence[int]) -> list[float]:
    """log P of each target token by its row of `logits`, in float32."""
    norms = torch.cat([part.float().logsumexp(dim=-1) for part in torch.split(logits, LOGIT_ROWS)])
    where = torch.tensor(rows, device=logits.device)
    picked = logits[where, torch.tensor(targets, device=logits.device)].float() - norms[where]
    values: list[float] = picked.tolist()
    return values


def _arange(start: int, count: int, device: torch.device) -> torch.Tensor:
    return torch.arange(start, start + count, device=device)[None]


def _inner(model: Any) -> Any:
    """The model itself, out of its adapters' wrapping."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _keep_last(model: Any, count: int) -> dict[str, int]:
    """Ask for the last logits only, where the architecture can."""
    can = "logits_to_keep" in inspect.signature(_inner(model).forward).parameters
    return {"logits_to_keep": count} if can else {}
