"""IllumeBackend as label-studio-ml sees it: without the package, under 1.0.9, and with 2.x's ways."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SELECT, recorded, task

from backend.model import IllumeBackend, LabelStudioMLBase, project_number
from backend.service import Service
from illume_plugin.errors import BadRequestError
from illume_plugin.store import events

TESTS = Path(__file__).parent


@pytest.fixture
def engine(service: Service, connected: int, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(IllumeBackend, "service", service)
    return service


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2),
        ("2", 2),
        ("2.1795304853", 2),
        ("", None),
        ("2x", None),
        ("-2", None),
        ("0", None),
        (0, None),
        (True, None),
        (None, None),
        ("²", None),
        ("9" * 40, None),
        ([2], None),
    ],
)
def test_project_numbers(value: Any, number: int | None) -> None:
    assert project_number(value) == number


def test_the_installed_label_studio_ml_is_really_the_base() -> None:
    # `make install` installs 1.0.9, so what these tests run is the real subclass
    assert LabelStudioMLBase.__module__ == "label_studio_ml.model"


def test_importing_it_neither_loads_torch_nor_changes_multiprocessing() -> None:
    code = (
        "import backend.model, sys, multiprocessing;"
        "assert 'torch' not in sys.modules;"
        "assert multiprocessing.get_start_method(allow_none=True) is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_same_contract_without_the_package() -> None:
    environment = {**os.environ, "ILLUME_TESTS_WITHOUT_LABEL_STUDIO_ML": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "recorded",
        str(TESTS / "test_protocol.py"),
    ]
    done = subprocess.run(
        command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def official(engine: Service, tmp_path: Path) -> Any:
    """The scaffold's own Flask app, made by label-studio-ml's init_app."""
    from label_studio_ml.api import init_app

    return init_app(IllumeBackend, model_dir=str(tmp_path)).test_client()


def test_under_the_official_init_app(official: Any) -> None:
    assert official.get("/health").get_json()["status"] == "UP"
    setup = {"project": "2.1", "schema": SELECT, "hostname": "http://localhost:8080", "access_token": "x"}
    assert official.post("/setup", json=setup).status_code == 200
    body = {**recorded("05")["body"], "label_config": SELECT, "tasks": [task(1), task(2)]}
    results = official.post("/predict", json=body).get_json()["results"]
    assert [len(item["result"][0]["value"]["text"]) for item in results] == [3, 3]
    assert {item["model_version"] for item in results} == {"v0000"}


def test_fit_takes_events_in_both_ways(engine: Service) -> None:
    body = dict(recorded("24")["body"])
    action = body.pop("action")
    backend = IllumeBackend.for_project(2, SELECT)
    assert backend.fit((), event=action, data=body, job_id="1", workdir="x") == {"stored": True}
    assert backend.fit(action, body) == {"stored": False}, "the same event again, as 2.x gives it"
    with engine.store.read() as conn:
        assert events.count(conn, 2) == 1


def test_fit_starts_training(engine: Service) -> None:
    answer = IllumeBackend.for_project(2, SELECT).fit("START_TRAINING", {"project": {"id": 2}})
    assert answer["new"] is True


def test_the_project_is_read_from_the_tasks_where_nobody_names_it(engine: Service) -> None:
    backend = IllumeBackend(label_config=SELECT)
    assert backend.predict([task(1)])[0]["result"]
    with pytest.raises(BadRequestError):
        IllumeBackend(label_config=SELECT).predict([{"id": 1, "data": {}}])


def test_with_the_constructor_of_2x(engine: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    # 2.x is not on the package index; this is the part of its base class that ours touches
    class Base2:
        def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
            self.project_id, self.label_config = project_id, label_config
            self.kept: dict[str, str] = {}
            self.setup()  # type: ignore[attr-defined]

        def set(self, key: str, value: str) -> None:
            self.kept[key] = value

    class Backend2(IllumeBackend, Base2):
        __init__ = Base2.__init__

    backend = Backend2(project_id="2", label_config=SELECT)
    assert backend.kept == {"model_version": "v0000"}
    assert backend.predict([{"id": 1, "data": task(1)["data"]}])[0]["result"]
