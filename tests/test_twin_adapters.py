"""An adapter that is hung beside one of equal configuration computes what peft's own way computes."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, PeftModel, set_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from illume_plugin.base_model import BaseModel, load_base_model  # noqa: E402
from illume_plugin.base_model import adapters as adapters_module  # noqa: E402
from illume_plugin.base_model.adapters import WEIGHTS_FILE  # noqa: E402
from illume_plugin.base_model.twins import add_beside, twin_of  # noqa: E402
from illume_plugin.embedded import base_model_path  # noqa: E402
from illume_plugin.errors import ModelError  # noqa: E402
from illume_plugin.training.lora import language_layers  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def base() -> BaseModel:
    return load_base_model(str(base_model_path()))


def written(base: BaseModel, folder: Path, seed: int, **fields: object) -> Path:
    """A folder with an adapter of random weights; nothing stays loaded."""
    torch.manual_seed(seed)
    with base.adapters.using(None) as model:
        targets = language_layers(model)
    base.adapters.create("writing", LoraConfig(**{"r": 4, "target_modules": targets, **fields}))
    with base.adapters.training("writing") as model, torch.no_grad():
        for key, value in model.named_parameters():
            if ".writing." in key or key.endswith(".writing"):
                value.normal_(std=0.3)
    base.adapters.save("writing", folder)
    base.adapters.drop("writing")
    return folder


def weights_of(base: BaseModel, name: str) -> dict[str, torch.Tensor]:
    with base.adapters.using(name) as model:
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return {k.replace(f".{name}", ".NAME"): v.clone() for k, v in named.items() if f".{name}" in k}


def logits(base: BaseModel, name: str | None) -> torch.Tensor:
    with base.adapters.using(name) as model, torch.inference_mode():
        return model(input_ids=torch.tensor([[5, 9, 13, 21]])).logits


@pytest.mark.parametrize(
    "fields", [{}, {"use_rslora": True}, {"lora_dropout": 0.1}, {"rank_pattern": {"q_proj": 2}}]
)
def test_a_twin_is_what_peft_would_have_made(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    first, second = (written(base, tmp_path / str(seed), seed, **fields) for seed in (1, 2))
    base.adapters.load("first", first)
    with monkeypatch.context() as patch:
        patch.setattr(adapters_module, "add_beside", lambda *_: False)
        base.adapters.load("slow", second)
    with monkeypatch.context() as patch:  # peft must not be needed
        patch.setattr(PeftModel, "add_adapter", None)
        patch.setattr(adapters_module, "set_peft_model_state_dict", None)
        base.adapters.load("fast", second)

    fast, slow = weights_of(base, "fast"), weights_of(base, "slow")
    assert fast.keys() == slow.keys()
    assert all(
        torch.equal(value, slow[key]) and value.dtype == slow[key].dtype for key, value in fast.items()
    )
    assert torch.equal(logits(base, "fast"), logits(base, "slow"))
    assert not torch.equal(logits(base, "fast"), logits(base, "first"))
    with base.adapters.training("fast") as model:
        trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert trained
    assert all(".fast." in key for key in trained)
    base.adapters.save("fast", tmp_path / "again")
    again, there = load_file(tmp_path / "again" / WEIGHTS_FILE), load_file(second / WEIGHTS_FILE)
    assert again.keys() == there.keys()
    assert all(torch.equal(value, there[key]) for key, value in again.items())
    base.adapters.drop("first")  # what hangs beside it does not hang on it
    base.adapters.drop("slow")
    assert torch.isfinite(logits(base, "fast")).all()
    base.adapters.drop("fast")
    assert base.adapters.names == []


@pytest.mark.parametrize("damage", ["lacks", "more", "shape"])
def test_weights_that_do_not_fit_their_twin_are_refused_and_nothing_is_left(
    base: BaseModel, tmp_path: Path, damage: str
) -> None:
    base.adapters.load("good", written(base, tmp_path / "1", 1))
    bad = copied(tmp_path / "1", tmp_path / "bad")
    weights = load_file(bad / WEIGHTS_FILE)
    key = sorted(weights)[3]
    if damage == "lacks":
        del weights[key]
    elif damage == "more":
        weights[key.replace("layers.0", "layers.77").replace("layers.1", "layers.77")] = weights[key].clone()
    else:
        weights[key] = torch.zeros(3, 3)
    save_file(weights, bad / WEIGHTS_FILE)
    before = logits(base, "good")
    with pytest.raises(ModelError, match="cannot be loaded"):
        base.adapters.load("bad", bad)
    assert base.adapters.names == ["good"]
    assert torch.equal(logits(base, "good"), before)


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("fields", [{"r": 8}, {"lora_alpha": 3}, {"use_dora": True}, {"use_rslora": True}])
def test_another_configuration_has_no_twin(
    base: BaseModel, tmp_path: Path, fields: dict[str, object]
) -> None:
    base.adapters.load("plain", written(base, tmp_path / "1", 1))
    with base.adapters.using("plain") as model:
        config = model.peft_config["plain"]
        asked = LoraConfig(**{"r": 4, "target_modules": config.target_modules, **fields})
        assert twin_of(model, asked) is None
        assert twin_of(model, config) == "plain"


def test_a_switch_between_uses_is_seen(base: BaseModel, tmp_path: Path) -> None:
    """What is on is remembered: training, dropping and loading must make it forgotten."""
    for seed in (1, 2):
        base.adapters.load(f"a{seed}", written(base, tmp_path / str(seed), seed))
    one, two, none = logits(base, "a1"), logits(base, "a2"), logits(base, None)
    with base.adapters.training("a2"):
        pass
    assert torch.equal(logits(base, "a1"), one)
    base.adapters.load("a3", tmp_path / "2")
    assert torch.equal(logits(base, "a1"), one)
    assert torch.equal(logits(base, "a3"), two)
    base.adapters.drop("a2")
    assert torch.equal(logits(base, "a3"), two)
    assert torch.equal(logits(base, None), none)
    assert torch.equal(logits(base, "a1"), one)


def test_an_adapter_that_is_used_while_it_is_trained_drops_nothing_out(
    base: BaseModel, tmp_path: Path
) -> None:
    """As when an epoch is scored: the figure must not depend on where the training's noise has come to."""
    base.adapters.load("a", written(base, tmp_path / "1", 1, lora_dropout=0.5))
    still = logits(base, "a")
    with base.adapters.training("a") as model:
        for _ in range(2):  # the second time the adapter is known to be on
            model.train()
            assert torch.equal(logits(base, "a"), still)


def test_the_direct_way_says_no_before_it_changes_anything(base: BaseModel, tmp_path: Path) -> None:
    base.adapters.load("good", written(base, tmp_path / "1", 1))
    with base.adapters.using("good") as model:
        before = {key: value.shape for key, value in model.named_parameters()}
        assert not add_beside(model, "good", "new", model.peft_config["good"], {})
        assert {key: value.shape for key, value in model.named_parameters()} == before
        assert list(model.peft_config) == ["good"]


def test_peft_itself_reads_what_was_saved(base: BaseModel, tmp_path: Path) -> None:
    base.adapters.load("first", written(base, tmp_path / "1", 1))
    base.adapters.load("twin", written(base, tmp_path / "2", 2))
    base.adapters.save("twin", tmp_path / "saved")
    plain = load_base_model(str(base_model_path()))
    plain.adapters.create("x", LoraConfig.from_pretrained(str(tmp_path / "saved")))
    with plain.adapters.using("x") as model:
        fits = set_peft_model_state_dict(
            model, load_file(tmp_path / "saved" / WEIGHTS_FILE), adapter_name="x"
        )
    assert not fits.unexpected_keys
    assert torch.equal(logits(plain, "x"), logits(base, "twin"))
