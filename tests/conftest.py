"""Fixtures for every test: an isolated environment, and a backend whose generator needs no torch."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from flask.testing import FlaskClient
from PIL import Image

if os.environ.get("ILLUME_TESTS_WITHOUT_LABEL_STUDIO_ML"):
    sys.modules["label_studio_ml"] = None  # type: ignore[assignment]

from sayings import SayingGenerator

import label_config
from backend.app import create_app
from backend.service import Service
from backend.settings import BASIC_USER, Settings, load_settings
from illume_plugin.store import Store, projects
from illume_plugin.types import Task

if TYPE_CHECKING:
    from postgresql import Server

# A slow machine is no failure: neither a deadline for an example nor one for drawing it.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

PAYLOADS = Path(__file__).parent / "payloads"
SELECT = label_config.read("select")
SECRET = "a-secret-for-tests"
#: Variables for the tests themselves.
KEPT = {"LABEL_STUDIO_EXECUTABLE", "ILLUME_SCREENSHOTS", "ILLUME_CONFIG", "ILLUME_TEST_POSTGRESQL"}
#: Marks tests that run on an SQLite file and on a real PostgreSQL server.
both_stores = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


def recorded(name: str) -> dict[str, Any]:
    """One recorded request of Label Studio, by the number its file begins with."""
    (path,) = PAYLOADS.glob(f"{name}_*.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's shell or folder reaches a test."""
    for name in list(os.environ):
        if name.startswith(("ILLUME_", "LABEL_STUDIO_")) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class OnePicture:
    """Every picture is the same small file, but for those that are said to be missing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "picture.png"
        Image.new("RGB", (8, 8), (200, 30, 30)).save(self.path)

    def fetch(self, task: Task) -> Path:
        from illume_plugin.errors import ImageError

        if "missing" in task.image:
            raise ImageError(f"{task.image} is missing.", todo="Upload it again.")
        return self.path


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database: copying it takes a millisecond, migrating again and again does not."""
    path = tmp_path_factory.mktemp("migrated") / "illume.sqlite3"
    store = Store(f"sqlite:///{path}")
    store.migrate()
    store.close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server with the migrated, empty database that the others are copies of."""
    if os.environ.get("ILLUME_TEST_POSTGRESQL") == "skip":
        pytest.skip("ILLUME_TEST_POSTGRESQL=skip")
    from postgresql import PostgresqlMissingError, Server, program

    try:
        program("postgres")
    except PostgresqlMissingError as missing:
        pytest.fail(str(missing), pytrace=False)
    with Server() as server:
        store = Store(server.create_template())
        store.migrate()
        store.close()
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a migrated, empty database: an SQLite file, or for tests marked `both_stores` either."""
    if getattr(request, "param", "sqlite") == "sqlite":
        path = tmp_path / "data" / "illume.sqlite3"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(request.getfixturevalue("_migrated"), path)
        yield f"sqlite:///{path}"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create(migrated=True)
    yield url
    server.drop(url)


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    return load_settings(data_dir=tmp_path / "data", database_url=database, secret=SECRET, train_after=0)


@pytest.fixture
def generator() -> SayingGenerator:
    return SayingGenerator()


@pytest.fixture
def service(settings: Settings, generator: SayingGenerator, tmp_path: Path) -> Iterator[Service]:
    service = Service(settings)
    service.engine._generator = generator
    service.images = OnePicture(tmp_path)
    service.sampler.images = service.images
    yield service
    service.close()


@pytest.fixture
def client(settings: Settings, service: Service) -> FlaskClient:
    """A client that shows the secret as Label Studio's ML connector does."""
    client = create_app(settings, service=service).test_client()
    credentials = base64.b64encode(f"{BASIC_USER}:{SECRET}".encode()).decode()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Basic {credentials}"
    return client


@pytest.fixture
def stranger(settings: Settings, service: Service) -> FlaskClient:
    """A client without the secret."""
    return create_app(settings, service=service).test_client()


@pytest.fixture
def connected(service: Service) -> int:
    """Project 2, connected with select.xml."""
    with service.store.write() as conn:
        projects.put(conn, 2, title="test", label_config=SELECT, now=1.0)
    return 2


def task(task_id: int, **data: Any) -> dict[str, Any]:
    """A task as Label Studio sends it."""
    fields = {"image": f"/data/upload/2/{task_id}.png", "question": "what is it?", "answer": "a dog"}
    return {"id": task_id, "project": 2, "data": {**fields, **data}}
