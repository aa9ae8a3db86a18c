"""Room on the disks that we write to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import Finding
from backend.service import Service

#: A training run of a base model of 7 B keeps two checkpoints (adapter and optimizer), its adapter and its
#: pictures; the database's log grows while it runs. Bytes.
WANTED = 2 * 2**30
#: Below this SQLite's next checkpoint or a picture may be what does not fit any more, bytes.
LEAST = 256 * 2**20


def rooms(service: Service) -> Iterator[Check]:
    """One check for every disk that holds something of ours, named by what it holds."""
    by_disk: dict[int, list[str]] = {}
    folders: dict[int, Path] = {}
    for purpose, folder in _folders(service):
        there = _nearest(folder)
        disk = there.stat().st_dev
        folders.setdefault(disk, there)
        by_disk.setdefault(disk, []).append(purpose)
    for disk, purposes in by_disk.items():
        yield _room(f"disk of {', '.join(purposes)}", folders[disk])


def _room(name: str, folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    detail = f"{_gib(free)} free at {folder.absolute()}"
    if free < LEAST:
        return found(name, Finding.DISK_FULL, f"{detail}; at least {_gib(LEAST)} is needed")
    if free < WANTED:
        return found(name, Finding.DISK_NEARLY_FULL, f"{detail}; {_gib(WANTED)} is wanted")
    return good(name, detail)


def _folders(service: Service) -> Iterator[tuple[str, Path]]:
    settings = service.settings
    yield "data folder", settings.data_dir
    yield "adapters", service.registry.store.root
    yield "pictures", settings.data_dir / "pictures"
    if settings.base_model != "embedded" and not Path(settings.base_model).exists():
        from huggingface_hub.constants import HF_HUB_CACHE

        yield "the hub's cache", Path(HF_HUB_CACHE)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
