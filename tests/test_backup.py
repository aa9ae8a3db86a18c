"""Backup and restore: what comes back is what was there, from a whole file or not at all, if killed too."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import SECRET, SELECT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_retrain import submitted

from backend import data_folder
from backend.backup import archive, restoring, writing
from backend.backup.archive import MANIFEST, Manifest, nowhere
from backend.backup.restoring import restore
from backend.backup.writing import back_up
from backend.cli import main
from backend.data_folder import DATABASE, RESTORING, Using, alone_with
from backend.service import Service
from backend.settings import Settings, load_settings
from illume_plugin.errors import (
    BadRequestError,
    ConflictError,
    IllumeError,
    NotFoundError,
    SettingsError,
    UnavailableError,
)
from illume_plugin.registry import ADAPTER_FILES
from illume_plugin.store import Store, events, projects
from illume_plugin.store.tables import metadata

Rows = dict[str, list[tuple[Any, ...]]]


def quiet(_: int) -> None:
    """Progress that nobody looks at."""


def publish(service: Service, folder: Path, content: str) -> str:
    """A version with these weights."""
    staged = folder / "staged"
    staged.mkdir(exist_ok=True)
    for name in ADAPTER_FILES:
        (staged / name).write_text(content)
    return service.registry.publish(
        2,
        staged,
        parent="v0000",
        base_model="embedded",
        base_model_hash="",
        training_set="set",
        config={},
        seed=0,
        metrics={},
        versions={},
    ).version


def filled(data_dir: Path, scratch: Path) -> Settings:
    """Project 2 with five events, two versions of which the second serves, a removed one, and a secret."""
    found = load_settings(data_dir=data_dir, train_after=0)
    service = Service(found)
    with service.store.write() as conn:
        projects.put(conn, 2, title="test", label_config=SELECT, now=1.0)
    for task_id in range(1, 6):
        service.receive(submitted(task_id, ["c1"]))
    for content in ("one", "two", "three"):
        publish(service, scratch, content)
    service.switch(2, "v0002", reason="test")
    service.registry.remove(2, "v0003")
    evaluations = data_dir / "adapters" / "project-2" / "evaluations"
    evaluations.mkdir()
    (evaluations / "v0001-0123456789ab.json").write_text("{}")
    (data_dir / "adapters" / "project-2" / ".staging-x").mkdir()
    (data_dir / "secret").write_text(SECRET)
    service.close()
    return found


@pytest.fixture
def whole(tmp_path: Path) -> Settings:
    return filled(tmp_path / "data", tmp_path)


@pytest.fixture
def file(whole: Settings, tmp_path: Path) -> Path:
    """A backup of it."""
    back_up(whole, tmp_path / "x.tar", quiet)
    return tmp_path / "x.tar"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "elsewhere", train_after=0)


def rows(data_dir: Path) -> Rows:
    store = Store(f"sqlite:///{data_dir / DATABASE}")
    with store.read() as conn:
        found = {
            table.name: [tuple(row) for row in conn.execute(table.select().order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }
    store.close()
    return found


def files(data_dir: Path) -> dict[str, bytes]:
    """Everything that belongs to the adapters."""
    root = data_dir / "adapters"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


# -- there and back ------------------------------------------------------------------------------------


def test_what_is_restored_is_what_was_backed_up(whole: Settings, file: Path, elsewhere: Settings) -> None:
    found = restore(elsewhere, file, quiet)
    assert found.former is None
    assert found.manifest.versions == {(2, "v0001"), (2, "v0002")}
    assert rows(elsewhere.data_dir) == rows(whole.data_dir)
    assert files(elsewhere.data_dir) == files(whole.data_dir)
    service = Service(elsewhere)
    assert service.registry.verify(2, "v0002").version == "v0002"
    assert [meta.version for meta in service.registry.removed(2)] == ["v0003"]
    assert service.versions(2) == ["v0000", "v0001", "v0002"]
    service.close()


def test_only_the_owner_can_read_it_and_it_holds_no_secret(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET.encode() not in file.read_bytes()
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if "staging" in name or "secret" in name]


def test_while_others_write_it_holds_one_moment(whole: Settings, tmp_path: Path, elsewhere: Settings) -> None:
    """Each write is of a project and of its task: no backup has one without the other."""
    service, stop, written = Service(whole), threading.Event(), threading.Event()

    def write() -> None:
        number = 100
        while not stop.is_set():
            number += 1
            with service.store.write() as conn:
                projects.put(conn, number, title="t" * 5000, label_config="<View/>", now=1.0)
                projects.put_tasks(conn, number, [(number, {"x": "y" * 5000})])
            written.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert written.wait(60)
        for n in range(5):
            back_up(whole, tmp_path / f"{n}.tar", quiet)
    finally:
        stop.set()
        thread.join()
    service.close()
    for n in range(5):
        restore(elsewhere, tmp_path / f"{n}.tar", quiet, replace=True)
        held = rows(elsewhere.data_dir)
        assert {row[0] for row in held["projects"]} == {row[0] for row in held["tasks"]} | {2}


def test_a_version_that_goes_while_it_is_made_is_left_out(
    whole: Settings, tmp_path: Path, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = writing._add

    def removed_first(writer: Any, paths: list[Path], names: list[str]) -> None:
        if "/v0001/" in names[0] and paths[0].exists():
            service = Service(whole)
            service.registry.remove(2, "v0001")
            service.close()
        add(writer, paths, names)

    monkeypatch.setattr(writing, "_add", removed_first)
    manifest = back_up(whole, tmp_path / "x.tar", quiet)
    assert manifest.versions == {(2, "v0002")}
    restore(elsewhere, tmp_path / "x.tar", quiet)
    service = Service(elsewhere)
    assert [meta.version for meta in service.registry.removed(2)] == ["v0001", "v0003"]
    service.close()


def test_without_the_version_that_serves_there_is_no_backup(whole: Settings, tmp_path: Path) -> None:
    shutil.rmtree(whole.data_dir / "adapters" / "project-2" / "v0002")
    with pytest.raises(ConflictError, match="Versions come and go"):
        back_up(whole, tmp_path / "x.tar", quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "staged"}


def test_versions_in_a_remote_store_stay_there(whole: Settings, tmp_path: Path, elsewhere: Settings) -> None:
    shutil.rmtree(whole.data_dir / "adapters" / "project-2" / "v0002")
    remote = whole.model_copy(update={"adapters": "s3://bucket/versions"})
    manifest = back_up(remote, tmp_path / "x.tar", quiet)
    assert manifest.versions_elsewhere == "s3://bucket/versions"
    restore(elsewhere, tmp_path / "x.tar", quiet)


def test_progress_comes_to_the_end(whole: Settings, tmp_path: Path, elsewhere: Settings) -> None:
    done: list[int] = []
    manifest = back_up(whole, tmp_path / "x.tar", done.append)
    assert sum(done) == pytest.approx(manifest.bytes + (whole.data_dir / DATABASE).stat().st_size, rel=0.01)
    done.clear()
    restore(elsewhere, tmp_path / "x.tar", done.append)
    assert sum(done) == manifest.bytes


# -- where it is written -------------------------------------------------------------------------------


def test_a_file_that_is_there_stays(whole: Settings, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ConflictError, match="there already"):
        back_up(whole, file, quiet)
    assert file.read_bytes() == before
    file.write_text("something else")
    back_up(whole, file, quiet, replace=True)
    assert archive.read(file, nowhere, quiet).versions


def test_a_file_that_somebody_else_wrote_meanwhile_stays(
    whole: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.tar"
    is_whole = writing._is_whole

    def meanwhile(database: Path, manifest: Manifest) -> bool:
        file.write_text("theirs")
        return is_whole(database, manifest)

    monkeypatch.setattr(writing, "_is_whole", meanwhile)
    with pytest.raises(ConflictError, match="there already"):
        back_up(whole, file, quiet)
    assert file.read_text() == "theirs"


def test_a_place_that_is_none(whole: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        back_up(whole, tmp_path / "nowhere" / "x.tar", quiet)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError, match="has room for 0 MB"):
        back_up(whole, tmp_path / "x.tar", quiet)


def test_a_database_that_is_damaged_is_not_backed_up(whole: Settings, tmp_path: Path) -> None:
    path = whole.data_dir / DATABASE
    sqlite3.connect(path).close()
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = bytes(len(content) - 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(UnavailableError, match=r"damaged|copied"):
        back_up(whole, tmp_path / "x.tar", quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "staged"}


def test_postgresql_has_tools_of_its_own(tmp_path: Path) -> None:
    found = load_settings(data_dir=tmp_path, database_url="postgresql://ann:hush@db/x")
    with pytest.raises(SettingsError, match="pg_dump") as told:
        back_up(found, tmp_path / "x.tar", quiet)
    assert "hush" not in str(told.value)
    with pytest.raises(SettingsError, match="copy-store"):
        restore(found, tmp_path / "x.tar", quiet)


# -- what is refused -----------------------------------------------------------------------------------


def refused(target: Settings, file: Path, reason: str) -> None:
    with pytest.raises(IllumeError, match=reason):
        restore(target, file, quiet)
    assert {path.name for path in target.data_dir.iterdir()} <= {"in-use.lock"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_is_refused(file: Path, elsewhere: Settings, share: float) -> None:
    cut = file.with_name("cut.tar")
    content = file.read_bytes()
    with tarfile.open(file) as tar:
        end = max(member.offset_data + member.size for member in tar)
    cut.write_bytes(content[: int(end * share)])
    refused(elsewhere, cut, "is no backup, or is damaged")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_file_with_a_wrong_bit_is_refused_unless_the_bit_means_nothing(
    file: Path, share: float, bit: int
) -> None:
    read: dict[str, list[bytes]] = {"": []}
    whole = _contents(file)
    content = bytearray(file.read_bytes())
    content[int(len(content) * share)] ^= 1 << bit
    flipped = file.with_name("flipped.tar")
    flipped.write_bytes(bytes(content))
    try:
        read = _contents(flipped)
    except BadRequestError:
        return
    assert read == whole


def _contents(file: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}

    class Kept(io.BytesIO):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def close(self) -> None:
            found.setdefault(self.name, []).append(self.getvalue())
            super().close()

    archive.read(file, Kept, quiet)  # type: ignore[arg-type]
    return found


def made(path: Path, *members: tuple[tarfile.TarInfo, bytes], listed: bool = True) -> Path:
    """A tar with these members, and behind them a list that says that all of them belong there."""
    entries = [
        {"name": info.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for info, content in members
    ]
    manifest = {"created_at": 1.0, "program": "x", "files": entries, "versions_elsewhere": "", "format": 1}
    text = json.dumps(manifest).encode()
    with tarfile.open(path, "w:") as tar:
        for info, content in [*members, *([(named(MANIFEST), text)] if listed else [])]:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def named(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "adapters/../x",
        "adapters/project-2/../../x",
        "adapters/project-2/v0001/../../../../x",
        "adapters/project-2/v0001/model.pkl",
        "adapters/project-x/v0001/meta.json",
        "secret",
        "illume.sqlite3-wal",
        "./illume.sqlite3",
        "illume.sqlite3\n",
        "illume.toml",
        f"{RESTORING}/x",
    ],
)
def test_no_file_goes_anywhere_else(tmp_path: Path, elsewhere: Settings, name: str) -> None:
    file = made(tmp_path / "bad.tar", (named(name), b"x"))
    refused(elsewhere, file, "does not belong there")
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tar", "elsewhere"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_nothing_but_files(tmp_path: Path, elsewhere: Settings, kind: bytes) -> None:
    link = named(DATABASE, type=kind, linkname="/etc/passwd")
    refused(elsewhere, made(tmp_path / "bad.tar", (link, b"")), "does not belong there")


def test_a_name_twice(tmp_path: Path, elsewhere: Settings) -> None:
    file = made(tmp_path / "bad.tar", (named(DATABASE), b"x"), (named(DATABASE), b"y"))
    refused(elsewhere, file, "does not belong there")


@pytest.mark.parametrize("text", ["", "PK\x03\x04", "x" * 2000])
def test_what_is_no_tar(tmp_path: Path, elsewhere: Settings, text: str) -> None:
    (tmp_path / "bad.tar").write_text(text)
    refused(elsewhere, tmp_path / "bad.tar", "is no backup")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + bytes(100), b"no database " * 500])
def test_what_is_no_database(tmp_path: Path, elsewhere: Settings, content: bytes) -> None:
    file = made(tmp_path / "bad.tar", (named("adapters/project-1/removed/v0001.json"), b"{}"))
    refused(elsewhere, file, "holds no database")
    if content:
        refused(elsewhere, made(tmp_path / "bad.tar", (named(DATABASE), content)), "database")


def test_a_file_that_is_not_there(elsewhere: Settings, tmp_path: Path) -> None:
    refused(elsewhere, tmp_path / "nothing.tar", "cannot be read")


def remade(file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The backup with changed files, and a list of them that fits."""
    with tarfile.open(file) as tar:
        held = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    held.pop(MANIFEST)
    change(held)
    return made(file.with_name("remade.tar"), *((named(name), content) for name, content in held.items()))


