"""Pairs made to be wrong: for which tasks, how many, and that a run which is resumed has the same."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.plan import sentences
from illume_plugin.embedded import base_model_path, draw, make_tasks, rationales
from illume_plugin.errors import RunError, SettingsError
from illume_plugin.examples import LabelledRationale, PairSource, PreferencePair
from illume_plugin.identity import wording
from illume_plugin.training import TrainConfig
from illume_plugin.training.estimate import work_of
from illume_plugin.training.negative_pairs import (
    counterpart,
    keep_pairs,
    kept_pairs,
    other_pictures,
    with_pairs,
    without_counterpart,
)
from illume_plugin.training.objectives.settings import ObjectiveSettings
from illume_plugin.types import TrainingRow, TrainingSet


def configured(share: float = 0.25, *, dpo: float = 1.0, seed: int = 0) -> TrainConfig:
    objectives = ObjectiveSettings(dpo=dpo, negative_share=share)
    return TrainConfig(rank=4, batch_size=8, micro_batch_size=8, seed=seed, objectives=objectives)


ON = configured()


def row(
    task_id: int, rationale: str | None = None, weight: float = 1.0, *, answer_only: bool = False
) -> TrainingRow:
    text = None if answer_only else rationale or f"because of {task_id}"
    return TrainingRow(task_id, f"/{task_id}.png", "q", "a", text, weight)


def pair(task_id: int, number: int = 0) -> PreferencePair:
    key = task_id, f"/{task_id}.png", "q", "a"
    return PreferencePair(*key, f"because of {task_id}", f"no {number}", PairSource.FITS)


def a_set(*rows: TrainingRow, pairs: int) -> TrainingSet:
    """With so many pairs, all of task 0."""
    held = tuple(pair(0, number) for number in range(pairs))
    return TrainingSet(1, (row(0), *rows), (), "abc", pairs=held)


@pytest.mark.parametrize(
    ("pairs", "share", "made"),
    [(12, 0.25, 4), (11, 0.25, 3), (3, 0.25, 1), (2, 0.25, 0), (0, 0.25, 0), (90, 0.1, 5), (12, 0.0, 0)],
)
def test_a_quarter_of_all_pairs_at_most(pairs: int, share: float, made: int) -> None:
    training_set = a_set(*(row(task_id) for task_id in range(1, 6)), pairs=pairs)
    assert len(without_counterpart(training_set, configured(share))) == made


@given(st.integers(0, 60), st.integers(0, 30), st.floats(0, 0.25))
def test_the_share_is_never_passed(pairs: int, tasks: int, share: float) -> None:
    training_set = a_set(*(row(task_id) for task_id in range(1, tasks + 1)), pairs=pairs)
    made = len(without_counterpart(training_set, configured(share)))
    assert made <= share * (pairs + made) + 1e-9


def test_none_without_being_asked_for() -> None:
    training_set = a_set(row(1), pairs=12)
    assert without_counterpart(training_set, TrainConfig(objectives=ObjectiveSettings(dpo=1))) == []
    assert without_counterpart(training_set, configured(dpo=0.0)) == []


def test_only_rationales_of_tasks_in_no_pair_and_of_each_the_most_agreed() -> None:
    rows = [row(1, "weak", 0.6), row(1, "strong", 0.9), row(2, answer_only=True), row(3)]
    found = without_counterpart(a_set(*rows, pairs=12), ON)
    assert {each.rationale for each in found} == {"strong", "because of 3"}


def test_the_seed_decides_which_and_the_order_of_rows_does_not() -> None:
    rows = [row(task_id) for task_id in range(1, 40)]
    drawn = [without_counterpart(a_set(*rows, pairs=12), configured(seed=seed)) for seed in range(3)]
    assert len({tuple(each.task_id for each in found) for found in drawn}) == 3
    assert without_counterpart(a_set(*rows[::-1], pairs=12), configured(seed=2)) == drawn[2]


def test_the_picture_is_that_of_another_training_task() -> None:
    rows = [row(task_id) for task_id in range(1, 30)]
    training_set = a_set(*rows, pairs=60)
    found = other_pictures(rows, training_set, ON)
    assert list(found) == rows
    assert all(picture != each.image for each, picture in found.items())
    assert set(found.values()) <= {each.image for each in training_set.rows}
    assert len(set(found.values())) > 5
    assert other_pictures(rows[:1], TrainingSet(1, tuple(rows[:1]), (), ""), ON) == {}


@pytest.mark.parametrize(
    ("texts", "rejected"),
    [
        (["A dog.", "a cat"], "a cat"),
        (["it  IS a dog", "a dog"], None),
        ([], None),
        (["because of 2"], "because of 2"),  # accepted, but of another task
    ],
)
def test_what_people_accepted_is_not_made_wrong(texts: list[str], rejected: str | None) -> None:
    rows = [row(1, "a dog", 0.75), row(1, "it is a dog", 0.6), row(2)]
    found = counterpart(rows[0], texts, a_set(*rows, pairs=0))
    expected = PreferencePair(1, "/1.png", "q", "a", "a dog", rejected or "", PairSource.NEGATIVE, 0.75)
    assert found == (expected if rejected else None)


def test_labels_know_that_they_are_in_a_pair() -> None:
    key = 1, "/1.png", "q", "a"
    labels = tuple(LabelledRationale(*key, text, desirable=True) for text in ("A dog.", "a cat"))
    made = PreferencePair(*key, "a dog", "a cow", PairSource.NEGATIVE)
    found = with_pairs(replace(a_set(row(1), pairs=3), labels=labels), [made])
    assert [label.paired for label in found.labels] == [True, False]
    assert found.pairs[-1] == made
    assert len(found.pairs) == 4


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "negatives.json"
    keep_pairs(path, [pair(1), pair(2)])
    assert kept_pairs(path) == [pair(1), pair(2)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{}", '{"pairs": [{"task_id": 1}]}', '{"pairs": [{"source": "x"}]}'])
def test_what_cannot_be_read_back(tmp_path: Path, text: str) -> None:
    (tmp_path / "negatives.json").write_text(text)
    with pytest.raises(RunError, match=r"negatives\.json cannot be read"):
        kept_pairs(tmp_path / "negatives.json")


@pytest.mark.parametrize("share", [0.26, -0.1, float("nan"), True, "much"])
def test_a_share_that_cannot_be(share: Any) -> None:
    with pytest.raises(SettingsError, match=r"negative_share must be from 0 to 0\.25, not"):
        ObjectiveSettings(negative_share=share)


def test_the_dry_run_tells_it() -> None:
    training_set = a_set(row(1), row(2), pairs=6)
    lines = list(sentences(training_set, work_of(training_set, ON), ON))
    assert "Up to 2 more pairs are made to be wrong, for tasks where every rationale fits." in lines
    off = TrainConfig()
    assert not any("wrong" in line for line in sentences(training_set, work_of(training_set, off), off))


# -- drawn by the embedded model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, Mapping[str, Path]]:
    """Task 0 with six pairs, and three tasks where everything fits: room for two negatives."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, images = [], {}
    for index, task in enumerate(make_tasks(4, seed=5)):
        images[f"/{index}.png"] = folder / f"{index}.png"
        draw(task.scene, 144).save(images[f"/{index}.png"])
        told = rationales(task.scene, task.question, task.answer, random.Random(index))
        rows.append(TrainingRow(index, f"/{index}.png", task.question_text, task.answer, told))
    first = rows[0]
    key = first.task_id, first.image, first.question, first.answer, first.rationale or ""
    pairs = tuple(PreferencePair(*key, f"there are {k} boats .", PairSource.FITS) for k in range(6))
    return TrainingSet(1, tuple(rows), (), "abc", pairs=pairs), images


