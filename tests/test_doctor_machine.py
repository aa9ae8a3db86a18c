"""What the doctor finds on this machine: disks, processes, packages, adapters, what cannot even start."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import waitress
from adapter_stores import FIELDS, staged
from conftest import SECRET
from examined import the, working, wrong
from loopback import Answer, Loopback
from served_app import end
from sqlalchemy import text

from backend.app import create_app
from backend.doctor import Check, Finding, Outcome, adapters, disk, examine, opened, processes, releases
from backend.doctor.examination import CLOCKS_DIFFER_S
from backend.leasing import new_owner, version_of
from backend.service import Service
from backend.settings import Settings, load_settings
from backend.worker import LEASE_S, Worker
from illume_plugin import __version__
from illume_plugin.store import Store, projects
from illume_plugin.types import Project

NOBODY = 65534


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


def closed_port() -> int:
    """A port of loopback that refuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def unprivileged() -> Iterator[None]:
    """For this block the process may do what nobody may: root ignores the modes of files."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# -- disks ---------------------------------------------------------------------------------------------


def test_room_enough(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LEAST", 0)
    monkeypatch.setattr(disk, "WANTED", 0)
    (check,) = disk.rooms(service)
    assert check.outcome is Outcome.OK
    assert check.name == "disk of data folder, adapters, pictures", "one disk holds all of them"


@pytest.mark.parametrize(
    ("limit", "finding"), [("LEAST", Finding.DISK_FULL), ("WANTED", Finding.DISK_NEARLY_FULL)]
)
def test_a_disk_with_less_room_than_is_wanted(
    service: Service, monkeypatch: pytest.MonkeyPatch, limit: str, finding: Finding
) -> None:
    """The disk is the real one; the limit is moved above what it has."""
    monkeypatch.setattr(disk, "LEAST", 0)
    monkeypatch.setattr(disk, limit, shutil.disk_usage(service.settings.data_dir).total + 1)
    check = the(disk.rooms(service), finding)
    assert str(service.settings.data_dir) in check.detail
    assert "ILLUME_" in check.todo


def test_folders_that_are_not_there_yet_count_for_the_disk_that_they_will_be_on(
    settings: Settings, tmp_path: Path
) -> None:
    service = Service(settings.model_copy(update={"adapters": str(tmp_path / "not" / "yet")}))
    (check,) = disk.rooms(service)
    service.close()
    assert "adapters" in check.name


def test_another_disk_has_a_check_of_its_own(settings: Settings, tmp_path: Path) -> None:
    there = Path("/dev/shm")
    if not there.is_dir() or there.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system")
    service = Service(settings.model_copy(update={"adapters": str(there / "illume-adapters")}))
    assert [check.name for check in disk.rooms(service)] == [
        "disk of data folder, pictures",
        "disk of adapters",
    ]
    service.close()


# -- serve and worker ----------------------------------------------------------------------------------


@contextmanager
def serving(settings: Settings, service: Service) -> Iterator[str]:
    """Our backend, listening; gives its address."""
    server = waitress.create_server(create_app(settings, service=service), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    end(server, thread)


def backend_at(settings: Settings, url: str) -> list[Check]:
    return list(processes.backend_answers(settings.model_copy(update={"backend_url": url})))


def test_our_backend_answers(settings: Settings, service: Service) -> None:
    with serving(settings, service) as url:
        assert wrong(backend_at(settings, url)) == {}


def test_nothing_listens(settings: Settings) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    check = the(backend_at(settings, url), Finding.BACKEND_SILENT)
    assert f"nothing answers at {url}/health" in check.detail
    assert "illume serve" in check.todo


def test_what_listens_never_answers(
    settings: Settings, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HEALTH_TIMEOUT_S", 0.05)

    def stall(_: object) -> Answer:
        loopback.closing.wait()
        return Answer()

    loopback.routes["GET", "/health"] = stall
    assert "Timeout" in the(backend_at(settings, loopback.url), Finding.BACKEND_SILENT).detail


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {"status": "UP"}), (404, {}), (200, b"<html>IllumeBackend</html>"), (200, ["IllumeBackend"])],
)
def test_another_program_has_the_port(
    settings: Settings, loopback: Loopback, status: int, body: object
) -> None:
    loopback.answer("GET", "/health", status, body)
    check = the(backend_at(settings, loopback.url), Finding.BACKEND_OTHER)
    assert str(status) in check.detail
    assert "ILLUME_PORT" in check.todo


def test_our_backend_under_the_official_scaffold(settings: Settings, loopback: Loopback) -> None:
    told = {"status": "UP", "model_class": "<class 'backend.model.IllumeBackend'>"}
    loopback.answer("GET", "/health", 200, told)
    assert wrong(backend_at(settings, loopback.url)) == {}


@pytest.mark.parametrize("told", [{}, {"version": "0.0.1"}])
def test_the_backend_is_of_another_version(
    settings: Settings, loopback: Loopback, told: dict[str, str]
) -> None:
    loopback.answer("GET", "/health", 200, {"status": "UP", "model_class": "IllumeBackend", **told})
    check = the(backend_at(settings, loopback.url), Finding.PROCESSES_DIFFER)
    assert __version__ in check.detail
    assert "restart" in check.todo


@pytest.fixture
def project(service: Service, connected: int) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, connected)


def test_no_worker(service: Service, project: Project) -> None:
    check = the(processes.workers_at_work(service), Finding.WORKER_MISSING)
    assert "illume worker" in check.todo


def test_without_a_project_no_worker_is_wanted(service: Service) -> None:
    assert "worker" not in [check.name for check in examine(service, model=False)]


def test_a_worker_at_work(service: Service, project: Project) -> None:
    worker = Worker(service)
    assert worker._ours(project)
    (check,) = processes.workers_at_work(service)
    assert check.outcome is Outcome.OK
    assert worker.owner in check.detail


def test_a_worker_that_hangs_is_told_before_its_lease_ends(service: Service, project: Project) -> None:
    now = service.clock()
    working(service.store, [project.project_id], owner=new_owner(), until=now + LEASE_S)
    service.clock = lambda: now + processes.SILENT_S + 1
    check = the(processes.workers_at_work(service), Finding.WORKER_SILENT)
    assert f"{processes.SILENT_S + 1:.0f} s ago" in check.detail
    service.clock = lambda: now + LEASE_S + 1
    the(processes.workers_at_work(service), Finding.WORKER_MISSING)


def test_a_worker_that_is_long_at_one_project_is_heard_of_by_that_one(
    service: Service, project: Project
) -> None:
    now, owner = service.clock(), new_owner()
    working(service.store, [2], owner=owner, until=now + LEASE_S - processes.SILENT_S - 1)
    the(processes.workers_at_work(service), Finding.WORKER_SILENT)
    working(service.store, [3], owner=owner, until=now + LEASE_S)
    assert wrong(processes.workers_at_work(service)) == {}


@pytest.mark.parametrize("owner", ["host:77:abc123", "host:77:abc123:0.0.1"])
def test_a_worker_of_another_version(service: Service, project: Project, owner: str) -> None:
    working(service.store, [project.project_id], owner=owner, until=service.clock() + LEASE_S)
    check = the(processes.workers_at_work(service), Finding.PROCESSES_DIFFER)
    assert owner in check.detail


def test_an_owner_tells_its_version() -> None:
    assert version_of(new_owner()) == __version__


# -- packages ------------------------------------------------------------------------------------------


def installed(folder: Path, name: str, version: str) -> None:
    """A package's metadata, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_packages_that_the_tests_run_with_are_in_range() -> None:
    (check,) = releases.packages()
    assert check.outcome is Outcome.OK, check.detail


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("peft", "0.30.0", "<0.22,>=0.21"),
        ("transformers", "4.57.1", ">=5.23"),
        ("label-studio-sdk", "3.0.0", "<3,>=2.1.2"),
        ("torch", "2.4.0", ">=2.7"),
        ("psycopg", "2.9", ">=3.2"),
        ("label-studio-ml", "1.0.8", "1.0.9 or 2 is proven"),
    ],
)
def test_a_package_out_of_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, told: str
) -> None:
    """Where Python finds it first, as it would after an ill-considered pip install."""
    installed(tmp_path / "packages", name, version)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    check = the(releases.packages(), Finding.PACKAGES)
    assert f"{name} {version} is installed" in check.detail
    assert told in check.detail


