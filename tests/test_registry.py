"""Adapter versions, the same in every kind of store."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_stores import FIELDS, SharedStore, names_of, s3_server, staged, store

from illume_plugin.errors import IllumeError, ModelError, NotFoundError
from illume_plugin.registry import ADAPTER_FILES, META_FILE, FolderStore, Registry, open_registry
from illume_plugin.types import BASE_VERSION, AdapterMeta

__all__ = ["s3_server", "store"]


@pytest.fixture
def registry(store: SharedStore) -> Registry:
    return store.machine("a")


@pytest.fixture
def published(registry: Registry, tmp_path: Path) -> AdapterMeta:
    return registry.publish(5, staged(tmp_path / "run"), **FIELDS)


def test_what_is_published_can_be_read_back(registry: Registry, published: AdapterMeta) -> None:
    assert published.version == "v0001"
    assert set(published.files) == set(ADAPTER_FILES)
    assert registry.meta(5, "v0001") == published == registry.verify(5, "v0001")
    assert registry.versions(5) == [published]
    with registry.hold(5, "v0001") as folder:
        assert (folder / "adapter_model.safetensors").read_bytes() == b"weights"
        assert folder.is_relative_to(registry.store.root)


def test_another_machine_sees_it_at_once_and_serves_it(
    store: SharedStore, registry: Registry, tmp_path: Path
) -> None:
    other = store.machine("b")
    assert other.versions(5) == []
    first = registry.publish(5, staged(tmp_path / "run"), **FIELDS)
    assert other.versions(5) == [first]
    second = other.publish(5, staged(tmp_path / "run", b"more"), **FIELDS)
    assert second.version == "v0002"
    assert registry.versions(5) == [first, second] == other.versions(5)
    for machine in (registry, other):
        for version, weights in (("v0001", b"weights"), ("v0002", b"more")):
            with machine.hold(5, version) as folder:
                assert (folder / "adapter_model.safetensors").read_bytes() == weights
                assert {path.name for path in folder.iterdir()} == {*ADAPTER_FILES, META_FILE}
    registry.remove(5, "v0001")
    assert other.versions(5) == [second]
    assert other.removed(5) == [first]


def test_numbers_rise_and_projects_do_not_mix(registry: Registry, tmp_path: Path) -> None:
    made = [registry.publish(p, staged(tmp_path / "run"), **FIELDS).version for p in (5, 5, 6, 5, 55)]
    assert made == ["v0001", "v0002", "v0001", "v0003", "v0001"]
    assert [meta.version for meta in registry.versions(5)] == ["v0001", "v0002", "v0003"]


def test_more_than_9999_versions_stay_in_order(
    store: SharedStore, registry: Registry, published: AdapterMeta, tmp_path: Path
) -> None:
    for name in names_of(5, "v0001"):
        text = store.read(name)
        store.write(name.replace("v0001", "v9999"), text.replace(b"v0001", b"v9999"))
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v10000"
    assert [meta.version for meta in registry.versions(5)] == ["v0001", "v9999", "v10000"]


def test_the_staged_folder_is_left_alone(registry: Registry, published: AdapterMeta, tmp_path: Path) -> None:
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(ADAPTER_FILES)


def _publish_three(address: str, data_dir: Path, folder: Path) -> None:
    for _ in range(3):
        open_registry(address, data_dir, cache_bytes=10**9).publish(5, folder, **FIELDS)


def test_several_that_publish_at_once_get_different_numbers(store: SharedStore, tmp_path: Path) -> None:
    folder = staged(tmp_path / "run")
    start: Callable[..., Any] = multiprocessing.get_context("spawn").Process
    if store.kind == "memory":  # which is one process's own
        start = threading.Thread
    work = [
        start(target=_publish_three, args=(store.address, store.data_dir(name), folder)) for name in "abc"
    ]
    for one in work:
        one.start()
    for one in work:
        one.join()
    registry = store.machine("d")
    assert [meta.version for meta in registry.versions(5)] == [f"v{n:04d}" for n in range(1, 10)]
    assert all(registry.verify(5, meta.version) == meta for meta in registry.versions(5))


@pytest.mark.parametrize(
    "name", ["../v0001", "v1", "v0001/..", "V0001", "v0001\n", "", "v00a1", "v０００１", "/", "v0001/x"]
)
@pytest.mark.parametrize("verb", ["folder", "fetch", "meta", "verify", "remove"])
def test_names_that_are_no_versions_are_refused(tmp_path: Path, verb: str, name: str) -> None:
    for address in (str(tmp_path), f"memory://{tmp_path.name}"):
        with pytest.raises(ModelError, match="is not an adapter version"):
            getattr(open_registry(address, tmp_path, cache_bytes=1), verb)(5, name)


@pytest.mark.parametrize("version", [BASE_VERSION, "v0002"])
@pytest.mark.parametrize("verb", ["folder", "fetch", "meta", "verify", "remove"])
def test_versions_that_do_not_exist(
    registry: Registry, published: AdapterMeta, verb: str, version: str
) -> None:
    with pytest.raises(NotFoundError, match=version):
        getattr(registry, verb)(5, version)
    assert registry.versions(404) == registry.removed(404) == []


@pytest.mark.parametrize("extra", ["adapter_model.bin", "training_args.pt", "README.md", ".hidden"])
def test_other_files_are_not_published(
    store: SharedStore, registry: Registry, tmp_path: Path, extra: str
) -> None:
    folder = staged(tmp_path / "run")
    (folder / extra).write_bytes(b"x")
    with pytest.raises(ModelError, match=extra):
        registry.publish(5, folder, **FIELDS)
    assert store.files() == set()


@pytest.mark.parametrize("missing", ADAPTER_FILES)
def test_half_an_adapter_is_not_published(registry: Registry, tmp_path: Path, missing: str) -> None:
    (staged(tmp_path / "run") / missing).unlink()
    with pytest.raises(ModelError, match=missing):
        registry.publish(5, tmp_path / "run", **FIELDS)


def test_a_failed_publication_leaves_nothing(store: SharedStore, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        registry.publish(5, staged(tmp_path / "run"), **{**FIELDS, "metrics": {"x": float("nan")}})
    assert store.files() == set()
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v0001"


def _change(store: SharedStore) -> None:
    store.write("project-5/v0001/adapter_model.safetensors", b"w3ights")


def _shorten(store: SharedStore) -> None:
    store.write("project-5/v0001/adapter_model.safetensors", b"")


def _add(store: SharedStore) -> None:
    store.write("project-5/v0001/more.bin", b"x")


def _lose(store: SharedStore) -> None:
    store.delete("project-5/v0001/adapter_config.json")


def _meta(store: SharedStore, **values: Any) -> None:
    name = f"project-5/v0001/{META_FILE}"
    store.write(name, json.dumps({**json.loads(store.read(name)), **values}).encode())


def _other_version(store: SharedStore) -> None:
    _meta(store, version="v0009")


def _other_project(store: SharedStore) -> None:
    _meta(store, project_id=6)


def _way_out(store: SharedStore) -> None:
    _meta(store, files={"../../../outside": "0" * 64, "adapter_config.json": "0" * 64})


DAMAGES = [_change, _shorten, _add, _lose, _other_version, _other_project, _way_out]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(store: SharedStore, registry: Registry, published: AdapterMeta, damage: Any) -> None:
    damage(store)
    with pytest.raises(ModelError, match="v0001 is damaged"):
        registry.verify(5, "v0001")


def test_a_meta_that_names_other_files_is_believed_nowhere(
    store: SharedStore, registry: Registry, published: AdapterMeta
) -> None:
    _way_out(store)
    for machine in (registry, store.machine("b")):
        assert machine.versions(5) == []
        with pytest.raises(ModelError, match="names files that no version has"):
            machine.meta(5, "v0001")


@pytest.mark.parametrize("damage", [one for one in DAMAGES if one is not _add])
def test_a_damaged_version_is_not_served_by_a_machine_that_has_to_fetch_it(
    store: SharedStore, registry: Registry, tmp_path: Path, published: AdapterMeta, damage: Any
) -> None:
    good = registry.publish(5, staged(tmp_path / "run", b"good"), **FIELDS)
    damage(store)
    other = store.machine("b")
    for _ in range(2):
        with pytest.raises(ModelError, match="v0001 is damaged"), other.hold(5, "v0001"):
            pytest.fail("it is damaged")
    with other.hold(5, good.version) as folder:
        assert (folder / "adapter_model.safetensors").read_bytes() == b"good"
    assert not list(tmp_path.rglob("outside"))
    assert not list(tmp_path.rglob(".staging-*"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "nonsense", "\udcff"])
def test_one_damaged_version_does_not_hide_the_others(
    store: SharedStore, registry: Registry, published: AdapterMeta, tmp_path: Path, text: str
) -> None:
    second = registry.publish(5, tmp_path / "run", **FIELDS)
    store.write(f"project-5/v0001/{META_FILE}", text.encode("utf-8", "surrogateescape"))
    assert registry.versions(5) == [second]
    with pytest.raises(ModelError):
        registry.meta(5, "v0001")


@pytest.mark.parametrize("project_id", ["../x", "x"])
def test_a_project_is_a_number(registry: Registry, project_id: Any) -> None:
    with pytest.raises((IllumeError, ValueError)):
        registry.versions(project_id)


def test_removed_weights_leave_meta_behind_and_the_number_is_not_given_again(
    store: SharedStore, registry: Registry, published: AdapterMeta, tmp_path: Path
) -> None:
    second = registry.publish(5, tmp_path / "run", **FIELDS)
    registry.remove(5, "v0002")
    assert registry.versions(5) == [published]
    assert registry.removed(5) == [second]
    with pytest.raises(NotFoundError, match="were removed"):
        registry.folder(5, "v0002")
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v0003"
    with pytest.raises(NotFoundError):
        registry.remove(5, "v0002")
    assert not any(name.startswith("project-5/v0002/") for name in store.files())
    assert not list(tmp_path.rglob(".staging-*"))


def test_a_folder_can_be_copied_into_a_store(store: SharedStore, tmp_path: Path) -> None:
    local = Registry(FolderStore(tmp_path / "local"))
    made = [local.publish(5, staged(tmp_path / "run"), **FIELDS) for _ in range(3)]
    local.remove(5, "v0003")
    registry = store.machine("a")
    assert registry.versions(5) == []  # what it has looked at once is not believed for ever
    for path in (tmp_path / "local").rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(tmp_path / "local")), path.read_bytes())
    assert registry.versions(5) == made[:2]
    assert registry.removed(5) == made[2:]
    assert registry.verify(5, "v0002") == made[1]
    assert registry.sweep(older_than_s=-1) == 0
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v0004"


def test_a_store_can_be_tried_out(store: SharedStore, registry: Registry) -> None:
    before = store.files()
    assert registry.store.try_out() == ""
    assert store.files() == before
