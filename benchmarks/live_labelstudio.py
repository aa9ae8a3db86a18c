"""A real Label Studio on loopback, with its data in a scratch folder, for the benchmarks that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend_process import free_port
from figures import LeftOutError

import label_config
from backend.demo.bootstrap import personal_access_token
from backend.demo.labelstudio_server import LabelStudioServer
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.labelstudio import LabelStudio
from illume_plugin.store import projects

USERNAME, PASSWORD = "benchmark@example.com", "for-benchmarks-only"
#: Label Studio sends an event for an import, with all that was imported in it: smaller pieces are kinder.
_AT_A_TIME = 5000
#: The flag that the demo sets, as `illume doctor` advises; without it each bulk request recounts the project.
FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"


@contextmanager
def live_labelstudio(folder: Path, *, as_installed: bool = False) -> Iterator[LabelStudio]:
    """One that answers, through our door.

    Args:
        as_installed: without the flag that makes bulk requests cheap in large projects.

    Raises:
        LeftOutError: Label Studio is not installed.
    """
    program = _program()
    server = LabelStudioServer(
        program,
        folder / "data",
        free_port(),
        folder / "files",
        USERNAME,
        PASSWORD,
        settings={FLAG: "false"} if as_installed else {},
    )
    server.start()
    try:
        server.wait_until_ready(lambda _: None)
        token = personal_access_token(server.url, USERNAME, PASSWORD, folder / "token")
        with LabelStudio(server.url, token, timeout_s=60) as door:
            yield door
    finally:
        server.stop()


def _program() -> Path:
    usual = Path(__file__).resolve().parents[1] / ".venv-labelstudio/bin/label-studio"
    found = Path(os.environ.get("LABEL_STUDIO_EXECUTABLE") or usual)
    if not found.is_file():
        raise LeftOutError(f"Label Studio is not installed at {found}: make install.")
    return found


@contextmanager
def connected(door: LabelStudio, folder: Path, token: str) -> Iterator[Service]:
    """Our service on that Label Studio, in this process, with a store of its own."""
    service = Service(load_settings(data_dir=folder, label_studio_url=door.url, label_studio_token=token))
    try:
        yield service
    finally:
        service.close()


def project_with(door: LabelStudio, title: str, tasks: Sequence[dict[str, Any]]) -> tuple[int, list[int]]:
    """A new project with these tasks; returns (its id, theirs)."""
    made = door.create_project(title, label_config.read("select"))
    ids: list[int] = []
    for begin in range(0, len(tasks), _AT_A_TIME):
        ids += door.import_tasks(made.project_id, tasks[begin : begin + _AT_A_TIME])
    return made.project_id, ids


def know(service: Service, project_id: int) -> None:
    """Connect the project, as far as the store is concerned."""
    config = label_config.read("select")
    with service.store.write() as conn:
        projects.put(conn, project_id, title="benchmark", label_config=config, now=1.0)


def task(number: int) -> dict[str, Any]:
    """Data of a task; nobody fetches its picture."""
    return {"image": f"/data/upload/1/{number}.png", "question": "what is it?", "answer": "a ball"}