def test_an_adapter_that_is_not_the_one_that_was_published(file: Path, elsewhere: Settings) -> None:
    def exchange(held: dict[str, bytes]) -> None:
        held["adapters/project-2/v0001/adapter_model.safetensors"] = b"three"

    refused(elsewhere, remade(file, exchange), "v0001 is damaged")


def test_a_version_that_served_and_is_missing(file: Path, elsewhere: Settings) -> None:
    def leave_out(held: dict[str, bytes]) -> None:
        for name in [name for name in held if "/v0002/" in name]:
            del held[name]

    refused(elsewhere, remade(file, leave_out), "lacks v0002 of project 2")


def test_a_backup_of_a_newer_program(whole: Settings, tmp_path: Path, elsewhere: Settings) -> None:
    with sqlite3.connect(whole.data_dir / DATABASE) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    back_up(whole.model_copy(update={"adapters": "s3://x/y"}), tmp_path / "newer.tar", quiet)
    refused(elsewhere, tmp_path / "newer.tar", "9999")


def test_a_list_of_another_form(file: Path, elsewhere: Settings) -> None:
    content = file.read_bytes()
    at = content.rindex(b'"format": 1')
    file.write_bytes(content[:at] + b'"format": 2' + content[at + 11 :])
    refused(elsewhere, file, "form 2")


