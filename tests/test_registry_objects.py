"""Versions in a store of objects: dying between any two steps, stores that fail, what must not be told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from adapter_stores import FIELDS, SharedStore, names_of, shared_store, staged
from fsspec.implementations.memory import MemoryFileSystem

from illume_plugin.errors import IllumeError, SettingsError, UnavailableError
from illume_plugin.registry import META_FILE, Registry, open_registry
from illume_plugin.registry.object_store import ObjectStore
from illume_plugin.registry.objects import Objects

#: What changes a store.
STEPS = ("create", "upload", "write", "delete")


class KilledError(Exception):
    """As if the process had died."""


class Mortal:
    """Objects whose process dies at the n-th change, before it or just after it."""

    def __init__(self, objects: Objects, dies_at: int, *, after: bool) -> None:
        self._objects = objects
        self._left = dies_at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)
        return self._step(found) if name in STEPS else found

    def _step(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise KilledError
            done = change(*given)
            if self._left < 0:
                raise KilledError
            return done

        return step


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedStore]:
    with shared_store(request.param, tmp_path) as found:
        yield found


def mortal(store: SharedStore, dies_at: int, *, after: bool) -> Registry:
    """A machine that dies."""
    registry = store.machine("mortal")
    kept: Any = registry.store
    kept._objects = Mortal(kept._objects, dies_at, after=after)
    return registry


def dies(work: Callable[[], Any]) -> bool:
    try:
        work()
    except KilledError:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(4))
def test_publishing_may_die_anywhere(store: SharedStore, tmp_path: Path, dies_at: int, after: bool) -> None:
    run = staged(tmp_path / "run")
    registry = store.machine("a")
    first = registry.publish(5, run, **FIELDS)
    assert dies(lambda: mortal(store, dies_at, after=after).publish(5, run, **FIELDS))

    there = registry.versions(5)
    published = dies_at == 3 and after
    assert len(there) == 1 + published, "with its meta.json it is there, otherwise it is not"
    assert all(registry.verify(5, one.version) == one for one in there)
    next_one = registry.publish(5, run, **FIELDS)
    assert next_one.version == ("v0002" if dies_at == 0 and not after else "v0003"), "no number twice"
    assert store.machine("b").verify(5, next_one.version) == next_one

    assert registry.sweep() == 0, "it may be at work still"
    swept = registry.sweep(older_than_s=-1)
    claims = {name for name in store.files() if "/claims/" in name}
    whole = set().union(*(names_of(5, one.version) for one in registry.versions(5)))
    assert store.files() - claims == whole
    assert swept == (0 if published or dies_at == 0 or (dies_at, after) == (1, False) else 1)
    assert registry.versions(5)[0] == first


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(3))
def test_removing_may_die_anywhere(store: SharedStore, tmp_path: Path, dies_at: int, after: bool) -> None:
    registry = store.machine("a")
    first = registry.publish(5, staged(tmp_path / "run"), **FIELDS)
    assert dies(lambda: mortal(store, dies_at, after=after).remove(5, "v0001"))

    gone = dies_at == 2 or (dies_at, after) == (1, True)
    assert registry.versions(5) == ([] if gone else [first])
    assert registry.removed(5) == ([first] if gone else [])
    if not gone:
        assert registry.verify(5, "v0001") == first, "complete as before"
        registry.remove(5, "v0001")
    registry.sweep(older_than_s=-1)
    assert {name for name in store.files() if "/claims/" not in name} == {"project-5/removed/v0001.json"}
    assert registry.removed(5) == [first]
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v0002"


def test_a_version_that_was_swept_while_it_was_uploaded_is_not_published(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = store.machine("a"), store.machine("b")
    kept: Any = registry.store
    check = kept._must_be_there

    def sweep_first(*given: Any) -> None:
        assert other.sweep(older_than_s=-1) == 1
        check(*given)

    monkeypatch.setattr(kept, "_must_be_there", sweep_first)
    with pytest.raises(UnavailableError, match="v0001 are not all in"):
        registry.publish(5, staged(tmp_path / "run"), **FIELDS)
    assert registry.versions(5) == other.versions(5) == []


def test_what_nobody_has_claimed_is_not_swept(store: SharedStore) -> None:
    store.write("project-5/v0001/adapter_config.json", b"{}")
    store.write("other/v0001/adapter_config.json", b"{}")
    for version, claim in (("v0002", b""), ("v0003", b'{"at": "noon"}'), ("v0004", b"[]")):
        store.write(f"project-5/claims/{version}", claim)
        store.write(f"project-5/{version}/adapter_config.json", b"{}")
    before = store.files()
    assert store.machine("a").sweep(older_than_s=-1) == 0
    assert store.files() == before


def test_a_request_that_was_sent_again_is_no_rival(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver repeats a request whose answer was lost, and then hears that the object is there."""
    registry = store.machine("a")
    objects: Any = registry.store._objects
    create = objects._create

    def twice(*given: Any) -> None:
        create(*given)
        create(*given)

    monkeypatch.setattr(objects, "_create", twice)
    assert registry.publish(5, staged(tmp_path / "run"), **FIELDS).version == "v0001"


