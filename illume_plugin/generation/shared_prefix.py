"""Attention in which all rows of a task read one copy of its prompt's keys and values.

Candidates of one task differ only behind the prompt. A decoding step therefore needs the prompt's keys and
values once per task, not once per row: the rows of a task are folded into the query length for one dense
product with the prompt (cascade attention, as in Hydragen, arXiv 2402.05099), and each row's own suffix is
attended beside it. Both score matrices go through one softmax, so the result is ordinary attention.

It works through two public seams of transformers, so that every architecture keeps its own forward pass,
rotary positions, grouped heads and soft caps: a `Cache` that keeps the suffixes, and an entry in
`AttentionInterface` that is switched on while rows are decoded. Columns are counted as transformers counts
them: padding on the left included, which is what a sliding window slides over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from illume_plugin.generation.slots import Slots

#: Name under which transformers finds our attention. No mask function belongs to it: it makes its own.
ATTENTION = "illume_shared_prefix"

#: Columns that a suffix has room for at first; it doubles when they are used up.
FIRST_ROOM = 16

#: Arguments of attention functions that change the result in ways we do not compute.
_NOT_OURS = ("s_aux", "position_bias", "head_mask")

_active: ContextVar[SharedPrefixCache] = ContextVar("active shared-prefix cache")


class PrefixUnsupported(RuntimeError):  # noqa: N818 - a reason, told in the engine's mode
    """This model cannot be decoded with a shared prefix; the message says why."""


class SharedPrefixLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's prompt keys and values per task and suffix keys and values per row.

    Args:
        prompt: what this layer's cache held after the prompts were computed.
        padding: additive mask of the prompts' columns, shape (tasks, columns), None where nothing is padded.
        slots: the rows.
    """

    is_sliding = False

    def __init__(self, prompt: DynamicLayer, padding: torch.Tensor | None, slots: Slots) -> None:
        super().__init__()
        self.is_initialized = True
        self.prompt_length = prompt.get_seq_length()
        self.window: int | None = getattr(prompt, "sliding_window", None)
        # A processor without half-precision products is faster in single precision, and never less exact.
        kind = torch.float32 if prompt.keys.device.type == "cpu" else prompt.keys.dtype
        self.prompt_keys, self.prompt_values = prompt.keys.to(kind), prompt.values.to(kind)
        held = prompt.keys.shape[-2]
        self.padding = None if padding is None else padding[:, None, None, -held:]
        self.slots, self.length = slots, 0
        shape = (*self.prompt_keys.shape[:2], slots.per_task)
        # Columns last: products of few rows with keys that lie as columns take a fifth of the time.
        self.suffix_keys = self.prompt_keys.new_empty((*shape, self.prompt_keys.shape[-1], FIRST_ROOM))
        self.suffix_values = self.prompt_values.new_empty((*shape, FIRST_ROOM, self.prompt_values.shape[-1]))

    def keep(self, slots: Slots) -> None:
        """Go on with the rows of `slots`, which were kept from the slots so far."""
        self.slots = slots
        self.suffix_keys = _moved(self.suffix_keys, slots)
        self.suffix_values = _moved(self.suffix_values, slots)
        if (tasks := slots.kept_tasks) is not None:
            self.prompt_keys, self.prompt_values = self.prompt_keys[tasks], self.prompt_values[tasks]
            self.padding = None if self.padding is None else self.padding[tasks]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep one new column of each row, shape (rows, heads, 1, width)."""
        if self.length == self.suffix_keys.shape[-1]:
            self.suffix_keys = torch.cat([self.suffix_keys, torch.empty_like(self.suffix_keys)], dim=-1)
            self.suffix_values = torch.cat([self.suffix_values, torch.empty_like(self.suffix_values)], dim=-2)
        self.suffix_keys[..., self.length] = self.slots.fold(key_states[:, :, 0])
        self.suffix_values[..., self.length, :] = self.slots.fold(value_states[:, :, 0])
        self.length += 1
        return key_states, value_states

    def attend(self, query: torch.Tensor, scaling: float, softcap: float | None) -> torch.Tensor:
        """Attention of each row's newest token, after `update`.

        Args:
            query: shape (rows, query heads, 1, width).

        Returns:
            Shape (rows, 1, query heads, width).
        """
        rows, query_heads, _, width = query.shape
        tasks, heads = self.prompt_keys.shape[:2]
        repeats = query_heads // heads
        per_task = self.slots.per_task
        # (tasks, heads, slots of a task, repeats, width): a task's rows side by side, ready for one product
        folded = self.slots.fold((query * scaling).reshape(rows, heads, repeats * width))
        folded = folded.to(self.prompt_keys).reshape(tasks, heads, per_task, repeats, width)
        first, start = self._visible()
        keys, values = self.prompt_keys[:, :, first:], self.prompt_values[:, :, first:]
        suffix = slice(start, self.length)
        of_prompt = folded.flatten(2, 3) @ keys.transpose(-1, -2)
        of_suffix = folded @ self.suffix_keys[..., suffix]
        scores = torch.cat([of_prompt, of_suffix.flatten(2, 3)], dim=-1)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if self.padding is not None:
            scores[..., : keys.shape[-2]] += self.padding[..., first:]
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        read = weights[..., keys.shape[-2] :].view(*folded.shape[:-1], -1)
        read = read @ self.suffix_values[..., suffix, :]
        read += (weights[..., : keys.shape[-2]] @ values).view_as(read)
        found = self.slots.unfold(read.flatten(-2))
        return found.to(query.dtype).reshape(rows, 1, query_heads, -1)

    def _visible(self) -> tuple[int, int]:
        """First prompt column (of those held) and first suffix column that the newest token may read."""
        if self.window is None:
            return 0, 0
        first = self.prompt_length + self.length - self.window
        held = self.prompt_keys.shape[-2]
        gone = self.prompt_length - held
        return min(max(first - gone, 0), held), max(first - self.prompt_length, 0)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: a layer is made from computed prompts."""

    def get_seq_length(self) -> int:
        """Columns so far: prompt and suffix."""
        return int(self.prompt_length + self.length)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As if prompt and suffix were one sequence."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


