"""Two machines with one database and one store of adapters: what one makes, the other serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_stores import FIELDS, SharedStore, shared_store, staged
from conftest import SECRET, SELECT, OnePicture, SayingGenerator, task

from backend.app import create_app
from backend.presample import sample_ahead
from backend.service import Service
from backend.settings import SECRET_HEADER, load_settings
from backend.versions import State, collect, promote, standings
from illume_plugin.errors import ModelError, UnavailableError
from illume_plugin.store import projects

PROJECT = 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SharedStore]:
    with shared_store("file", tmp_path) as found:
        yield found


@pytest.fixture
def host(store: SharedStore, database: str, tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    """Gives a machine of a name: its own data folder and model, the database and the adapters of all."""
    services: list[Service] = []

    def made(name: str, adapters: str = store.address) -> Service:
        data_dir = store.data_dir(name)
        data_dir.mkdir()
        settings = load_settings(
            data_dir=data_dir, database_url=database, adapters=adapters, secret=SECRET, train_after=0
        )
        service = Service(settings)
        services.append(service)
        service.engine._generator = SayingGenerator()
        service.images = service.sampler.images = OnePicture(data_dir)
        return service

    yield made
    for service in services:
        service.close()


@pytest.fixture
def worker(host: Callable[[str], Service]) -> Service:
    """The machine that trains."""
    service = host("worker")
    with service.store.write() as conn:
        projects.put(conn, PROJECT, title="test", label_config=SELECT, now=1.0)
    return service


@pytest.fixture
def web(worker: Service, host: Callable[[str], Service]) -> Service:
    """The machine that Label Studio asks; it was there before any version was made."""
    return host("web")


def publish(service: Service, folder: Path, weights: bytes = b"weights") -> str:
    return service.registry.publish(PROJECT, staged(folder / "run", weights), **FIELDS).version


def ask(service: Service, task_id: int) -> tuple[int, dict[str, Any]]:
    """What a /predict call answers for a task: status, and the item or the problem."""
    client = create_app(service.settings, service=service).test_client()
    answer = client.post(
        "/predict",
        json={"project": f"{PROJECT}.1", "tasks": [task(task_id)]},
        headers={SECRET_HEADER: SECRET},
    )
    body = answer.get_json()
    return answer.status_code, body["results"][0] if "results" in body else body


def test_what_one_machine_made_another_one_serves(worker: Service, web: Service, tmp_path: Path) -> None:
    assert ask(web, 1)[1]["model_version"] == "v0000"
    assert web.versions(PROJECT) == ["v0000"]
    version = publish(worker, tmp_path)
    promote(worker, PROJECT, version, who="anna")

    status, item = ask(web, 2)
    assert (status, item["model_version"]) == (200, "v0001")
    assert "by p2-v0001" in str(item["result"]), "its own generator has loaded it"
    assert web.versions(PROJECT) == ["v0000", "v0001"]
    assert [one.state for one in standings(web, PROJECT)] == [State.SERVES]


def test_either_machine_promotes_what_the_other_one_made(
    worker: Service, web: Service, tmp_path: Path
) -> None:
    first, second = publish(worker, tmp_path), publish(web, tmp_path)
    assert (first, second) == ("v0001", "v0002")
    promote(web, PROJECT, first, who="anna")
    promote(worker, PROJECT, second, who="bert")
    for service, task_id in ((worker, 1), (web, 2)):
        assert ask(service, task_id)[1]["model_version"] == "v0002"
    assert web.rollback(PROJECT, reason="test") == ("v0002", "v0001")
    assert ask(worker, 3)[1]["model_version"] == "v0001"


def test_a_worker_elsewhere_samples_ahead(worker: Service, web: Service, tmp_path: Path) -> None:
    promote(web, PROJECT, publish(web, tmp_path), who="anna")
    with worker.store.write() as conn:
        projects.put_tasks(conn, PROJECT, [(task_id, task(task_id)["data"]) for task_id in (1, 2)])
        project = projects.get(conn, PROJECT)
    assert sample_ahead(worker, project) == 2
    assert ask(web, 2)[1]["model_version"] == "v0001"


def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    store: SharedStore, worker: Service, web: Service, tmp_path: Path
) -> None:
    promote(worker, PROJECT, publish(worker, tmp_path), who="anna")
    second = publish(worker, tmp_path)
    store.write(f"project-{PROJECT}/{second}/adapter_model.safetensors", b"w3ights")
    for service in (web, worker):  # the worker has a good copy of its own, and yet nobody else could serve it
        with pytest.raises(ModelError, match="v0002 is damaged"):
            promote(service, PROJECT, second, who="anna")
    assert ask(web, 1)[1]["model_version"] == "v0001"


def test_while_the_store_fails_what_is_loaded_or_sampled_goes_on(
    store: SharedStore, worker: Service, web: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(worker, PROJECT, publish(worker, tmp_path), who="anna")
    assert ask(web, 1)[0] == 200
    second = publish(worker, tmp_path)

    def fail(*_: object) -> None:
        raise UnavailableError("The adapter store does not answer.")

    objects: Any = web.registry.store._objects  # type: ignore[attr-defined]
    for name in ("sizes", "read", "download"):
        monkeypatch.setattr(objects, name, fail)
    assert ask(web, 1)[0] == ask(web, 2)[0] == 200
    with pytest.raises(UnavailableError):
        promote(web, PROJECT, second, who="anna")
    promote(worker, PROJECT, second, who="anna")
    assert ask(web, 3)[0] == 503, "it cannot be had now"
    monkeypatch.undo()
    assert ask(web, 3)[1]["model_version"] == second


def test_collecting_on_one_machine_is_seen_on_the_other(
    worker: Service, web: Service, tmp_path: Path
) -> None:
    for version in [publish(worker, tmp_path) for _ in range(4)]:
        promote(web, PROJECT, version, who="anna")
    assert collect(web, PROJECT, keep=1, who="anna") == ["v0001", "v0002"]
    assert [one.state for one in standings(worker, PROJECT)] == [
        State.REMOVED,
        State.REMOVED,
        State.READY,
        State.SERVES,
    ]


def test_a_machine_with_folders_of_its_own_says_what_is_missing(
    worker: Service, host: Callable[..., Service], tmp_path: Path
) -> None:
    promote(worker, PROJECT, publish(worker, tmp_path), who="anna")
    lonely = host("lonely", adapters="")
    status, problem = ask(lonely, 1)
    assert status == 404
    assert "ILLUME_ADAPTERS" in problem["todo"]
