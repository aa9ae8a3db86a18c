"""One process of a run under `torchrun`: `python -m torch.distributed.run ... train_in_processes.py RUN`.

RUN is a folder with a spec.json; the adapter and the losses are written there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from illume_plugin.base_model import load_base_model
from illume_plugin.training import read_spec
from illume_plugin.training.trainer import train_adapter


def main(run: Path) -> None:
    """Train; the first process writes the adapter and the losses."""
    spec, rank = read_spec(run), os.environ["RANK"]
    losses: list[float] = []
    base = load_base_model(spec.base_model, device="cpu")
    train_adapter(
        base,
        "new",
        spec.training_set,
        {name: Path(path) for name, path in spec.images.items()},
        spec.config,
        parent=None,
        scratch=run / "scratch" / rank,
        progress=lambda _step, _steps, loss, _eta: losses.append(loss),
    )
    if rank == "0":
        base.adapters.save("new", run / "adapter")
        (run / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
