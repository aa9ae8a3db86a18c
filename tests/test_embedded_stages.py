"""A build that was stopped goes on with the stage that was not finished."""

from pathlib import Path

import pytest
import torch
from torch import nn

from illume_plugin.embedded.build import recipe
from illume_plugin.embedded.build.stages import FOLDER, Stages

pytestmark = pytest.mark.torch


class StoppedError(Exception):
    pass


def taught(module: nn.Linear, value: float) -> None:
    nn.init.constant_(module.weight, value)


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    Stages(tmp_path, said.append, seed=0).do("sight", first, lambda: taught(first, 3.0), steps=5)
    Stages(tmp_path, said.append, seed=0).do("sight", second, lambda: pytest.fail("done again"), steps=5)
    assert torch.equal(first.weight, second.weight)
    assert said == ["sight: done before"]


@pytest.mark.parametrize(("seed", "steps"), [(1, 5), (0, 6)])
def test_other_numbers_or_another_seed_do_it_again(tmp_path: Path, seed: int, steps: int) -> None:
    module = nn.Linear(2, 1)
    Stages(tmp_path, print, seed=0).do("sight", module, lambda: taught(module, 3.0), steps=5)
    Stages(tmp_path, print, seed=seed).do("sight", module, lambda: taught(module, 4.0), steps=steps)
    assert module.weight.tolist() == [[4.0, 4.0]]


def test_a_change_repeats_what_comes_after_it(tmp_path: Path) -> None:
    def both(steps: int) -> list[str]:
        done: list[str] = []
        module = nn.Linear(2, 1)
        stages = Stages(tmp_path, print, seed=0)
        stages.do("answers", module, lambda: done.append("answers"), steps=steps)
        stages.do("rationales", module, lambda: done.append("rationales"), steps=1)
        return done

    assert both(1) == ["answers", "rationales"]
    assert both(1) == []
    assert both(2) == ["answers", "rationales"]


def test_a_stage_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)

    def stopped() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        Stages(tmp_path, print, seed=0).do("sight", module, stopped)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_stopped_build_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = recipe.SHIPPED.scaled(0.002)
    recipe.build(small, 0, tmp_path / "unbroken", lambda _said: None)
    learn = recipe.train

    def until_the_last_course(
        learner: object, corpus: object, held_out: object, course: object, *rest: object
    ) -> None:
        if course == small.unlearning:
            raise StoppedError
        learn(learner, corpus, held_out, course, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(recipe, "train", until_the_last_course)
    with pytest.raises(StoppedError):
        recipe.build(small, 0, tmp_path / "stopped", lambda _said: None)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    monkeypatch.undo()
    said: list[str] = []
    recipe.build(small, 0, tmp_path / "stopped", said.append)
    assert "rationales: done before" in said
    unbroken, stopped = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("unbroken", "stopped")
    )
    assert unbroken == stopped
    assert not (tmp_path / "stopped" / FOLDER).exists()
