"""Copies on this machine: verified, bounded, and never taken from under somebody's hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from adapter_stores import FIELDS, SharedStore, shared_store, staged
from hypothesis import given, settings
from hypothesis import strategies as st

from illume_plugin.registry import META_FILE, Registry

#: Bytes of the weights; the other two files together are smaller.
WEIGHTS = 10_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SharedStore]:
    """With versions v0001 to v0004 that another machine has published."""
    with shared_store("memory", tmp_path) as found:
        registry = found.machine("publisher")
        for number in range(4):
            registry.publish(5, staged(tmp_path / "run", bytes([number]) * WEIGHTS), **FIELDS)
        yield found


def copies(registry: Registry) -> list[str]:
    """The versions of which there is a copy."""
    return sorted(path.name for path in registry.store.root.glob("project-5/v*"))


def use(registry: Registry, *versions: str) -> None:
    """Use one after another, each a second later."""
    for version in versions:
        with registry.hold(5, version):
            pass
        lock = registry.store.root / "locks" / f"project-5-{version}"
        use.now += 1  # type: ignore[attr-defined]
        os.utime(lock, (use.now, use.now))  # type: ignore[attr-defined]


use.now = 1_000_000_000  # type: ignore[attr-defined]


def test_the_one_not_used_for_longest_goes(store: SharedStore) -> None:
    registry = store.machine("b", cache_bytes=2 * WEIGHTS + 2000)
    use(registry, "v0001", "v0002", "v0001", "v0003")
    assert copies(registry) == ["v0001", "v0003"]


def test_using_a_copy_is_noted(store: SharedStore) -> None:
    registry = store.machine("b")
    use(registry, "v0001")
    lock = registry.store.root / "locks" / "project-5-v0001"
    before = lock.stat().st_mtime
    with registry.hold(5, "v0001"):
        assert lock.stat().st_mtime > before


def test_one_in_use_stays_and_goes_later(store: SharedStore) -> None:
    registry = store.machine("b", cache_bytes=1)
    other_process = store.machine("b", cache_bytes=1)
    with ExitStack() as held:
        one = held.enter_context(other_process.hold(5, "v0001"))
        use(registry, "v0002", "v0003")
        assert copies(registry) == ["v0001", "v0003"]
        assert (one / META_FILE).is_file()
    use(registry, "v0004")
    assert copies(registry) == ["v0004"]


def test_a_damaged_copy_is_fetched_again(store: SharedStore, caplog: pytest.LogCaptureFixture) -> None:
    registry = store.machine("b")
    for name, data in (("adapter_model.safetensors", b"x"), (META_FILE, b"{}"), ("more.bin", b"")):
        with registry.hold(5, "v0001") as folder:
            pass
        (folder / name).write_bytes(data)
        with registry.hold(5, "v0001") as folder:
            assert (folder / "adapter_model.safetensors").stat().st_size == WEIGHTS
        assert "fetched again" in caplog.text
        caplog.clear()


def test_a_damaged_copy_is_renewed_while_somebody_uses_it(store: SharedStore) -> None:
    registry = store.machine("b")
    with registry.hold(5, "v0001") as folder:
        (folder / "adapter_config.json").unlink()
        with registry.hold(5, "v0001"):
            assert (folder / "adapter_config.json").is_file()


def test_a_fetch_that_failed_leaves_nothing(store: SharedStore) -> None:
    registry = store.machine("b")
    store.delete("project-5/v0001/adapter_model.safetensors")
    with pytest.raises(Exception, match="v0001 is damaged"):
        registry.fetch(5, "v0001")
    assert copies(registry) == []
    assert not list(registry.store.root.glob(".staging-*"))


def test_what_a_dead_fetch_left_goes_with_time(store: SharedStore) -> None:
    registry = store.machine("b")
    use(registry, "v0001")
    old, young = (registry.store.root / f".staging-{name}" for name in ("old", "young"))
    for folder in (old, young):
        staged(folder)
    os.utime(old, (1, 1))
    use(registry, "v0002")
    assert not old.exists()
    assert young.exists()


def test_removing_a_version_removes_its_copy_here(store: SharedStore) -> None:
    registry = store.machine("b")
    use(registry, "v0001", "v0002")
    registry.remove(5, "v0001")
    assert copies(registry) == ["v0002"]


def test_other_stores_have_other_copies(store: SharedStore, tmp_path: Path) -> None:
    registry = store.machine("b")
    use(registry, "v0001")
    with shared_store("memory", tmp_path) as other:
        there = other.machine("b")
        there.publish(5, staged(tmp_path / "run", b"other"), **FIELDS)
        for one, size in ((there, 5), (registry, WEIGHTS)):
            with one.hold(5, "v0001") as folder:
                assert (folder / "adapter_model.safetensors").stat().st_size == size


@settings(max_examples=30)
@given(uses=st.lists(st.integers(1, 4), max_size=12), room=st.integers(0, 4))
def test_never_more_than_fits_but_for_the_last_one(
    tmp_path_factory: pytest.TempPathFactory, uses: list[int], room: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    with shared_store("memory", folder) as store:
        publisher = store.machine("publisher")
        for _ in range(4):
            publisher.publish(5, staged(folder / "run", b"x" * WEIGHTS), **FIELDS)
        registry = store.machine("b", cache_bytes=room * (WEIGHTS + 2000))
        last: list[int] = []
        for number in uses:
            use(registry, f"v{number:04d}")
            last = [number, *(one for one in last if one != number)]
            expected = sorted(f"v{one:04d}" for one in last[: max(1, room)])
            assert copies(registry) == expected
            last = last[: max(1, room)]
