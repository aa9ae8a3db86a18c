"""One training run: a LoRA step in a child process. Importing this package does not load torch."""

from illume_plugin.training.config import TrainConfig
from illume_plugin.training.spec import RunResult, RunSpec, read_result, read_spec, write_spec

__all__ = ["RunResult", "RunSpec", "TrainConfig", "read_result", "read_spec", "write_spec"]
