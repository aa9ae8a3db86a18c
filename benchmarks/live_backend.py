"""The real backend in a process of its own, as `illume serve` runs it, with tasks, pictures and adapters.

No Label Studio is needed: a server of pictures stands where Label Studio would serve the uploads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from backend_process import backend_process, free_port
from peft import LoraConfig

import label_config
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.base_model import load_base_model
from illume_plugin.embedded import WorldTask, base_model_path, draw, make_tasks
from illume_plugin.store import projects
from illume_plugin.training.lora import language_layers
from illume_plugin.types import BASE_VERSION

PROJECT, SECRET = 1, "only-for-benchmarks"
#: Different tasks; numbers beyond them begin again, with a picture address of their own.
TASKS, SIDE_PX = 200, 240
LORA_RANK = 16


@dataclass(frozen=True)
class LiveBackend:
    """A backend that answers.

    Attributes:
        service: of this process, on the same data folder: for the verbs that a worker or a person uses.
        url: of the backend.
        pid: of its process.
    """

    service: Service
    url: str
    pid: int

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.url.rpartition(":")[2])

    def switch(self, version: str) -> None:
        """Let `version` serve from now on, as another process would promote it."""
        self.service.switch(PROJECT, version, reason="benchmark")


def task_data(number: int, tasks: Sequence[WorldTask]) -> dict[str, Any]:
    """The data of the task with this number."""
    task = tasks[number % len(tasks)]
    return {
        "image": f"/data/upload/{PROJECT}/{number}.png",
        "question": task.question_text,
        "answer": task.answer,
    }


def world() -> list[WorldTask]:
    """The tasks that are asked about."""
    return make_tasks(TASKS, seed=5)


@contextmanager
def live_backend(
    folder: Path, tasks: Sequence[WorldTask], *, adapters: int, worker: bool = False, **more: Any
) -> Iterator[LiveBackend]:
    """A backend with one connected project and `adapters` published versions, v0001 and on.

    Args:
        folder: for its data; empty.
        worker: run the worker in it as well.
        more: settings that are to be other than usual.
    """
    with pictures(tasks) as address:
        given = {
            "data_dir": folder / "data",
            "secret": SECRET,
            "port": free_port(),
            "label_studio_url": address,
            "train_after": 0,
            **more,
        }
        service = Service(load_settings(**given))
        try:
            with service.store.write() as conn:
                projects.put(
                    conn, PROJECT, title="benchmark", label_config=label_config.read("select"), now=1
                )
            publish(service, adapters)
            with backend_process(given, folder / "backend.log", worker=worker) as process:
                yield LiveBackend(service, f"http://127.0.0.1:{given['port']}", process.pid)
        finally:
            service.close()


def publish(service: Service, count: int) -> None:
    """Publish adapters that change the base model a little, each in another way."""
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        layers = language_layers(model)
    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=layers, task_type="CAUSAL_LM")
    for number in range(1, count + 1):
        name, staged = f"a{number}", service.settings.data_dir / f"staged-{number}"
        base.adapters.create(name, config)
        noise = torch.Generator().manual_seed(number)
        with base.adapters.training(name) as model:
            for weight_name, weight in model.named_parameters():
                if f"lora_B.{name}." in weight_name:
                    weight.data = torch.randn(weight.shape, generator=noise) * 0.02
        base.adapters.save(name, staged)
        service.registry.publish(
            PROJECT,
            staged,
            parent=BASE_VERSION,
            base_model="embedded",
            base_model_hash=base.fingerprint,
            training_set="none: noise for a benchmark",
            config={"r": LORA_RANK},
            seed=number,
            metrics={},
            versions={},
        )


@contextmanager
def pictures(tasks: Sequence[WorldTask]) -> Iterator[str]:
    """A server of the tasks' pictures on loopback; gives its address."""
    files = []
    for task in tasks:
        file = BytesIO()
        draw(task.scene, SIDE_PX).save(file, format="PNG")
        files.append(file.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pictures, files))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="pictures", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Pictures(BaseHTTPRequestHandler):
    """Answers /data/upload/1/207.png with the picture of task 207."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files: Sequence[bytes], *args: Any) -> None:
        self._files = files
        super().__init__(*args)

    def do_GET(self) -> None:
        number = Path(self.path).stem
        if not number.isdecimal():
            self.send_error(404)
            return
        body = self._files[int(number) % len(self._files)]
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