def test_a_rival_who_was_faster_has_the_number(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, rival = store.machine("a"), store.machine("b")
    objects: Any = registry.store._objects
    create, made = objects.create, []

    def too_late(*given: Any) -> bool:
        if not made:
            made.append(rival.publish(5, staged(tmp_path / "rival", b"rival"), **FIELDS))
        return bool(create(*given))

    monkeypatch.setattr(objects, "create", too_late)
    made.append(registry.publish(5, staged(tmp_path / "run"), **FIELDS))
    assert [one.version for one in made] == ["v0001", "v0002"]
    assert registry.versions(5) == made
    assert [registry.verify(5, one.version) for one in made] == made


def test_a_list_reads_a_meta_once(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = store.machine("a")
    made = [registry.publish(5, staged(tmp_path / "run"), **FIELDS) for _ in range(3)]
    read: list[str] = []
    objects: Any = registry.store._objects
    plain = objects.read
    monkeypatch.setattr(objects, "read", lambda name: (read.append(name), plain(name))[1])
    for _ in range(3):
        assert registry.versions(5) == made
    assert sorted(read) == [f"project-5/v000{n}/{META_FILE}" for n in (1, 2, 3)]


class Unwell(MemoryFileSystem):
    """A store that can be told to fail as drivers do."""

    protocol = "unwell"
    failure: Exception | None = None

    def find(self, *given: Any, **more: Any) -> Any:
        self._fail()
        return super().find(*given, **more)

    def cat_file(self, *given: Any, **more: Any) -> Any:
        self._fail()
        return super().cat_file(*given, **more)

    def _fail(self) -> None:
        if Unwell.failure:
            raise Unwell.failure


@pytest.fixture
def unwell() -> Iterator[type[Unwell]]:
    fsspec.register_implementation("unwell", Unwell, clobber=True)
    yield Unwell
    Unwell.failure = None
    Unwell.store.clear()


class OddlyNamedError(Exception):
    """Not an OSError: what authentication libraries raise."""


@pytest.mark.parametrize(
    "failure", [OddlyNamedError("no credentials"), PermissionError("forbidden"), TimeoutError("slow")]
)
def test_what_is_here_serves_on_while_the_store_fails(
    unwell: type[Unwell], tmp_path: Path, failure: Exception
) -> None:
    registry = open_registry("unwell://adapters", tmp_path / "a", cache_bytes=10**9)
    other = open_registry("unwell://adapters", tmp_path / "b", cache_bytes=10**9)
    registry.publish(5, staged(tmp_path / "run"), **FIELDS)
    unwell.failure = failure
    with registry.hold(5, "v0001") as folder:
        assert (folder / "adapter_model.safetensors").read_bytes() == b"weights"
    asked: list[Callable[[], Any]] = [
        lambda: other.folder(5, "v0001"),
        lambda: registry.versions(5),
        lambda: registry.verify(5, "v0001"),
        lambda: registry.publish(5, tmp_path / "run", **FIELDS),
    ]
    for ask in asked:
        with pytest.raises(UnavailableError, match=type(failure).__name__) as told:
            ask()
        assert "unwell://adapters" in str(told.value)
    unwell.failure = None
    assert [meta.version for meta in other.versions(5)] == ["v0001"]


def test_signatures_in_addresses_are_not_told(
    unwell: type[Unwell], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unwell.failure = OSError("404 for https://store/adapters?sig=hush&se=2026 at the door\nand more: hush")
    with pytest.raises(UnavailableError) as told:
        open_registry("unwell://adapters", tmp_path, cache_bytes=1).versions(5)
    assert "https://store/adapters?... at the door" in str(told.value)
    assert "hush" not in str(told.value) + caplog.text


@pytest.mark.parametrize(
    "address", ["s3://key:hush@bucket/x", "sftp://me:hush@host/x", "simplecache::s3://hush/x"]
)
def test_credentials_in_addresses_are_refused_and_not_told(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="driver") as told:
        open_registry(address, tmp_path, cache_bytes=1)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("address", ["nonsense://x", "gs://bucket/x"])
def test_addresses_that_cannot_be_opened(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match=address):
        open_registry(address, tmp_path, cache_bytes=1)


class Careless(MemoryFileSystem):
    """A driver that knows no exclusive creation: fsspec's own code looks first and writes then."""

    protocol = "careless"
    store: dict[str, Any] = {}  # noqa: RUF012 - as its parent has it

    def pipe_file(self, path: str, value: bytes, **more: Any) -> None:
        super().pipe_file(path, value, **more)


def test_a_store_without_exclusive_creation_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fsspec.register_implementation("careless", Careless, clobber=True)
    registry = open_registry("careless://adapters", tmp_path, cache_bytes=10**9)
    assert "only the runs' lease" in registry.store.try_out()
    with caplog.at_level(logging.WARNING):
        made = [registry.publish(5, staged(tmp_path / "run"), **FIELDS).version for _ in range(2)]
    assert made == ["v0001", "v0002"]
    assert "only the runs' lease" in caplog.text


def test_claims_say_when(store: SharedStore, tmp_path: Path) -> None:
    registry = store.machine("a")
    assert isinstance(registry.store, ObjectStore)
    registry.publish(5, staged(tmp_path / "run"), **FIELDS)
    assert set(json.loads(store.read("project-5/claims/v0001"))) == {"publisher", "at"}


def test_a_project_that_is_none_has_no_place(store: SharedStore) -> None:
    with pytest.raises((IllumeError, ValueError)):
        store.machine("a").meta("../5", "v0001")  # type: ignore[arg-type]
