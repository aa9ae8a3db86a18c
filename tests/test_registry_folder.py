"""Versions in a folder: what dying processes leave behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from adapter_stores import FIELDS, staged

from illume_plugin.errors import UnavailableError
from illume_plugin.registry import FolderStore, Registry
from illume_plugin.types import AdapterMeta


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path / "adapters"))


@pytest.fixture
def published(registry: Registry, tmp_path: Path) -> AdapterMeta:
    return registry.publish(5, staged(tmp_path / "run"), **FIELDS)


def test_sweep_removes_old_leftovers_only(registry: Registry, published: AdapterMeta, tmp_path: Path) -> None:
    project = tmp_path / "adapters" / "project-5"
    old, young = project / ".staging-old", project / ".staging-young"
    for folder in (old, young):
        staged(folder)
    os.utime(old, (1, 1))
    assert registry.sweep() == 1
    assert sorted(p.name for p in project.iterdir()) == [".staging-young", "v0001"]
    assert registry.versions(5) == [published]


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


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "adapters").write_text("a file")
    with pytest.raises(UnavailableError, match="Nothing can be written"):
        Registry(FolderStore(tmp_path / "adapters")).store.try_out()
