"""Matrix products with weights that were laid out for them beforehand, on Intel's library.

Multiplying a few dozen rows by a weight matrix, MKL copies the matrix into the order in which its kernel
reads it, each time anew: with two threads, 25 rows and weights of 576 x 1536 it reached 46 GFLOPS, and 127
with the copy made once; with 250 rows 208 and 260, from about 800 rows on there is no difference. The numbers
are the same up to rounding. A copy takes the memory of its weights once more, so it is made of what fits
into a share of the memory that is free; layers beyond multiply with their operands swapped (y' = W x'), which
is split among threads by outputs instead of rows and reaches 87 GFLOPS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import psutil
import torch

#: Share of the memory available when a model is first used that copies of its weights may take.
SHARE = 1 / 4

#: Rows that the copies are laid out for; the order suits fewer and more rows as well (measured: 1 to 800).
ROWS = 256

#: Fewer rows than this are multiplied with the operands swapped where there is no copy.
MANY = 64

#: Weights smaller than this gain less than the detour costs.
SMALL = 1 << 14

Forward = Callable[[torch.Tensor], torch.Tensor]


class _Copy(NamedTuple):
    """The copy of some weights, None where there was no room; and what tells that they are still the same."""

    address: int
    version: int
    packed: torch.Tensor | None


#: Copies live as long as their layers; a model is used by one thread at a time.
_copies: WeakKeyDictionary[torch.nn.Linear, _Copy] = WeakKeyDictionary()


@contextmanager
def packed_products(model: torch.nn.Module) -> Iterator[None]:
    """Let the linear layers of `model` multiply the fast way, where there is one. Without gradients only.

    The first time for a model takes about as long as reading its weights five times.
    """
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and _gains(one)]
    room = _room(model) if any(_known(layer) is None for layer in layers) else 0
    for layer in layers:
        copy = _known(layer)
        if copy is None:  # decided once: asked anew each time, copies would end up taking all memory
            fits = layer.weight.nbytes <= room
            room -= layer.weight.nbytes if fits else 0
            copy = _copies[layer] = _Copy(*_identity(layer.weight), _packed(layer) if fits else None)
        layer.forward = _swapped(layer) if copy.packed is None else _multiplied(layer, copy.packed)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _gains(layer: torch.nn.Linear) -> bool:
    return (
        torch._C.has_mkl
        and type(layer).forward is torch.nn.Linear.forward
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= SMALL
        and layer.weight.is_contiguous()
        and not layer.weight.is_inference()  # their changes are not counted, so a copy could be stale
        and "forward" not in vars(layer)  # somebody else's hook is there already, or we are
    )


def _room(model: torch.nn.Module) -> float:
    """Bytes that new copies may take: none while the model is trained, whose steps need the memory."""
    return 0 if any(one.requires_grad for one in model.parameters()) else SHARE * _available()


def _known(layer: torch.nn.Linear) -> _Copy | None:
    """The copy of a layer's weights as they are now."""
    copy = _copies.get(layer)
    same = copy is not None and (copy.address, copy.version) == _identity(layer.weight)
    return copy if same else None


def _identity(weight: torch.Tensor) -> tuple[int, int]:
    return weight.data_ptr(), weight._version


def _packed(layer: torch.nn.Linear) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkl._mkl_reorder_linear_weight(layer.weight.detach(), ROWS)
    return packed


def _multiplied(layer: torch.nn.Linear, packed: torch.Tensor) -> Forward:
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()

    def forward(given: torch.Tensor) -> torch.Tensor:
        rows = given.numel() // layer.in_features
        # The last argument tells for how many rows the copy is: any, see ROWS. Else it would not be used.
        product: torch.Tensor = torch.ops.mkl._mkl_linear(given, packed, weight, bias, rows)
        return product

    return forward


def _swapped(layer: torch.nn.Linear) -> Forward:
    def forward(given: torch.Tensor) -> torch.Tensor:
        rows = given.reshape(-1, layer.in_features)
        if not 1 < len(rows) < MANY:
            return torch.nn.functional.linear(given, layer.weight, layer.bias)
        product = (layer.weight @ rows.t().contiguous()).t().contiguous()
        if layer.bias is not None:
            product += layer.bias
        return product.view(*given.shape[:-1], layer.out_features)

    return forward


def _available() -> float:
    """Bytes of memory that this process may still take."""
    free = float(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # a container's own limit, where it has one
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
    except OSError:
        return free
    return free if limit.strip() == "max" else min(free, float(limit) - float(used))
