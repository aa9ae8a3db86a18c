"""The build, piece by piece, and once in small from nothing to a folder that transformers loads."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from illume_plugin.embedded import Scene, Split, draw, make_tasks, measure, rationales
from illume_plugin.embedded.build import language, recipe
from illume_plugin.embedded.build.architecture import new_model
from illume_plugin.embedded.build.corpus import (
    ANSWER,
    FITTING,
    RATIONALE,
    Corpus,
    Speaker,
    describe,
    write_corpus,
)
from illume_plugin.embedded.build.pictures import Cells
from illume_plugin.embedded.build.tokens import WHY, make_processor, make_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(0)


@pytest.fixture(scope="module")
def corpus(tokenizer: Any) -> Corpus:
    return write_corpus(160, 0, Split.TRAIN, FITTING, tokenizer)


def test_rows_are_what_the_chat_template_says(tokenizer: Any) -> None:
    processor, speaker = make_processor(tokenizer), Speaker(tokenizer)
    for task in make_tasks(18, seed=1, split=Split.TRAIN):
        said = rationales(task.scene, task.question, task.answer, random.Random(0))
        turns = [
            ("user", [{"type": "image", "image": draw(task.scene, 96)}, _text(task.question_text)]),
            ("assistant", [_text(task.answer)]),
            ("user", [_text(WHY)]),
            ("assistant", [_text(said)]),
        ]
        messages = [{"role": role, "content": content} for role, content in turns]
        ids, parts = speaker.row(task, said)
        batch = processor.apply_chat_template(
            [messages], tokenize=True, return_dict=True, return_tensors="pt"
        )
        assert ids == batch["input_ids"][0].tolist()
        trained = {
            part: tokenizer.decode([i for i, p in zip(ids, parts, strict=True) if p == part])
            for part in (ANSWER, RATIONALE)
        }
        assert trained == {ANSWER: f" {task.answer}</s>", RATIONALE: f" {said}</s>"}


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_every_word_of_the_world_is_one_token(tokenizer: Any) -> None:
    rng = random.Random(0)
    for task in make_tasks(90, seed=2, split=Split.TRAIN):
        said = rationales(task.scene, task.question, task.answer, rng)
        for word in f"{task.question_text} {said}".replace("?", "").replace(".", "").replace(",", "").split():
            assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1, word


def test_a_corpus_survives_its_file(corpus: Corpus, tmp_path: Path) -> None:
    corpus.save(tmp_path / "corpus.npz")
    loaded = Corpus.load(tmp_path / "corpus.npz")
    assert len(loaded) == len(corpus) == 160
    assert np.array_equal(loaded.ids, corpus.ids)
    assert np.array_equal(loaded.roles, corpus.roles)


def test_composed_pictures_look_like_drawn_ones_through_the_processor(tokenizer: Any) -> None:
    processor = make_processor(tokenizer)
    scene = next(task.scene for task in make_tasks(9, seed=3) if len(task.scene.things) > 3)
    cells = Cells(30, seed=0)
    pixels, held = cells.compose(400, np.random.default_rng(0))
    seen = processor.image_processor(draw(scene, 480), return_tensors="pt")["pixel_values"][0]
    assert pixels.shape[1:] == seen.shape
    assert pixels.aminmax() == pytest.approx((seen.min().item(), seen.max().item()), abs=0.15)
    empty = processor.image_processor(draw(Scene(()), 480), return_tensors="pt")["pixel_values"][0]
    blank = [p for p, h in zip(pixels, held, strict=True) if not h.any()]
    assert blank
    assert (blank[0] - empty).abs().max() < 0.05
    assert set(np.unique(held[..., 0])) == set(range(6))


def test_a_scene_is_described_by_index() -> None:
    task = make_tasks(1, seed=4)[0]
    cells = describe(task.scene)
    assert {place for place in range(9) if cells[place].any()} == {t.place for t in task.scene.things}


def test_losses_cover_the_answer_alone_until_the_model_explains(tokenizer: Any, corpus: Corpus) -> None:
    torch.manual_seed(0)
    learner = language.Learner(new_model(tokenizer), tokenizer)
    rows = np.arange(8)
    silent = language.Course("answers", 1, 8, 1e-3, explain=False, noise=0.0)
    explaining = language.Course("rationales", 1, 8, 1e-3, explain=True, noise=0.0)
    with torch.no_grad():
        first, second = (language.losses(learner, corpus, rows, c) for c in (silent, explaining))
    assert torch.allclose(first[0], second[0], atol=1e-5)  # what comes later changes nothing earlier
    assert torch.allclose(first[2], second[2], atol=1e-5)
    assert first[1] == 0 < second[1]


def test_batches_hold_each_row_at_most_once_an_epoch_and_repeat_with_the_seed(corpus: Corpus) -> None:
    one, other = (language.batches(corpus, 5, explain=True, seed=7) for _ in range(2))
    epoch = [next(one) for _ in range(32)]
    assert sorted(np.concatenate(epoch)) == list(range(160))
    assert all(np.array_equal(a, next(other)) for a in epoch)


def test_a_small_build_from_nothing_is_a_folder_that_answers(tmp_path: Path) -> None:
    said: list[str] = []
    recipe.build(recipe.SHIPPED.scaled(0.005), 0, tmp_path, said.append)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        towers = [name for name in weights.keys() if name.startswith("vision_tower.")]  # noqa: SIM118
    assert towers
    assert all(name.startswith("vision_tower.vision_model.") for name in towers)
    assert json.loads((tmp_path / "illume.json").read_text()) == {"why": WHY}
    vlm = measure.load(tmp_path)
    tasks = make_tasks(2, seed=0)
    assert len(measure.answers(vlm, tasks, [draw(task.scene, 96) for task in tasks])) == 2
    assert "drawing" in said
