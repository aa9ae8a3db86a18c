"""Teacher-forced log-probabilities against a computation by hand, one token at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.errors import ImageError

torch = pytest.importorskip("torch")

from illume_plugin.base_model import BaseModel, encode_prompts, load_base_model, open_image  # noqa: E402
from illume_plugin.scoring import logprob_mean  # noqa: E402

pytestmark = pytest.mark.torch

TASK = make_tasks(1, seed=4)[0]
TEXTS = [
    "because there is a red circle in the center .",
    "because i see it .",
    "no",
    "because the object in the top left is a large blue square , or so it seems to me today .",
]


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "1.png"
    draw(TASK.scene, 240).save(path)
    return path


def by_hand(base: BaseModel, image: Path, text: str) -> float:
    """Feed the prompt and then one token after the other, adding up log P(next token)."""
    tokenizer = base.processor.tokenizer
    prompt = base.prompts.rationale(TASK.question_text, TASK.answer)
    batch = encode_prompts(base.prompts, [prompt], [open_image(image)])
    ids, total = batch["input_ids"], 0.0
    tokens = [*tokenizer(f" {text}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    for token in tokens:
        with base.adapters.using(None) as model, torch.inference_mode():
            logits = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=batch["pixel_values"]
            ).logits
        total += float(logits[0, -1].log_softmax(-1)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return total / len(tokens)


def score(base: BaseModel, image: Path, texts: list[str], **settings: int) -> list[float]:
    return logprob_mean(base, image, TASK.question_text, TASK.answer, texts, **settings)


def test_it_is_the_mean_over_tokens_with_the_end(base: BaseModel, image: Path) -> None:
    assert score(base, image, TEXTS) == pytest.approx([by_hand(base, image, t) for t in TEXTS], abs=1e-4)


@pytest.mark.parametrize("tokens", [1, 12])
def test_batching_and_padding_change_nothing(base: BaseModel, image: Path, tokens: int) -> None:
    assert score(base, image, TEXTS, tokens_at_a_time=tokens) == pytest.approx(
        score(base, image, TEXTS), abs=1e-4
    )


def test_the_score_stays_with_its_text(base: BaseModel, image: Path) -> None:
    assert score(base, image, TEXTS[::-1]) == pytest.approx(score(base, image, TEXTS)[::-1], abs=1e-4)


def test_nothing_to_score(base: BaseModel, image: Path) -> None:
    assert score(base, image, []) == []


def test_a_text_without_words_is_scored_by_its_end_alone(base: BaseModel, image: Path) -> None:
    assert score(base, image, ["", "no"])[0] < -1


def test_another_picture_gives_another_score(base: BaseModel, image: Path, tmp_path: Path) -> None:
    draw(make_tasks(3, seed=9)[2].scene, 240).save(tmp_path / "other.png")
    assert score(base, image, TEXTS) != pytest.approx(score(base, tmp_path / "other.png", TEXTS), abs=1e-3)


def test_a_missing_picture_is_named(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        score(base, tmp_path / "gone.png", TEXTS)
