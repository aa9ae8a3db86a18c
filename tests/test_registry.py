"""Adapter versions on disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from illume_plugin.errors import IllumeError, ModelError, NotFoundError
from illume_plugin.registry import ADAPTER_FILES, META_FILE, Registry
from illume_plugin.types import BASE_VERSION, AdapterMeta

FIELDS: dict[str, Any] = {
    "parent": BASE_VERSION,
    "base_model": "embedded",
    "base_model_hash": "abc",
    "training_set": "def",
    "config": {"rank": 16},
    "seed": 3,
    "metrics": {"answer_accuracy": 0.9},
    "versions": {"torch": "2"},
    "created_at": 12.5,
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


def staged(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture
def published(registry: Registry, tmp_path: Path) -> AdapterMeta:
    return registry.publish(5, staged(tmp_path / "run"), **FIELDS)


def test_what_is_published_can_be_read_back(registry: Registry, published: AdapterMeta) -> None:
    assert published.version == "v0001"
    assert set(published.files) == set(ADAPTER_FILES)
    assert registry.meta(5, "v0001") == published == registry.verify(5, "v0001")
    assert registry.versions(5) == [published]
    assert (registry.folder(5, "v0001") / "adapter_model.safetensors").read_bytes() == b"weights"


def test_numbers_rise_and_projects_do_not_mix(registry: Registry, tmp_path: Path) -> None:
    made = [registry.publish(p, staged(tmp_path / "run"), **FIELDS).version for p in (5, 5, 6, 5)]
    assert made == ["v0001", "v0002", "v0001", "v0003"]
    assert [meta.version for meta in registry.versions(5)] == ["v0001", "v0002", "v0003"]


def test_more_than_9999_versions_stay_in_order(
    registry: Registry, published: AdapterMeta, tmp_path: Path
) -> None:
    registry.folder(5, "v0001").rename(registry.folder(5, "v0001").with_name("v9999"))
    assert registry.publish(5, tmp_path / "run", **FIELDS).version == "v10000"


def test_the_staged_folder_is_left_alone(registry: Registry, published: AdapterMeta, tmp_path: Path) -> None:
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(ADAPTER_FILES)


def _publish_five(root: Path, folder: Path) -> None:
    for _ in range(5):
        Registry(root).publish(5, folder, **FIELDS)


def test_processes_that_publish_at_once_get_different_numbers(registry: Registry, tmp_path: Path) -> None:
    folder, context = staged(tmp_path / "run"), multiprocessing.get_context("spawn")
    work = [context.Process(target=_publish_five, args=(tmp_path / "adapters", folder)) for _ in range(3)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert [process.exitcode for process in work] == [0, 0, 0]
    assert [meta.version for meta in registry.versions(5)] == [f"v{n:04d}" for n in range(1, 16)]
    assert all(registry.verify(5, meta.version) == meta for meta in registry.versions(5))


@pytest.mark.parametrize(
    "name", ["../v0001", "v1", "v0001/..", "V0001", "v0001\n", "", "v00a1", "v０００１x", "/"]
)
@pytest.mark.parametrize("verb", ["folder", "meta", "verify"])
def test_names_that_are_no_versions_are_refused(registry: Registry, verb: str, name: str) -> None:
    with pytest.raises(ModelError, match="is not an adapter version"):
        getattr(registry, verb)(5, name)


@pytest.mark.parametrize("version", [BASE_VERSION, "v0002"])
def test_versions_that_do_not_exist(registry: Registry, published: AdapterMeta, version: str) -> None:
    with pytest.raises(NotFoundError, match=version):
        registry.folder(5, version)
    assert registry.versions(404) == []


@pytest.mark.parametrize("extra", ["adapter_model.bin", "training_args.pt", "README.md", ".hidden"])
def test_other_files_are_not_published(registry: Registry, tmp_path: Path, extra: str) -> None:
    folder = staged(tmp_path / "run")
    (folder / extra).write_bytes(b"x")
    with pytest.raises(ModelError, match=extra):
        registry.publish(5, folder, **FIELDS)
    assert registry.versions(5) == []


@pytest.mark.parametrize("missing", ADAPTER_FILES)
def test_half_an_adapter_is_not_published(registry: Registry, tmp_path: Path, missing: str) -> None:
    (staged(tmp_path / "run") / missing).unlink()
    with pytest.raises(ModelError, match=missing):
        registry.publish(5, tmp_path / "run", **FIELDS)


def test_a_failed_publication_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        registry.publish(5, staged(tmp_path / "run"), **{**FIELDS, "metrics": {"x": float("nan")}})
    assert list((tmp_path / "adapters" / "project-5").iterdir()) == []


def _change(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"w3ights")


def _add(folder: Path) -> None:
    (folder / "more.bin").write_bytes(b"")


def _remove(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def _other_version(folder: Path) -> None:
    values = json.loads((folder / META_FILE).read_text())
    (folder / META_FILE).write_text(json.dumps({**values, "version": "v0009"}))


@pytest.mark.parametrize("damage", [_change, _add, _remove, _other_version])
def test_damage_is_found(registry: Registry, published: AdapterMeta, damage: Any) -> None:
    damage(registry.folder(5, "v0001"))
    with pytest.raises(ModelError, match="v0001 is damaged"):
        registry.verify(5, "v0001")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "nonsense"])
def test_one_damaged_version_does_not_hide_the_others(
    registry: Registry, published: AdapterMeta, tmp_path: Path, text: str
) -> None:
    second = registry.publish(5, tmp_path / "run", **FIELDS)
    (registry.folder(5, "v0001") / META_FILE).write_text(text)
    assert registry.versions(5) == [second]
    with pytest.raises(ModelError):
        registry.meta(5, "v0001")


def test_sweep_removes_old_leftovers_only(registry: Registry, published: AdapterMeta, tmp_path: Path) -> None:
    project = tmp_path / "adapters" / "project-5"
    old, young = project / ".staging-old", project / ".staging-young"
    for folder in (old, young):
        staged(folder)
    os.utime(old, (1, 1))
    assert registry.sweep() == 1
    assert sorted(p.name for p in project.iterdir()) == [".staging-young", "v0001"]
    assert registry.versions(5) == [published]


@pytest.mark.parametrize("project_id", ["../x", "x"])
def test_a_project_is_a_number(registry: Registry, project_id: Any) -> None:
    with pytest.raises((IllumeError, ValueError)):
        registry.versions(project_id)


def test_removed_weights_leave_meta_behind_and_the_number_is_not_given_again(
    registry: Registry, published: AdapterMeta, tmp_path: Path
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
    assert not list(tmp_path.rglob(".staging-*"))


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_a_removal_that_was_interrupted_is_finished_by_the_next(
    registry: Registry, published: AdapterMeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class KilledError(Exception):
        """As if the process had died."""

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "rename") if step == "rename" else (shutil, "rmtree")), die)
        with pytest.raises(KilledError):
            registry.remove(5, "v0001")
    if step == "rename":
        assert registry.verify(5, "v0001") == published, "complete as before"
        assert registry.removed(5) == []
        registry.remove(5, "v0001")
    assert registry.versions(5) == []
    assert registry.removed(5) == [published]
    registry.sweep(older_than_s=-1)
    assert not list(tmp_path.rglob(".staging-*"))
