"""Checkpoints on disk: complete or not there, of this run, and no more than asked for."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from illume_plugin.errors import RunError

torch = pytest.importorskip("torch")

from illume_plugin.training.checkpoints import FACTS_FILE, Checkpoint, Checkpoints  # noqa: E402
from illume_plugin.training.random_state import random_state, set_random_state  # noqa: E402

pytestmark = pytest.mark.torch


def written(checkpoints: Checkpoints, step: int, value: float = 1.0) -> Checkpoint:
    checkpoints.open_draft(step)
    checkpoints.put(step, "weights", {"a": torch.full((3,), value)})
    return checkpoints.publish(step, {"value": value})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", run="one")
    assert checkpoints.newest() is None
    told = written(checkpoints, 7, 2.5)
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.facts, found.size) == (7, {"value": 2.5}, told.size)
    assert found.size == (found.folder / "weights.safetensors").stat().st_size
    assert found.tensors("weights")["a"].tolist() == [2.5] * 3
    assert found.has("weights")
    assert not found.has("random-0")


def test_the_newest_stay_and_drafts_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, run="one", kept=2)
    checkpoints.open_draft(3)  # a process died here
    for step in (5, 10, 100):
        written(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, run="one")
    written(checkpoints, 5, 1.0)
    written(checkpoints, 5, 2.0)
    found = checkpoints.newest()
    assert found is not None
    assert found.facts == {"value": 2.0}


def test_those_of_another_run_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(Checkpoints(tmp_path, run="one"), 5)
    assert Checkpoints(tmp_path, run="another").newest() is None
    assert "other data or settings" in caplog.text


@pytest.mark.parametrize("damage", ["cut short", "a file is gone", "not JSON", "no facts"])
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, run="one")
    written(checkpoints, 5)
    folder = written(checkpoints, 6).folder
    weights = folder / "weights.safetensors"
    match damage:
        case "cut short":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "a file is gone":
            weights.unlink()
        case "not JSON":
            (folder / FACTS_FILE).write_text("{")
        case "no facts":
            (folder / FACTS_FILE).unlink()
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 5
    assert str(folder) in caplog.text


def test_what_cannot_be_read_later_is_told(tmp_path: Path) -> None:
    found = written(Checkpoints(tmp_path, run="one"), 5)
    shutil.rmtree(found.folder)
    with pytest.raises(RunError, match="cannot be read"):
        found.tensors("weights")


def test_no_room_is_told(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file where the folder should be")
    with pytest.raises(RunError, match="cannot be written"):
        Checkpoints(tmp_path / "c", run="one").open_draft(1)


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        gauss = [random.gauss(0, 1) for _ in range(3)]  # an odd number: one is kept inside
        return [*gauss, *np.random.standard_normal(3).tolist(), *torch.randn(3).tolist()]

    before = random_state()
    try:
        draw()
        middle = random_state()
        expected = draw()
        draw()
        set_random_state(middle)
        assert draw() == expected
    finally:
        set_random_state(before)
