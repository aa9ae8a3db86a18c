"""Loading a base model, what is said to it, and adapters beside each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from illume_plugin.embedded import base_model_path
from illume_plugin.errors import ImageError, ModelError

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_models import tokenizer as words  # noqa: E402

from illume_plugin.base_model import (  # noqa: E402
    BaseModel,
    Prompts,
    Role,
    encode_prompts,
    encode_rows,
    load_base_model,
    loading,
    open_image,
)
from illume_plugin.training import TrainConfig  # noqa: E402
from illume_plugin.training.lora import language_layers, lora_config  # noqa: E402

pytestmark = pytest.mark.torch

QUESTION, ANSWER, TEXT = "what color is the object in the center ?", "red", "because i see it ."
PICTURE = Image.new("RGB", (72, 72), (220, 40, 40))


@pytest.fixture(scope="module")
def shared() -> BaseModel:
    """For tests that load no adapter."""
    return load_base_model(base_model_path(), device="cpu")


@pytest.fixture
def base() -> BaseModel:
    return load_base_model(base_model_path(), device="cpu")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_model_path(), tmp_path / "model"))


# prompts


def test_chat_prompts_follow_the_template(shared: BaseModel) -> None:
    answer = "<s><user> what color is the object in the center ?<image><assistant>"
    assert shared.prompts.answer(QUESTION) == answer
    assert shared.prompts.rationale(QUESTION, ANSWER) == f"{answer} red</s><user> Why?<assistant>"


def test_an_explained_row_is_the_template_of_the_whole_conversation(shared: BaseModel) -> None:
    row = shared.prompts.explained(QUESTION, ANSWER, TEXT)
    assert [(piece.role, piece.text) for piece in row] == [
        (Role.PROMPT, "<s><user> what color is the object in the center ?<image><assistant>"),
        (Role.ANSWER, " red</s>"),
        (Role.PROMPT, "<user> Why?<assistant>"),
        (Role.RATIONALE, " because i see it .</s>"),
    ]
    assert "".join(p.text for p in row) == "".join(
        p.text for p in shared.prompts.told(QUESTION, ANSWER, TEXT)
    )


class PlainProcessor:
    """A processor without a chat template, such as BLIP-2's."""

    chat_template = None
    tokenizer = words()


def test_plain_prompts_are_illumes() -> None:
    prompts = Prompts(PlainProcessor(), ends=("</s>",))
    assert prompts.answer("what is it?") == "Q: what is it? A:"
    assert prompts.rationale("what is it?", "a dog") == "Q: what is it? A: a dog, seeing that"
    assert [(p.role, p.text) for p in prompts.explained("what is it?", "a dog", "it barks")] == [
        (Role.PROMPT, "Q: what is it? A:"),
        (Role.ANSWER, " a dog"),
        (Role.PROMPT, ", seeing that"),
        (Role.RATIONALE, " it barks</s>"),
    ]
    assert [p.text for p in prompts.answer_only("what is it?", "a dog")] == [
        "Q: what is it? A:",
        " a dog</s>",
    ]
    assert prompts.add_special_tokens


@pytest.mark.parametrize("hostile", ["red</s>", "<image>red", "<s> red <pad>", " red "])
def test_words_of_a_task_are_never_special_tokens(shared: BaseModel, hostile: str) -> None:
    assert shared.prompts.rationale(hostile, hostile) == shared.prompts.rationale("red", "red")
    assert shared.prompts.told("q", hostile, hostile) == shared.prompts.told("q", "red", "red")


def test_why_can_be_chosen(copy: Path) -> None:
    assert load_base_model(copy, device="cpu").prompts.why == "Why?"
    assert load_base_model(copy, device="cpu", why="how so ?").prompts.why == "how so ?"
    (copy / "illume.json").unlink()
    assert load_base_model(copy, device="cpu").prompts.why.startswith("Why?")


# encoding


def test_prompts_are_padded_on_the_left(shared: BaseModel) -> None:
    texts = [shared.prompts.answer("short"), shared.prompts.answer(QUESTION)]
    batch = encode_prompts(shared.prompts, texts, [PICTURE, PICTURE])
    assert batch["attention_mask"][:, -1].tolist() == [1, 1]
    assert batch["attention_mask"][0, 0] == 0
    assert (batch["input_ids"] == shared.processor.image_token_id).sum(dim=1).tolist() == [9, 9]