class SharedPrefixCache(Cache):  # type: ignore[misc]
    """Every layer's shared prompt and the suffixes of the rows.

    Args:
        prompts: the cache after the prompts were computed, one row per task.
        padding: the prompts' attention mask, shape (tasks, columns), true where something is written; None
            where that is everywhere.
        slots: the rows.

    Raises:
        PrefixUnsupported: a layer keeps something else than keys and values of each column.
    """

    def __init__(self, prompts: Cache, padding: torch.Tensor | None, slots: Slots) -> None:
        for layer in prompts.layers:
            if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) or layer.keys is None:
                raise PrefixUnsupported(f"its cache has a layer of type {type(layer).__name__}")
        bias = None
        if padding is not None and not padding.all():
            bias = torch.zeros(padding.shape, dtype=torch.float32, device=padding.device)
            bias.masked_fill_(~padding.bool(), -torch.inf)
        super().__init__(layers=[SharedPrefixLayer(layer, bias, slots) for layer in prompts.layers])

    def keep(self, slots: Slots) -> None:
        """Go on with the rows of `slots`, which were kept from the slots so far."""
        for layer in self.layers:
            layer.keep(slots)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    _key: torch.Tensor,
    _value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The entry of `AttentionInterface`: attention of one new token per row with the active cache.

    Keys, values and mask are the cache's own; what a model hands over are the newest token's.

    Raises:
        PrefixUnsupported: the model asks for something that is not computed here.
    """
    if asked := [name for name in _NOT_OURS if others.get(name) is not None]:
        raise PrefixUnsupported(f"its attention uses {asked[0]}")
    if query.shape[2] != 1:
        raise PrefixUnsupported(f"it attends {query.shape[2]} new tokens at once")
    layer = _active.get().layers[module.layer_idx]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layer.attend(query, scale, softcap), None


AttentionInterface.register(ATTENTION, attention)


@contextmanager
def shared_attention(model: Any, cache: SharedPrefixCache) -> Iterator[None]:
    """Let the text model of `model` attend with `cache`.

    Raises:
        PrefixUnsupported: the model does not look its attention up.
    """
    text = model.config.get_text_config(decoder=True)
    before = text._attn_implementation
    key = next((key for key in model.config.sub_configs if getattr(model.config, key, None) is text), "")
    if "chunked_attention" in (getattr(text, "layer_types", None) or ()):
        raise PrefixUnsupported("its attention is chunked")
    token = _active.set(cache)
    model.set_attn_implementation({key: ATTENTION})
    try:
        if text._attn_implementation != ATTENTION:
            raise PrefixUnsupported("its text model does not use transformers' attention interface")
        yield
    finally:
        model.set_attn_implementation({key: before})
        _active.reset(token)


def _moved(suffix: torch.Tensor, slots: Slots) -> torch.Tensor:
    moved = suffix.transpose(1, 2).flatten(0, 1)[slots.kept]
    return moved.view(slots.tasks, slots.per_task, *moved.shape[1:]).transpose(1, 2).contiguous()
