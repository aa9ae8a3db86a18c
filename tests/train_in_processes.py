"""One process of a run under `torchrun`: `python -m torch.distributed.run ... train_in_processes.py TOLD`.

TOLD is a JSON file with the rows, their pictures, the configuration and the folder for the results.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from illume_plugin.base_model import load_base_model
from illume_plugin.embedded import base_model_path
from illume_plugin.training import TrainConfig
from illume_plugin.training.trainer import train_adapter
from illume_plugin.types import TrainingRow, TrainingSet


def main(told: dict[str, Any]) -> None:
    """Train; the first process writes the adapter and the losses."""
    out, rank = Path(told["out"]), os.environ["RANK"]
    losses: list[float] = []
    base = load_base_model(base_model_path(), device="cpu")
    train_adapter(
        base,
        "new",
        TrainingSet(1, tuple(TrainingRow(**row) for row in told["rows"]), held_out=(), content_hash=""),
        {name: Path(path) for name, path in told["images"].items()},
        TrainConfig.from_json(told["config"]),
        parent=None,
        scratch=out / "scratch" / rank,
        progress=lambda _step, _steps, loss, _eta: losses.append(loss),
    )
    if rank == "0":
        base.adapters.save("new", out / "adapter")
        (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