def test_a_package_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = "Requires-Dist: no-such-package>=1\nRequires-Dist: ???\n"
    info = tmp_path / "packages" / "illume_label_studio-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {releases.OURS}\nVersion: 1\n{wanted}")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    detail = the(releases.packages(), Finding.PACKAGES).detail
    assert "no-such-package is not installed" in detail
    assert "'???'" in detail


def test_an_optional_package_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    assert releases._version("psycopg") is None
    assert not any(told.startswith("psycopg") for told in releases._out_of_range())


# -- adapters ------------------------------------------------------------------------------------------


@pytest.fixture
def serving_v0001(service: Service, project: Project, tmp_path: Path) -> Project:
    """v0001 of the embedded model serves."""
    service.registry.publish(2, staged(tmp_path / "staged"), **FIELDS)
    service.switch(2, "v0001", reason="test")
    with service.store.read() as conn:
        return projects.get(conn, 2)


def test_an_adapter_as_it_was_published(service: Service, serving_v0001: Project) -> None:
    assert wrong(adapters.serving_adapter(service, serving_v0001)) == {}


def test_a_base_model_needs_no_adapter(service: Service, project: Project) -> None:
    assert list(adapters.serving_adapter(service, project)) == []


def test_an_adapter_cut_short(service: Service, serving_v0001: Project) -> None:
    weights = service.registry.folder(2, "v0001") / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.chmod(0o600)
    weights.write_bytes(whole[:-1])
    check = the(adapters.serving_adapter(service, serving_v0001), Finding.ADAPTER_DAMAGED)
    assert "adapter_model.safetensors" in check.detail
    weights.write_bytes(whole)
    assert wrong(adapters.serving_adapter(service, serving_v0001)) == {}


