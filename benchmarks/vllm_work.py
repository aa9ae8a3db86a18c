"""P1V: the work of P1 against vLLM on this processor, in its own environment and its own process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, Any

import shapes
import torch
from figures import Figure, LeftOutError, Timed, Times, clocked, in_turns, ratio
from generate_work import decoding, full, our_draws, what
from PIL import Image
from random_folder import save
from setting import Setting

GOAL = 2.0
#: Loading and one warming request: one to three minutes on a busy machine.
READY_WITHIN_S, ANSWER_WITHIN_S = 900.0, 600.0
PEER = Path(__file__).with_name("vllm_peer.py")
PYTHON = Path(__file__).parents[1] / ".venv-vllm/bin/python"


def against_vllm(setting: Setting) -> Figure:
    """P1V: vLLM's time over ours, a new picture in every repeat.

    vLLM gets one request with n=25, so that the prompt is computed once there as well: its prefix cache sees
    to that. A picture seen before would be answered from the same cache, so none comes twice; ours remembers
    nothing between two calls.

    Raises:
        LeftOutError: there is no vLLM, or the work is asked for on another device.
    """
    python = vllm_python(setting.device)
    shape = setting.sized(shapes.MEDIUM)
    with TemporaryDirectory(prefix="illume-p1v-") as name:
        folder = Path(name)
        model = shape.model(setting.dtype, setting.device)
        processor = save(model, shape, folder / "model")
        pictures = noise_pictures(folder, shape.tile)
        words, env = command(python, folder, shape, setting), environment(python, torch.get_num_threads())
        with torch.inference_mode(), obedient(words, folder / "vllm.log", env) as peer:
            mode = decoding(model, shape, setting)
            ours = our_timed(model, processor, shape, setting, noise_pictures(folder, shape.tile, seed=1))
            peers, own = in_turns(peer_timed(peer, pictures, setting), ours, setting.repeats)
    detail = {**what(model, shape, setting.plan), "mode": mode, "peer_versions": peer.versions}
    return ratio(peers, own, goal=GOAL, detail=detail)


def vllm_python(device: str) -> Path:
    """The Python that has vLLM.

    Raises:
        LeftOutError: there is none, or the work is asked for on another device.
    """
    if device != "cpu":
        raise LeftOutError(f"P1V compares on the processor; {device} was asked for.")
    python = Path(os.environ.get("VLLM_PYTHON") or PYTHON)
    if not python.is_file():
        raise LeftOutError(f"vLLM is not installed ({python.name} of .venv-vllm is missing): make vllm-test")
    return python


def noise_pictures(folder: Path, side: int, *, seed: int = 0) -> Iterator[Path]:
    """Pictures without end, each another one."""
    numbers = torch.Generator().manual_seed(seed)
    count = 0
    while True:
        pixels = torch.randint(0, 256, (side, side, 3), generator=numbers, dtype=torch.uint8)
        path = folder / f"{seed}-{count}.png"
        Image.fromarray(pixels.numpy()).save(path)
        count += 1
        yield path


def our_timed(
    model: Any, processor: Any, shape: shapes.Shape, setting: Setting, pictures: Iterator[Path]
) -> Timed:
    """Our draws, timed from the decoded picture on, as vLLM's are."""
    batch = shape.prompts(1, setting.dtype, setting.device)

    def work(picture: Image.Image) -> None:
        pixels = processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
        seen = {**batch, "pixel_values": pixels.to(dtype=setting.dtype)}
        full(our_draws(model, seen, setting.plan), setting.plan)

    def timed() -> Times:
        with Image.open(next(pictures)) as file:
            picture = file.convert("RGB")
        return clocked(lambda: work(picture))()

    return timed


def peer_timed(peer: Peer, pictures: Iterator[Path], setting: Setting) -> Timed:
    """The peer's draws, by its own stop watches."""

    def timed() -> Times:
        answer = peer.ask(next(pictures))
        full(answer["rows"], setting.plan)
        return {clock: float(answer[clock]) for clock in ("seconds", "cpu_seconds")}

    return timed


class Peer:
    """A process that obeys lines and answers each with a line of JSON; stopped while nobody asks.

    Args:
        process: leads a process group of its own; its first line is {"ready": versions}.
        obeys, answers: its stdin and stdout.
        log: what it says besides.
    """

    def __init__(self, process: int, obeys: IO[str], answers: IO[str], log: Path) -> None:
        self.process = process
        self._obeys = obeys
        self._log = log
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(answers,), name="answers", daemon=True).start()
        self.versions: dict[str, str] = self._next(READY_WITHIN_S)["ready"]
        self._stop()

    def ask(self, picture: Path) -> dict[str, Any]:
        """Have it do the work for a picture.

        Raises:
            RuntimeError: it ended, or answered nothing in time; the message has the end of its log.
        """
        self._signal(signal.SIGCONT)
        self._obeys.write(f"picture={picture}\n")
        self._obeys.flush()
        answer = self._next(ANSWER_WITHIN_S)
        self._stop()
        return answer

    def _stop(self) -> None:
        """An idle engine polls now and then; stopped, it takes nothing from ours. Waits until it is."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _read(self, answers: IO[str]) -> None:
        for line in answers:
            self._answers.put(line)
        self._answers.put("")

    def _next(self, within_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=within_s)
        except queue.Empty:
            line = ""
        if not line:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"vLLM gave no answer within {within_s:g} s or ended:\n{tail}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process, number)


@contextmanager
def obedient(words: Sequence[str], log: Path, env: Mapping[str, str]) -> Iterator[Peer]:
    """The process of a command, ready; ended with all that it started when the block ends."""
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=log.parent,
            env={**os.environ, **env},
            start_new_session=True,
        )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("The process has no pipes.")
    with process, process.stdin as obeys, process.stdout as answers:
        try:
            yield Peer(process.pid, obeys, answers, log)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def command(python: Path, folder: Path, shape: shapes.Shape, setting: Setting) -> list[str]:
    """The peer's command; -P: the modules beside the script are ours and not for it."""
    return [str(python), "-P", str(PEER), str(folder / "model"), *options(shape, setting)]


def options(shape: shapes.Shape, setting: Setting) -> list[str]:
    """The peer's command line: our plan, but with one temperature, as one request has."""
    ids = shape.prompts(1, torch.float32, "cpu")["input_ids"][0].tolist()
    prompt = [ids[0], shapes.IMAGE_TOKEN, *(one for one in ids[1:] if one != shapes.IMAGE_TOKEN)]
    plan = setting.plan
    given = {
        "--dtype": str(setting.dtype).removeprefix("torch."),
        "--rows": plan.size,
        "--tokens": plan.max_new_tokens,
        "--top-k": plan.top_k(shapes.VOCABULARY),
        "--temperature": median(plan.temperatures),
        "--prompt": json.dumps(prompt),
    }
    return [str(word) for option in given.items() for word in option]


def environment(python: Path, threads: int) -> dict[str, str]:
    """Of the peer: as many threads as ours has (it would leave one core to its scheduler), and the OpenMP
    library that it recommends, where that came with it."""
    openmp = python.parents[1] / "lib/libiomp5.so"
    preload = {"LD_PRELOAD": str(openmp), "KMP_BLOCKTIME": "5"} if openmp.is_file() else {}
    return preload | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
    }
