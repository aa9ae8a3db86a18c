"""The random number generators that training draws from, as tensors: no pickles."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


def random_state() -> Tensors:
    """Where the generators of this process are: torch on every device, Python, NumPy."""
    _, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor(np.asarray(keys, dtype=np.int64)),
        "numpy_place": torch.tensor([int(place), int(has_gauss)]),
        "numpy_gauss": torch.tensor([float(cached)], dtype=torch.float64),
    }
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return state | {f"cuda{index}": each for index, each in enumerate(cuda)}


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """Put the generators back to where they were; those of devices that are not here are left out."""
    torch.set_rng_state(state["torch"])
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    place, has_gauss = state["numpy_place"].tolist()
    keys = state["numpy"].numpy().astype(np.uint32)
    whole: Any = ("MT19937", keys, place, has_gauss, float(state["numpy_gauss"][0]))
    np.random.set_state(whole)
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda{index}"], index)
