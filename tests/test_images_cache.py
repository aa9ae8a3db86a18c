"""The bounded folder of pictures: the least recently used go, what somebody uses stays, whoever dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.images import cache
from illume_plugin.images.cache import IN_USE_S, FileCache, pin

START = 1_000_000.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def keep(files: FileCache, name: str, size: int = 10) -> Path:
    with files.draft() as draft:
        draft.write_bytes(b"x" * size)
        return files.keep(draft, name)


def used(root: Path, name: str, at: float) -> None:
    os.utime(root / name, (at, at))


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != ".lock"}


def filled(root: Path, clock: Clock, *, bound: int, files: int) -> FileCache:
    """A folder of files of 10 bytes, f0 unused for longest, all of them unused for a day."""
    roomy = FileCache(root, max_bytes=10**9, clock=clock)
    for n in range(files):
        keep(roomy, f"f{n}")
        used(root, f"f{n}", START + n)
    clock.now = START + 86_400
    return FileCache(root, max_bytes=bound, clock=clock)


def test_what_is_kept_is_found(root: Path, clock: Clock) -> None:
    files = FileCache(root, max_bytes=100, clock=clock)
    assert files.find("a") is None
    kept = keep(files, "a")
    assert files.find("a") == kept == root / "a"
    keep(files, "a", 20)
    assert kept.stat().st_size == 20, "the later one of a name takes its place"


def test_those_that_nobody_used_for_longest_go(root: Path, clock: Clock) -> None:
    files = filled(root, clock, bound=160, files=20)
    files.find("f0")
    assert files.sweep() == 5
    assert names(root) == {"f0"} | {f"f{n}" for n in range(6, 20)}, "15 of 10 bytes: a sixteenth below 160"


def test_below_the_bound_nothing_goes(root: Path, clock: Clock) -> None:
    files = filled(root, clock, bound=200, files=20)
    assert files.sweep() == 0
    assert len(names(root)) == 20


def test_what_was_asked_for_lately_stays_however_full_the_folder(root: Path, clock: Clock) -> None:
    files = filled(root, clock, bound=10, files=3)
    for n in range(3):
        files.find(f"f{n}")
    assert files.sweep() == 0
    clock.now += IN_USE_S + 1
    assert files.sweep() == 3


def test_what_is_asked_for_while_others_look_through_the_folder_stays(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = filled(root, clock, bound=10, files=3)
    looked = FileCache._files

    def asked_meanwhile(self: FileCache, now: float) -> list[cache._File]:
        found = list(looked(self, now))
        assert self.find("f1")
        return found

    monkeypatch.setattr(FileCache, "_files", asked_meanwhile)
    files.sweep()
    assert names(root) == {"f1"}


def test_the_first_addition_of_a_process_makes_room(root: Path, clock: Clock) -> None:
    files = filled(root, clock, bound=100, files=30)
    kept = keep(files, "new")
    used(root, "new", clock.now)
    assert kept.exists()
    assert len(names(root)) < 12


def test_a_folder_that_grows_is_bounded(root: Path, clock: Clock) -> None:
    files = FileCache(root, max_bytes=1000, clock=clock)
    for n in range(1000):
        keep(files, f"f{n}")
        used(root, f"f{n}", clock.now)
        clock.now += IN_USE_S + 1
        assert sum(path.stat().st_size for path in root.iterdir()) <= 1000 + 1000 / 16 + 10


def test_what_a_dead_writer_left_goes_after_an_hour(root: Path, clock: Clock) -> None:
    files = filled(root, clock, bound=10**6, files=1)
    for name, age in ((".fetching-old", 7200), (".fetching-new", 60)):
        (root / name).write_bytes(b"half")
        used(root, name, clock.now - age)
    files.sweep()
    assert names(root) == {"f0", ".fetching-new"}


def test_a_draft_that_is_not_kept_leaves_nothing(root: Path, clock: Clock) -> None:
    with FileCache(root, max_bytes=10, clock=clock).draft() as draft:
        draft.write_bytes(b"x")
    assert names(root) == set()


def test_a_pinned_file_outlives_its_place_in_the_cache(root: Path, clock: Clock, tmp_path: Path) -> None:
    files = filled(root, clock, bound=10, files=3)
    pinned = pin(root / "f0", tmp_path / "run" / "pictures")
    assert pin(root / "f0", tmp_path / "run" / "pictures") == pinned, "twice is once"
    files.sweep()
    assert not (root / "f0").exists()
    assert pinned.read_bytes() == b"x" * 10


def test_where_there_are_no_links_a_pin_is_a_copy(
    root: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(root, clock, bound=10, files=1)

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(os, "link", refuse)
    pinned = pin(root / "f0", tmp_path / "run")
    assert pinned.read_bytes() == b"x" * 10
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["f0"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=40), st.integers(10, 100))
def test_the_newest_that_fit_are_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, added: list[tuple[int, int]], bound: int
) -> None:
    """Whatever is added in whatever order: no file that stays was unused for longer than one that went."""
    root, clock = tmp_path_factory.mktemp("kept"), Clock()
    roomy = FileCache(root, max_bytes=10**9, clock=clock)
    for moment, (name, size) in enumerate(added):
        keep(roomy, str(name), size)
        used(root, str(name), START + moment)
    before = {path.name: path.stat() for path in root.iterdir() if path.name != ".lock"}
    clock.now = START + 86_400
    FileCache(root, max_bytes=bound, clock=clock).sweep()
    left = names(root)
    assert sum(before[name].st_size for name in left) <= bound
    gone = [before[name].st_mtime for name in before.keys() - left]
    assert all(before[name].st_mtime > last for name in left for last in gone)


#: Keeps and finds files in a small folder; a file that was found is there, and whole, for the time of grace.
WORK = """
import random, sys, time
from pathlib import Path
from illume_plugin.images import cache

cache.IN_USE_S, cache._NOTED_S = 0.5, 0.0  # with the usual times nothing would go
root, seed = Path(sys.argv[1]), int(sys.argv[2])
draw = random.Random(seed)
files = cache.FileCache(root, max_bytes=4000)
for _ in range(400):
    name = str(draw.randrange(60))
    asked = time.monotonic()
    found = files.find(name)
    if found is None:
        with files.draft() as draft:
            draft.write_bytes(name.encode() * 100)
            found = files.keep(draft, name)
    try:
        assert found.read_bytes() == name.encode() * 100
    except FileNotFoundError:
        assert time.monotonic() - asked > cache.IN_USE_S, name
    if draw.random() < 0.1:
        files.sweep()
"""


def test_many_processes_share_a_folder(root: Path) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", WORK, str(root), str(n)]) for n in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    assert not [name for name in names(root) if name.startswith(".")]
