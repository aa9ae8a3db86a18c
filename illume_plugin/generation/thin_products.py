"""Matrix products of a few rows on a processor, the other way round.

A decoding step multiplies a few dozen rows by each weight matrix. Intel's library splits such a product
among threads by rows, so that every thread reads the whole matrix: with two threads, 25 rows and weights of
576 x 1536 it reached 22 GFLOPS per second of processor time, and 50 with the operands swapped (y' = W x'),
which it splits by outputs. From 64 rows on there is no difference; in half precision another library does
the work. What one thread gains is little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

#: From this many rows on, the usual way is as fast.
MANY = 64

#: Weights smaller than this are read from the cache either way.
SMALL = 1 << 17


@contextmanager
def thin_products(model: torch.nn.Module) -> Iterator[None]:
    """Let the large linear layers of `model` multiply a few rows the fast way, where there is one."""
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    layers = [layer for layer in linear if _gains(layer)]
    for layer in layers:
        layer.forward = _swapped(layer)  # type: ignore[assignment, method-assign]
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
        and "forward" not in vars(layer)  # somebody else's hook is there already
    )


def _swapped(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(given: torch.Tensor) -> torch.Tensor:
        rows = given.reshape(-1, layer.in_features)
        if not 1 < len(rows) < MANY:
            return torch.nn.functional.linear(given, layer.weight, layer.bias)
        product = (layer.weight @ rows.t().contiguous()).t().contiguous()
        if layer.bias is not None:
            product += layer.bias
        return product.view(*given.shape[:-1], layer.out_features)

    return forward