def test_masks_mark_the_answer_and_the_rationale(shared: BaseModel) -> None:
    rows = [
        shared.prompts.explained(QUESTION, ANSWER, TEXT),
        shared.prompts.answer_only(QUESTION, "a large triangle"),
    ]
    batch = encode_rows(shared.prompts, rows, [PICTURE, PICTURE])
    decoded = {
        name: [
            shared.processor.tokenizer.decode(ids[mask])
            for ids, mask in zip(batch["input_ids"], batch[name], strict=True)
        ]
        for name in ("answer_mask", "rationale_mask")
    }
    assert decoded == {
        "answer_mask": [" red</s>", " a large triangle</s>"],
        "rationale_mask": [" because i see it .</s>", ""],
    }
    assert not (batch["answer_mask"] & batch["rationale_mask"]).any()
    assert not ((batch["answer_mask"] | batch["rationale_mask"]) & (batch["attention_mask"] == 0)).any()


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        open_image(tmp_path / "broken.png")


# loading


def _lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def _lose_processor(folder: Path) -> None:
    for path in folder.glob("*ocessor_config.json"):
        path.unlink()
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **changes}))

    return edit


def _bad_hints(folder: Path) -> None:
    (folder / "illume.json").write_text('{"why": 3}')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "does not exist"),
        (_lose_config, "has no config.json"),
        (_lose_weights, "no .*safetensors file"),
        (_cut_weights, "cannot be loaded"),
        (_lose_processor, "cannot be loaded"),
        (_edit_config(model_type="no_such_architecture"), "cannot be loaded"),
        (_edit_config(model_type="bert"), "cannot be loaded"),
        (_bad_hints, "illume.json holds"),
    ],
)
def test_what_cannot_be_loaded_is_said_plainly(
    copy: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=words):
        load_base_model(copy, device="cpu")


@pytest.mark.parametrize(
    "message",
    [
        "type object 'VIDEO_PROCESSOR_MAPPING' has no attribute '_extra_content'",
        "Received a NoneType for argument video_processor",
        "Qwen2VLVideoProcessor requires the Torchvision library: torchvision is missing",
    ],
)
def test_a_processor_that_needs_torchvision(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AttributeError(message)

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(ModelError, match=r"needs torchvision.*\[torchvision\]"):
        load_base_model(base_model_path())


def test_the_fingerprint_is_of_the_content(shared: BaseModel, copy: Path) -> None:
    assert load_base_model(copy, device="cpu").fingerprint == shared.fingerprint
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_base_model(copy, device="cpu").fingerprint != shared.fingerprint


def test_the_base_model_is_frozen_and_full_precision_on_a_processor(shared: BaseModel) -> None:
    with shared.adapters.using(None) as model:
        assert not model.training
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in model.parameters())


# adapters


def logits(base: BaseModel, adapter: str | None) -> torch.Tensor:
    batch = encode_prompts(base.prompts, [base.prompts.answer(QUESTION)], [PICTURE])
    with base.adapters.using(adapter) as model, torch.inference_mode():
        result: torch.Tensor = model(**batch).logits
    return result


