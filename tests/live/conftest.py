"""A real Label Studio for the live tests: one per session, on loopback, with its data in a scratch folder."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import waitress
from conftest import SayingGenerator
from loopback import Loopback
from served_app import end

from backend.app import create_app
from backend.demo.bootstrap import personal_access_token
from backend.demo.labelstudio_server import LabelStudioServer
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.labelstudio import LabelStudio

USERNAME = "live@example.com"
PASSWORD = "live-tests-only"


@dataclass(frozen=True)
class LiveLabelStudio:
    """A running Label Studio with one user."""

    url: str
    username: str
    password: str
    token: str
    executable: Path
    folder: Path
    document_root: Path

    @contextmanager
    def door(self) -> Iterator[LabelStudio]:
        with LabelStudio(self.url, self.token, timeout_s=60) as door:
            yield door


def executable() -> Path:
    """The `label-studio` program. Its absence is a failure: a skipped live test proves nothing."""
    repository = Path(__file__).resolve().parents[2]
    found = Path(
        os.environ.get("LABEL_STUDIO_EXECUTABLE") or repository / ".venv-labelstudio/bin/label-studio"
    )
    if not found.is_file():
        pytest.fail(f"Label Studio is not installed at {found}: run make install")
    return found


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """An HTTP server on loopback whose routes the test sets."""
    server = Loopback()
    yield server
    server.close()


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLabelStudio]:
    """Started once (about a minute), stopped at the end."""
    folder = tmp_path_factory.mktemp("label-studio")
    server = LabelStudioServer(
        executable(), folder / "data", free_port(), folder / "files", USERNAME, PASSWORD
    )
    server.start()
    try:
        server.wait_until_ready(print)
        token = personal_access_token(server.url, USERNAME, PASSWORD, folder / "token")
        yield LiveLabelStudio(
            server.url, USERNAME, PASSWORD, token, server.executable, server.folder, server.document_root
        )
    finally:
        server.stop()


@pytest.fixture
def served(label_studio: LiveLabelStudio, tmp_path: Path) -> Iterator[Service]:
    """Our backend, listening, with a generator that needs no torch."""
    port = free_port()
    settings = load_settings(
        data_dir=tmp_path / "data",
        label_studio_url=label_studio.url,
        label_studio_token=label_studio.token,
        backend_url=f"http://127.0.0.1:{port}",
        port=port,
        predict_max_tasks=20,
        train_after=0,
    )
    service = Service(settings)
    service.engine._generator = SayingGenerator()
    server = waitress.create_server(create_app(settings, service=service), host="127.0.0.1", port=port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield service
    end(server, thread)
    service.close()


@pytest.fixture
def door(served: Service) -> LabelStudio:
    """The client that the served backend uses."""
    assert served.label_studio is not None
    return served.label_studio
