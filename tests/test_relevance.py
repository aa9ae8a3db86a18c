"""Image-text relevance with tiny encoders, against cosines written down plainly."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402
from tiny_models import tokenizer  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    LlamaConfig,
    LlamaModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from illume_plugin.errors import ImageError, ModelError  # noqa: E402
from illume_plugin.relevance import BATCH, ImageTextEncoder, load_encoder  # noqa: E402

pytestmark = pytest.mark.torch

_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "projection_size": 16,
}
_EYES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
PICTURES = {
    "red": Image.new("RGB", (20, 20), (220, 30, 30)),
    "blue": Image.new("RGB", (30, 20), (20, 40, 230)),
}
TEXTS = ["the ball is red . the dog runs .", "the ball is blue .", ""]


def save(kind: str, folder: Path) -> Path:
    # seeds whose cosines are above 0: below, all would be the same
    torch.manual_seed({"clip": 7, "siglip": 5}[kind])
    size = {"height": 16, "width": 16}
    if kind == "clip":
        CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=_EYES, projection_dim=8)).save_pretrained(
            folder
        )
        image_processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)
        CLIPProcessor(image_processor, tokenizer()).save_pretrained(folder)
    else:
        SiglipModel(SiglipConfig(text_config=_TEXT, vision_config=_EYES)).save_pretrained(folder)
        SiglipProcessor(SiglipImageProcessor(size=size), tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("encoder") / request.param)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ImageTextEncoder:
    return load_encoder(folder, device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for name, picture in PICTURES.items():
        picture.save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in PICTURES}


def by_hand(encoder: ImageTextEncoder, picture: Image.Image, sentence: str) -> float:
    """One picture, one sentence, without batches."""
    padding = "max_length" if "siglip" in encoder.source else "do_not_pad"
    ids = encoder.processor.tokenizer(sentence, padding=padding, max_length=12, return_tensors="pt")
    pixels = encoder.processor.image_processor(images=picture, return_tensors="pt")
    with torch.inference_mode():
        seen = encoder.model.get_image_features(**pixels).pooler_output[0]
        read = encoder.model.get_text_features(**ids).pooler_output[0]
    return max(100 * float(torch.dot(seen, read) / seen.norm() / read.norm()), 0.0)


def test_it_is_the_cosine_of_picture_and_sentence(encoder: ImageTextEncoder, files: dict[str, Path]) -> None:
    found = encoder.relevances([files["red"], files["blue"]], [TEXTS, TEXTS[:1]])
    for picture, texts in zip(PICTURES.values(), found, strict=True):
        first, second = (
            by_hand(encoder, picture, sentence) for sentence in ("the ball is red .", "the dog runs .")
        )
        assert texts[0] == pytest.approx((first, second), abs=1e-3)
    assert found[0][1] == pytest.approx((by_hand(encoder, PICTURES["red"], "the ball is blue ."),), abs=1e-3)
    assert found[0][2] == ()
    assert found[0][0] != pytest.approx(found[1][0], abs=1e-3), "the picture matters"


def test_a_picture_is_encoded_once_for_all_steps_of_a_search(
    folder: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(folder, device="cpu")
    see, seen = ImageTextEncoder._see, []

    def noting(self: ImageTextEncoder, images: list[Path]) -> torch.Tensor:
        seen.extend(images)
        return see(self, images)

    monkeypatch.setattr(ImageTextEncoder, "_see", noting)
    red, blue, changing = files["red"], files["blue"], tmp_path / "changing.png"
    first = encoder.relevances([red, blue], [TEXTS, TEXTS])
    assert encoder.relevances([blue, red], [TEXTS, TEXTS]) == first[::-1]
    assert seen == [red, blue]
    PICTURES["red"].save(changing)
    assert encoder.relevances([changing], [TEXTS])[0] == [pytest.approx(each) for each in first[0]]
    PICTURES["blue"].save(changing)
    os.utime(changing, ns=(1, 1))
    assert encoder.relevances([changing], [TEXTS])[0] == [pytest.approx(each) for each in first[1]]
    assert seen == [red, blue, changing, changing]


def test_below_zero_counts_as_zero(
    encoder: ImageTextEncoder, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, read = ImageTextEncoder._see, ImageTextEncoder._read
    monkeypatch.setattr(ImageTextEncoder, "_see", lambda self, images: -look(self, images).abs())
    monkeypatch.setattr(ImageTextEncoder, "_read", lambda self, texts: read(self, texts).abs())
    fresh = replace(encoder, _seen={})  # it has seen no picture yet
    assert fresh.relevances([files["red"]], [TEXTS[1:2]]) == [[(0.0,)]]


def test_more_than_a_batch(encoder: ImageTextEncoder, files: dict[str, Path]) -> None:
    many = [TEXTS[1]] * (BATCH + 3)
    (found,) = encoder.relevances([files["red"]], [many])
    assert len(found) == len(many)
    assert [value for (value,) in found] == pytest.approx([found[0][0]] * len(many), abs=1e-3)


def test_a_long_sentence_is_cut(encoder: ImageTextEncoder, files: dict[str, Path]) -> None:
    ((((value),),),) = encoder.relevances([files["red"]], [["the red dog runs on the blue grass " * 5]])
    assert 0 <= value <= 100


@pytest.mark.parametrize("texts", [[], [[]], [[""]]])
def test_nothing_to_say(encoder: ImageTextEncoder, files: dict[str, Path], texts: list[list[str]]) -> None:
    assert encoder.relevances([files["red"]] * len(texts), texts) == [[() for _ in some] for some in texts]


def test_a_missing_picture_is_named(encoder: ImageTextEncoder, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        encoder.relevances([tmp_path / "gone.png"], [TEXTS])


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "clip")
    state = AutoModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="ILLUME_RELEVANCE_MODEL"):
        load_encoder(folder)


def test_what_is_not_there_and_what_encodes_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        load_encoder(tmp_path / "nowhere")
    small = {key: _TEXT[key] for key in ("hidden_size", "intermediate_size", "vocab_size")}
    config = LlamaConfig(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, **small)
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    tokenizer().save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelError, match="llama model does not encode"):
        load_encoder(tmp_path / "llama")