def random_adapter(folder: Path, *, seed: int, rank: int = 4) -> Path:
    """An adapter of random weights, big enough to be seen in the logits."""
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        config = lora_config(TrainConfig(rank=rank), language_layers(model))
    base.adapters.create("random", config)
    noise = torch.Generator().manual_seed(seed)
    with base.adapters.training("random") as model, torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=noise) * 0.2)
    base.adapters.save("random", folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [random_adapter(root / str(seed), seed=seed, rank=4 + seed) for seed in (0, 1)]


def test_adapters_live_beside_each_other(base: BaseModel, folders: list[Path]) -> None:
    bare = logits(base, None)
    base.adapters.load("one", folders[0])
    one = logits(base, "one")
    base.adapters.load("two", folders[1])
    two = logits(base, "two")
    assert base.adapters.names == ["one", "two"]
    assert torch.equal(logits(base, None), bare)
    assert torch.equal(logits(base, "one"), one)
    assert not torch.allclose(one, bare)
    assert not torch.allclose(one, two)
    base.adapters.drop("one")
    assert torch.equal(logits(base, "two"), two)
    base.adapters.drop("two")
    assert base.adapters.names == []
    assert torch.equal(logits(base, None), bare)


def test_a_saved_adapter_is_a_plain_peft_folder_without_this_machines_paths(folders: list[Path]) -> None:
    assert sorted(path.name for path in folders[0].iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((folders[0] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert str(base_model_path()) not in (folders[0] / "adapter_config.json").read_text()


def test_only_language_blocks_are_adapted(folders: list[Path]) -> None:
    names = load_file(folders[0] / "adapter_model.safetensors")
    assert len(names) == 4 * 7 * 2  # blocks, linear layers of a block, A and B
    assert all(".language_model.layers." in name for name in names)


def test_a_loaded_adapter_is_never_overwritten(base: BaseModel, folders: list[Path]) -> None:
    base.adapters.load("one", folders[0])
    with pytest.raises(ModelError, match="loaded already"):
        base.adapters.load("one", folders[1])


@pytest.mark.parametrize("verb", ["using", "training"])
def test_an_adapter_that_is_not_loaded_cannot_be_used(base: BaseModel, verb: str) -> None:
    use = getattr(base.adapters, verb)("gone")
    with pytest.raises(ModelError, match="No adapter named 'gone'"), use:
        pytest.fail("it was used")


def test_an_adapter_that_is_not_loaded_cannot_be_dropped(base: BaseModel) -> None:
    with pytest.raises(ModelError, match="No adapter named 'gone'"):
        base.adapters.drop("gone")


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "adapter_model.safetensors")
        change(weights)
        save_file(weights, folder / "adapter_model.safetensors")

    return damage


def _first(weights: dict[str, torch.Tensor]) -> str:
    return min(weights)


def _truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])


def _pickle_only(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _config(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "adapter_config.json").write_text(text)

    return damage


def _other_rank(folder: Path) -> None:
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, "r": 64}))


def _other_layers(folder: Path) -> None:
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, "target_modules": ["nowhere"]}))


DAMAGES = {
    "truncated": _truncate,
    "a pickle": _pickle_only,
    "no folder": shutil.rmtree,
    "NaN": _weights(lambda w: w[_first(w)].fill_(float("nan"))),
    "infinite": _weights(lambda w: w[_first(w)].fill_(float("inf"))),
    "one weight missing": _weights(lambda w: w.pop(_first(w))),
    "one weight too many": _weights(
        lambda w: w.update({"base_model.model.more.lora_A.weight": torch.ones(2, 2)})
    ),
    "one weight of another shape": _weights(lambda w: w.update({_first(w): torch.ones(3, 3)})),
    "configuration is not JSON": _config("{"),
    "configuration is empty": _config("{}"),
    "configuration of another kind": _config('{"peft_type": "IA3", "target_modules": ["q_proj"]}'),
    "another rank": _other_rank,
    "other layers": _other_layers,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("others", [0, 1])
def test_a_damaged_adapter_is_refused_and_the_others_go_on(
    base: BaseModel, folders: list[Path], tmp_path: Path, damage: Callable[[Path], None], others: int
) -> None:
    for index in range(others):
        base.adapters.load(f"good{index}", folders[index])
    before = {name: logits(base, name) for name in [None, *base.adapters.names]}
    bad = Path(shutil.copytree(folders[1], tmp_path / "bad"))
    damage(bad)
    with pytest.raises(ModelError):
        base.adapters.load("bad", bad)
    assert base.adapters.names == [f"good{index}" for index in range(others)]
    assert all(torch.equal(logits(base, name), value) for name, value in before.items())
    base.adapters.load("bad", folders[1])  # the name is free again
    assert torch.isfinite(logits(base, "bad")).all()


def test_broken_weights_are_not_saved(base: BaseModel, folders: list[Path], tmp_path: Path) -> None:
    base.adapters.load("one", folders[0])
    with base.adapters.training("one") as model, torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        base.adapters.save("one", tmp_path / "out")
    assert not (tmp_path / "out").exists()