def test_an_adapter_that_is_gone(service: Service, serving_v0001: Project) -> None:
    shutil.rmtree(service.registry.folder(2, "v0001"))
    the(adapters.serving_adapter(service, serving_v0001), Finding.ADAPTER_DAMAGED)


def test_an_adapter_of_another_base_model(
    settings: Settings, service: Service, serving_v0001: Project
) -> None:
    other = Service(settings.model_copy(update={"base_model": "somebody/another-model"}))
    check = the(adapters.serving_adapter(other, serving_v0001), Finding.ADAPTER_FOREIGN)
    other.close()
    assert "'embedded'" in check.detail
    assert "ILLUME_BASE_MODEL=embedded" in check.todo


def test_adapters_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    service = Service(settings.model_copy(update={"adapters": str(tmp_path / "a-file")}))
    check = the(adapters.store_works(service), Finding.ADAPTERS_UNWRITABLE)
    service.close()
    assert "ILLUME_ADAPTERS" in check.todo


def test_a_caution_of_the_store_is_passed_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which stores give one is shown in test_registry_objects.py."""
    monkeypatch.setattr(type(service.registry.store), "try_out", lambda _: "give it a lock")
    assert the(adapters.store_works(service), Finding.ADAPTERS_CAUTION).todo == "give it a lock"


# -- what cannot even start ----------------------------------------------------------------------------


def first_finding(**overrides: object) -> Check:
    with opened(**overrides) as check:
        assert isinstance(check, Check), "it starts"
        return check


def test_it_opens_what_is_well(settings: Settings) -> None:
    with opened(**settings.model_dump()) as service:
        assert isinstance(service, Service)


def test_settings_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_PORT", "0")
    monkeypatch.setenv("ILLUME_SAMPLES", "many")
    check = the([first_finding()], Finding.SETTINGS)
    assert "ILLUME_PORT" in check.detail
    assert "ILLUME_SAMPLES" in check.detail


def test_settings_that_do_not_go_together(settings: Settings) -> None:
    overrides = {
        "data_dir": settings.data_dir,
        "vllm_url": "http://127.0.0.1:1",
        "strategy": "sentence_search",
    }
    the([first_finding(**overrides)], Finding.CANNOT_START)


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check = the([first_finding(data_dir=tmp_path / "file")], Finding.DATA_FOLDER)
    assert str(tmp_path / "file") in check.detail


def test_a_data_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    monkeypatch.chdir("/")
    with unprivileged():
        check = first_finding(data_dir=folder)
    assert "ILLUME_DATA_DIR" in the([check], Finding.DATA_FOLDER).todo


def test_a_database_that_a_newer_program_has_changed(settings: Settings) -> None:
    store = Store(settings.store_url)
    with store.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = 'from_tomorrow'"))
    store.close()
    check = the([first_finding(data_dir=settings.data_dir)], Finding.SCHEMA_NEWER)
    assert "from_tomorrow" in check.detail
    assert "illume restore" in check.todo


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "illume.sqlite3").write_bytes(b"this is no database" * 100)
    check = the([first_finding(data_dir=tmp_path)], Finding.DATABASE_AWAY)
    assert "not a database" in check.detail
    assert "illume restore" in check.todo


def test_a_database_server_that_is_away(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://illume@127.0.0.1:{closed_port()}/illume"
    the([first_finding(data_dir=tmp_path, database_url=url)], Finding.DATABASE_AWAY)


def test_a_folder_that_is_being_restored_says_so(settings: Settings) -> None:
    from backend.data_folder import alone_with

    with alone_with(settings.data_dir):
        check = first_finding(data_dir=settings.data_dir)
    assert "restoring" in the([check], Finding.DATABASE_AWAY).detail


# -- the whole -----------------------------------------------------------------------------------------


def test_without_a_token(service: Service) -> None:
    check = the(examine(service, model=False), Finding.TOKEN_MISSING)
    assert "Personal Access Token" in check.todo
    assert "ILLUME_LABEL_STUDIO_TOKEN" in check.todo


def test_the_examination_says_what_it_looks_at_and_changes_nothing(service: Service, connected: int) -> None:
    said: list[str] = []
    before = sorted(
        path for path in service.settings.data_dir.rglob("*") if "illume.sqlite3" not in path.name
    )
    list(examine(service, say=said.append))
    assert said == ["this machine", "the base model"]
    after = sorted(path for path in service.settings.data_dir.rglob("*") if "illume.sqlite3" not in path.name)
    assert [path for path in after if path not in before] in ([], [service.settings.data_dir / "adapters"])


def test_a_clock_that_differs_by_less_is_none(service: Service) -> None:
    assert CLOCKS_DIFFER_S < 60 / 4, "a lease of a minute is renewed every quarter of it"


def test_serve_tells_its_version_to_anybody(settings: Settings, service: Service) -> None:
    with serving(settings, service) as url:
        assert httpx.get(f"{url}/health", trust_env=False).json()["version"] == __version__


def test_secrets_are_no_part_of_what_it_says(service: Service, connected: int) -> None:
    assert SECRET not in str([check.to_json() for check in examine(service)])


def test_load_settings_is_what_the_doctor_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(tmp_path / "elsewhere"))
    with opened() as service:
        assert isinstance(service, Service)
        assert service.settings.data_dir == load_settings().data_dir
