"""Who sees whom: attention masks of tries, made on the device from a few numbers for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from illume_plugin.training.traits import Traits
from illume_plugin.training.trie import Ints, RowTrie


@dataclass(frozen=True, slots=True)
class Sight:
    """What decides which tokens see each other, each of shape (sequences, tokens); see `RowTrie`.

    Attributes:
        blocks: None where nothing is seen in both directions.
    """

    ends: torch.Tensor
    depths: torch.Tensor
    blocks: torch.Tensor | None

    @classmethod
    def of(cls, tries: Sequence[RowTrie], longest: int) -> Sight:
        """Of several tries, padded on the right; what is padding sees itself and is seen by nobody else."""
        behind = np.arange(1, longest + 1)
        two_way = any(trie.blocks.any() for trie in tries)
        return cls(
            ends=_stacked([np.concatenate([trie.ends, behind[trie.size :]]) for trie in tries]),
            depths=_stacked([_padded(trie.depths, longest) for trie in tries]),
            blocks=_stacked([_padded(trie.blocks, longest) for trie in tries]) if two_way else None,
        )

    def to(self, device: torch.device) -> Sight:
        """The same on `device`."""
        blocks = None if self.blocks is None else self.blocks.to(device)
        return Sight(self.ends.to(device), self.depths.to(device), blocks)

    def masks(self, traits: Traits, dtype: torch.dtype) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive masks of shape (sequences, 1, tokens, tokens), which transformers takes as they are.

        One tensor, or one for each kind of layer where a model has several and takes them.
        """
        each = {kind: self.visible(window) for kind, window in traits.windows.items()}
        if len(each) == 1:
            return _additive(next(iter(each.values())), dtype)
        if traits.mask_per_kind:
            return {kind: _additive(visible, dtype) for kind, visible in each.items()}
        return _additive(self.visible(None), dtype)  # right where `Traits.sees_all`

    def visible(self, window: int | None) -> torch.Tensor:
        """Whether token i (second to last axis) sees token j (last), looking back at most `window` tokens."""
        order = torch.arange(self.ends.shape[1], device=self.ends.device)
        seen = (order[:, None] >= order) & (order[:, None] < self.ends[:, None])
        if window is not None:
            seen = seen & (self.depths[:, :, None] - self.depths[:, None] < window)
        if self.blocks is None:
            return seen
        return seen | ((self.blocks[:, :, None] == self.blocks[:, None]) & (self.blocks[:, None] > 0))


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # The lowest number and not minus infinity: what sees nothing would become NaN.
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def _stacked(rows: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows))


def _padded(values: Ints, longest: int) -> Ints:
    return np.pad(values, (0, longest - len(values)))