# -- what is there already -----------------------------------------------------------------------------


def test_a_state_that_is_there_stays_unless_it_is_to_be_replaced(
    whole: Settings, file: Path, tmp_path: Path
) -> None:
    before = rows(whole.data_dir)
    service = Service(whole)
    service.receive(submitted(9, ["c1"]))
    later = publish(service, tmp_path, "four")
    service.close()
    (whole.data_dir / "runs" / "run-000001").mkdir(parents=True)
    with pytest.raises(ConflictError, match="--replace"):
        restore(whole, file, quiet)
    found = restore(whole, file, quiet, replace=True)
    assert rows(whole.data_dir) == before
    assert found.former is not None
    assert len(rows(found.former)["events"]) == len(before["events"]) + 1
    assert (found.former / "adapters" / "project-2" / later).is_dir()
    assert not (whole.data_dir / "runs").exists(), "its runs are those of the other state"
    assert (whole.data_dir / "secret").read_text() == SECRET
    service = Service(whole)
    assert publish(service, tmp_path, "five") > later, "no number comes to mean another adapter"
    service.close()


def test_a_folder_in_use_is_left_alone(whole: Settings, file: Path) -> None:
    service = Service(whole)
    with pytest.raises(ConflictError, match="in use"):
        restore(whole, file, quiet, replace=True)
    service.close()
    restore(whole, file, quiet, replace=True)