@pytest.fixture(scope="module")
def base() -> Any:
    pytest.importorskip("torch")
    from illume_plugin.base_model import load_base_model

    return load_base_model(base_model_path(), device="cpu")


@pytest.mark.torch
def test_the_model_says_what_is_wrong_and_a_resumed_run_has_the_same(
    base: Any, world: tuple[TrainingSet, Mapping[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from illume_plugin.generation.engine import TransformersGenerator
    from illume_plugin.training.negative_draws import with_negatives
    from illume_plugin.training.trainer import train_adapter

    training_set, images = world
    kept, notes, figures = tmp_path / "run" / "negatives.json", [], []  # type: ignore[var-annotated]

    def train(name: str) -> None:
        train_adapter(
            base,
            name,
            training_set,
            images,
            replace(ON, max_steps=1),
            parent=None,
            scratch=tmp_path / "scratch",
            progress=lambda *_: None,
            figures=figures.append,
            notice=notes.append,
            negatives=kept,
        )

    train("new")
    made = kept_pairs(kept)
    told = {each.task_id: each.rationale for each in training_set.rows}
    assert 1 <= len(made) <= 2
    for each in made:
        assert each.task_id != 0
        assert each.source is PairSource.NEGATIVE
        assert each.chosen == told[each.task_id]
        assert wording(each.rejected) not in {"", wording(each.chosen)}
    assert notes == [f"{len(made)} pairs were made to be wrong, beside 6 that people made."]
    assert "dpo/loss" in figures[0]
    # drawn again, as by a run that was killed before they were kept, they are the same
    base.adapters.drop("new")
    kept.unlink()
    train("new")
    assert kept_pairs(kept) == made
    # what was kept is read, not drawn: the adapter may be another one by then
    base.adapters.drop("new")
    monkeypatch.setattr(TransformersGenerator, "draw", lambda *_args, **_more: pytest.fail("drawn again"))
    train("new")
    assert json.loads(kept.read_text())["pairs"]
    base.adapters.drop("new")
    monkeypatch.undo()
    found = with_negatives(base, None, training_set, images, ON)  # type: ignore[arg-type]
    assert found.pairs[:6] == training_set.pairs
    assert 7 <= len(found.pairs) <= 8
