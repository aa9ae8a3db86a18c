"""Computed prompts, and the batch of rows that continue them token by token."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache

from illume_plugin.generation.shared_prefix import PrefixUnsupported, SharedPrefixCache, shared_attention
from illume_plugin.generation.slots import Slots

#: What a continued row needs of `generate`'s arguments beside its cache. Pictures are in the prompt's keys.
_CONTINUED = ("position_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Prompts:
    """The computed prompts of several tasks.

    Attributes:
        ids: tokens, shape (tasks, columns), padded on the left.
        padding: true where a prompt is written, shape (tasks, columns); None where that is everywhere.
        logits: of the first new token, float32, shape (tasks, vocabulary).
        cache: keys and values of every column.
        continued: arguments of the next forward pass, one row per task.
    """

    ids: torch.Tensor
    padding: torch.Tensor | None
    logits: torch.Tensor
    cache: Cache
    continued: dict[str, torch.Tensor]

    @classmethod
    def compute(cls, model: Any, ids: torch.Tensor, model_kwargs: dict[str, Any]) -> Prompts:
        """One forward pass over the prompts, with the arguments that `generate` prepared."""
        inputs = model.prepare_inputs_for_generation(ids, is_first_iteration=True, **model_kwargs)
        outputs = model(**inputs, return_dict=True)
        updated = model._update_model_kwargs_for_generation(outputs, dict(model_kwargs))
        return cls(
            ids=ids,
            padding=model_kwargs.get("attention_mask"),
            logits=outputs.logits[:, -1].float(),
            cache=updated["past_key_values"],
            continued={key: updated[key] for key in _CONTINUED if updated.get(key) is not None},
        )


class Continuation:
    """Rows that continue prompts, the same number for each task at first.

    Attributes:
        logits: of the next token, float32, shape (rows, vocabulary).
        prompt_ids: tokens of each row's prompt, shape (rows, columns).
    """

    def __init__(self, model: Any, prompts: Prompts, per_task: int, *, shared: bool) -> None:
        self._model = model
        self._slots = Slots([per_task] * len(prompts.ids), prompts.ids.device)
        task_of_row = self._slots.task_of_row()
        self.logits, self.prompt_ids = prompts.logits[task_of_row], prompts.ids[task_of_row]
        self._kwargs = _selected(prompts.continued, task_of_row)
        if not shared:
            self._cache = copy.deepcopy(prompts.cache)
            self._cache.reorder_cache(task_of_row)
        elif "position_ids" not in self._kwargs:
            raise PrefixUnsupported("it takes no positions from outside")
        else:
            self._cache = SharedPrefixCache(prompts.cache, prompts.padding, self._slots)
            self._kwargs.pop("attention_mask", None)  # the cache knows which columns are padding

    def attention(self) -> AbstractContextManager[None]:
        """The context in which `advance` works."""
        shared = isinstance(self._cache, SharedPrefixCache)
        return shared_attention(self._model, self._cache) if shared else nullcontext()

    def advance(self, tokens: torch.Tensor) -> None:
        """Append one token to each row, shape (rows,), and compute the next logits."""
        inputs = self._model.prepare_inputs_for_generation(
            tokens[:, None],
            next_sequence_length=1,
            past_key_values=self._cache,
            use_cache=True,
            **self._kwargs,
        )
        outputs = self._model(**inputs, return_dict=True)
        self.logits = outputs.logits[:, -1].float()
        updated = self._model._update_model_kwargs_for_generation(outputs, dict(self._kwargs))
        self._kwargs = {key: updated[key] for key in self._kwargs}

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, given by ascending index."""
        if isinstance(self._cache, SharedPrefixCache):
            self._slots = self._slots.keep(rows)
            self._cache.keep(self._slots)
        else:
            self._cache.reorder_cache(rows)
        self.prompt_ids = self.prompt_ids[rows]
        self._kwargs = _selected(self._kwargs, rows)


def _selected(kwargs: dict[str, torch.Tensor], rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """The arguments of these rows; positions of several dimensions have their rows second."""
    return {
        key: value.index_select(1 if key == "position_ids" and value.ndim == 3 else 0, rows)
        for key, value in kwargs.items()
    }