def test_while_a_state_is_put_in_nobody_begins(whole: Settings) -> None:
    with alone_with(whole.data_dir), pytest.raises(UnavailableError, match="restoring"):
        Service(whole)
    Service(whole).close()


class KilledError(BaseException):
    """As if kill -9: nothing of ours handles it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Dies at the n-th change of names; tells which changes there were."""

    def arrange(number: int) -> list[str]:
        changes: list[str] = []
        rename = Path.rename

        def dying(self: Path, target: Path) -> Path:
            if len(changes) == number:
                raise KilledError
            changes.append(self.name)
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", dying)
        return changes

    return arrange


def test_a_kill_at_any_instant_leaves_one_state_or_the_other(
    tmp_path: Path,
    whole: Settings,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: Callable[[int], list[str]],
) -> None:
    backed_up = rows(whole.data_dir)
    service = Service(whole)
    service.receive(submitted(9, ["c1"]))
    service.close()
    (whole.data_dir / "runs").mkdir()
    present = rows(whole.data_dir)
    outcomes = []
    for number in range(20):
        copy = whole.model_copy(update={"data_dir": tmp_path / f"copy-{number}"})
        shutil.copytree(whole.data_dir, copy.data_dir)
        kill_at(number)
        try:
            restore(copy, file, quiet, replace=True)
            ended = True
        except KilledError:
            ended = False
        monkeypatch.undo()
        Using(copy.data_dir).close()  # what every process does first
        held = rows(copy.data_dir)
        assert held in (present, backed_up)
        assert files(copy.data_dir) == files(whole.data_dir)
        assert not (copy.data_dir / RESTORING).exists()
        outcomes.append(held == backed_up)
        if ended:
            break
    assert ended
    assert outcomes == sorted(outcomes), "from some change of names on it is the restored state"
    assert outcomes[0] is False
    assert len(outcomes) > 5


