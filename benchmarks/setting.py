"""Which figures a benchmark of speed takes, where and how long."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import click
import torch
from shapes import Shape

from illume_plugin.generation import SamplingPlan


@dataclass(frozen=True)
class Setting:
    """Where and how long everything is measured.

    Attributes:
        quick: a smaller piece of the same work, for a look.
        layers: of the text model; None: as many as the shape has.
    """

    device: str
    dtype: torch.dtype
    repeats: int
    layers: int | None
    plan: SamplingPlan
    quick: bool = False

    def sized(self, shape: Shape) -> Shape:
        """The shape with the layers of this setting."""
        return shape.with_layers(self.layers) if self.layers else shape


def usual_dtype(device: str) -> str:
    """bfloat16 where it is multiplied in hardware; elsewhere what our engine takes on a processor."""
    return "bfloat16" if device != "cpu" or torch.cpu._is_amx_tile_supported() else "float32"


def chosen(names: str, known: Collection[str]) -> list[str]:
    """The figures asked for, of those that there are.

    Raises:
        click.BadParameter: one of them is none.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}; there are {', '.join(known)}.")
    return wanted


def machine(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """What was measured on, and when."""
    cpu = device == "cpu"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": platform.processor() or platform.machine() if cpu else torch.cuda.get_device_name(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