# -- the commands --------------------------------------------------------------------------------------


def illume(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_the_commands(whole: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(whole.data_dir))
    file = tmp_path / "x.tar"
    told = illume("backup", file, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "nothing was written" in told.output
    assert not file.exists()
    told = illume("backup", file)
    assert told.exit_code == 0, told.output
    assert "2 adapter versions" in told.output
    assert "there already" in illume("backup", file).output
    assert "--replace" in illume("restore", file).output
    told = illume("restore", file, "--dry-run", "--replace")
    assert told.exit_code == 0, told.output
    assert "is whole" in told.output
    told = illume("restore", file, "--replace")
    assert told.exit_code == 0, told.output
    assert "replaced-" in told.output
    file.write_bytes(file.read_bytes()[:-30_000])
    told = illume("restore", file, "--dry-run", "--replace")
    assert told.exit_code == 1
    assert "damaged" in told.output


def test_what_a_kill_left_is_tidied_by_the_next_restore(whole: Settings, file: Path) -> None:
    (whole.data_dir / ".restoring-x").mkdir()
    restore(whole, file, quiet, replace=True)
    assert not list(whole.data_dir.glob(".restoring-*"))
    assert data_folder.has_state(whole.data_dir)
    assert restoring.check(file, quiet).format == 1
    store = Store(whole.store_url)
    with store.read() as conn:
        assert events.count(conn, 2) == 5
    store.close()
