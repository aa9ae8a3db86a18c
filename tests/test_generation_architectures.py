"""Every architecture, tiny and with random weights, made from its configuration: ours against `generate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import (  # noqa: E402
    AutoModelForImageTextToText,
    Gemma3Config,
    Idefics3Config,
    LlavaConfig,
    LlavaOnevisionConfig,
    LogitsProcessorList,
    PaliGemmaConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    SmolVLMConfig,
)

from illume_plugin.generation import continuation, decoder, selfcheck, shared_prefix  # noqa: E402
from illume_plugin.generation.decoder import Decoder, greedy  # noqa: E402
from illume_plugin.generation.drawing import DrawInGenerate, SeededDraw  # noqa: E402
from illume_plugin.generation.stopping import SamplingStopped  # noqa: E402

pytestmark = pytest.mark.torch

IMAGE, END, PAD, VOCABULARY = 90, 1, 0, 96
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 2,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "tie_word_embeddings": False,
}
TOWER = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
#: Words of the three prompts behind the picture: the shorter ones are padded.
WORDS = (9, 4, 7)
STEPS = 24

Batch = dict[str, Any]
Made = tuple[Any, Batch]


def made(config: PreTrainedConfig, pictures: Batch, per_picture: Callable[[Any], list[int]]) -> Made:
    """A model with weights that make every position count, and prompts with one picture each."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    # Gemma multiplies its embeddings, which would drown everything else in what the last token was.
    scale = 0.04 if "gemma" in config.model_type else 0.25
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=scale if "embed_tokens" in name else 0.25)
    lengths = [count + words for count, words in zip(per_picture(model), WORDS, strict=True)]
    ids = torch.full((len(WORDS), max(lengths)), PAD)
    for row, (length, words) in enumerate(zip(lengths, WORDS, strict=True)):
        ids[row, -length:-words] = IMAGE
        ids[row, -words:] = torch.randint(3, IMAGE, (words,))
    return model, {"input_ids": ids, "attention_mask": (ids != PAD).long(), **pictures}


def features(**pictures: Any) -> Callable[[Any], list[int]]:
    """Counts the tokens that each picture becomes."""

    def count(model: Any) -> list[int]:
        with torch.no_grad():
            return [len(one) for one in model.model.get_image_features(**pictures).pooler_output]

    return count


def pixels(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def llava(**text: Any) -> Made:
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER},
        text_config={"model_type": "llama", **TEXT, **text},
        image_token_index=IMAGE,
    )
    pictures = {"pixel_values": pixels(3, 3, 28, 28)}
    return made(config, pictures, features(**pictures))


def llava_onevision() -> Made:
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "vision_use_head": False},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=IMAGE,
        image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
    )
    # Pictures of three shapes: split into 3, 3 and 5 tiles, each a different number of tokens.
    pictures = {
        "pixel_values": pixels(3, 5, 3, 28, 28),
        "image_sizes": torch.tensor([[28, 50], [56, 28], [56, 56]]),
    }
    return made(config, pictures, features(**pictures))


def idefics3(kind: type[PreTrainedConfig] = Idefics3Config) -> Made:
    config = kind(
        vision_config={**TOWER, "image_size": 56},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        scale_factor=2,
    )
    pictures = {"pixel_values": pixels(3, 2, 3, 56, 56)}  # split into two tiles
    return made(config, pictures, lambda model: [2 * 4] * 3)


def smolvlm() -> Made:
    return idefics3(SmolVLMConfig)


def qwen(kind: type[PreTrainedConfig], vision: Batch) -> Made:
    grid = torch.tensor([[1, 4, 4], [1, 4, 8], [1, 8, 4]])
    config = kind(
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 14, **vision},
        text_config={**TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        image_token_id=IMAGE,
        vision_start_token_id=91,
        video_token_id=92,
    )
    pictures = {"pixel_values": pixels(int(grid.prod(1).sum()), 3 * 2 * 14 * 14), "image_grid_thw": grid}
    model, batch = made(config, pictures, features(**pictures))
    return model, {**batch, "mm_token_type_ids": (batch["input_ids"] == IMAGE).int()}


def qwen2_vl() -> Made:
    return qwen(Qwen2VLConfig, {"embed_dim": 16, "hidden_size": 32})


def qwen2_5_vl() -> Made:
    tower = {"hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "window_size": 28}
    return qwen(Qwen2_5_VLConfig, {**tower, "fullatt_block_indexes": [1]})


def paligemma(**text: Any) -> Made:
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "vision_use_head": False},
        text_config={"model_type": "gemma", **TEXT, **text},
        image_token_index=IMAGE,
        projection_dim=32,
    )
    pictures = {"pixel_values": pixels(3, 3, 28, 28)}
    model, batch = made(config, pictures, features(**pictures))
    return model, {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])}


def paligemma2() -> Made:
    """Gemma 2 inside: soft caps in attention and every other layer with a sliding window."""
    return paligemma(
        model_type="gemma2", sliding_window=10, attn_logit_softcapping=3.0, query_pre_attn_scalar=8
    )


def gemma3() -> Made:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", **TOWER, "vision_use_head": False},
        text_config={**TEXT, "sliding_window": 12, "layer_types": kinds, "query_pre_attn_scalar": 8},
        image_token_index=IMAGE,
        mm_tokens_per_image=4,
    )
    pictures = {"pixel_values": pixels(3, 3, 28, 28)}
    model, batch = made(config, pictures, lambda model: [4] * 3)
    return model, {**batch, "token_type_ids": (batch["input_ids"] == IMAGE).int()}


MODELS = (llava, llava_onevision, idefics3, smolvlm, qwen2_vl, qwen2_5_vl, paligemma, paligemma2, gemma3)
SLIDING = (paligemma2, gemma3)
SETTINGS = {"num_beams": 1, "max_new_tokens": STEPS, "eos_token_id": END, "pad_token_id": PAD}


@pytest.fixture(scope="module")
def models() -> dict[Any, Made]:
    return {make: make() for make in MODELS}


@pytest.fixture(params=MODELS, ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest, models: dict[Any, Made]) -> Made:
    found: Made = models[request.param]
    return found


def plain(model: Any, batch: Batch, **settings: Any) -> torch.Tensor:
    with torch.inference_mode():
        output = model.generate(**batch, **SETTINGS, **settings)
    new: torch.Tensor = output[:, batch["input_ids"].shape[1] :]
    return torch.nn.functional.pad(new, (0, STEPS - new.shape[1]), value=PAD)


def ours(model: Any, batch: Batch, rows: Decoder, **settings: Any) -> torch.Tensor:
    with torch.inference_mode():
        tokens: torch.Tensor = model.generate(**batch, **SETTINGS, **settings, custom_generate=rows)
    return tokens


def draw(copies: int) -> SeededDraw:
    temperatures = [(0.3, 0.7, 1.5)[i % 3] for i in range(len(WORDS) * copies)]
    return SeededDraw(range(len(WORDS) * copies), temperatures, top_k=30, steps=STEPS)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "repeated"])
def test_greedy_tokens_are_those_of_generate(pair: Made, shared: bool) -> None:
    model, batch = pair
    expected = plain(model, batch, do_sample=False)
    assert len(set(expected.flatten().tolist())) > 6  # a model that says one thing would show nothing
    rows = Decoder(2, greedy, (END,), PAD, shared=shared)
    assert torch.equal(ours(model, batch, rows, do_sample=False), expected.repeat_interleave(2, dim=0))


@pytest.mark.parametrize(
    ("shared", "rows"), [(True, None), (True, 6), (False, None)], ids=["shared", "parts", "repeated"]
)
def test_sampled_tokens_are_those_of_generate(pair: Made, shared: bool, rows: int | None) -> None:
    model, batch = pair
    processors = LogitsProcessorList([DrawInGenerate(draw(5))])
    expected = plain(
        model, batch, do_sample=True, top_k=0, num_return_sequences=5, logits_processor=processors
    )
    ends = (expected == END).any(dim=1)
    assert ends.any()
    assert not ends.all()
    sampled = Decoder(5, draw(5), (END,), PAD, shared=shared, rows=rows)
    assert torch.equal(ours(model, batch, sampled, do_sample=True, top_k=0), expected)


@pytest.mark.parametrize(
    "make", [llava, llava_onevision, idefics3, paligemma, paligemma2, gemma3], ids=lambda make: make.__name__
)
def test_a_task_alone_gets_what_generate_gives(make: Any, models: dict[Any, Made]) -> None:
    model, batch = models[make]
    for task in range(len(WORDS)):
        alone = {key: value[task : task + 1] for key, value in batch.items()}
        written = alone["attention_mask"][0].bool()
        for key in {"input_ids", "attention_mask", "token_type_ids"} & set(alone):
            alone[key] = alone[key][:, written]
        expected = plain(model, alone, do_sample=False).expand(3, -1)
        assert torch.equal(ours(model, alone, Decoder(3, greedy, (END,), PAD), do_sample=False), expected)


def test_logits_are_those_of_generate(pair: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = pair
    monkeypatch.setitem(selfcheck.TOLERANCE, torch.float32, 2e-5)
    monkeypatch.setattr(selfcheck, "STEPS", STEPS)
    with torch.inference_mode():
        assert selfcheck.choose(model, batch, (END,), PAD) == selfcheck.SHARED


def test_two_tokens_are_drawn_as_often_as_they_should(models: dict[Any, Made]) -> None:
    """Chi-square of all pairs of tokens against the model's own probabilities, top-k and temperature."""
    model, batch = models[llava]
    one = {key: value[:1] for key, value in batch.items()}  # the longest prompt: nothing is padded
    count, top_k, temperature = 4000, 4, 1.3

    def probabilities(ids: torch.Tensor) -> torch.Tensor:
        pictures = one["pixel_values"].expand(len(ids), -1, -1, -1)
        logits = model(input_ids=ids, pixel_values=pictures).logits[:, -1]
        kept = logits.topk(top_k, dim=-1)
        return torch.zeros_like(logits).scatter(1, kept.indices, (kept.values / temperature).softmax(-1))

    with torch.inference_mode():
        first = probabilities(one["input_ids"])[0]
        starts = first.nonzero()
        second = probabilities(torch.cat([one["input_ids"].expand(len(starts), -1), starts], dim=1))
        draws = SeededDraw(range(count), [temperature] * count, top_k=top_k, steps=2)
        found = model.generate(
            **one, **{**SETTINGS, "max_new_tokens": 2}, custom_generate=Decoder(count, draws, (), PAD)
        )
    expected = torch.zeros(VOCABULARY, VOCABULARY)
    expected[starts[:, 0]] = first[starts] * second * count
    seen = torch.zeros_like(expected).index_put_(tuple(found.T), torch.ones(count), accumulate=True)
    possible = expected > 0
    assert seen[~possible].sum() == 0
    chi_square = ((seen - expected)[possible].square() / expected[possible]).sum()
    assert int(possible.sum()) == 16
    assert chi_square < 37.7  # 15 degrees of freedom: exceeded once in a thousand


# what the comparison notices: with one thing wrong, no model is decoded with a shared prefix


def chosen(pair: Made, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(selfcheck, "STEPS", 8)
    with torch.inference_mode():
        return selfcheck.choose(*pair, (END,), PAD)


def test_wrong_positions_are_noticed(pair: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = continuation.Continuation.advance

    def late(self: continuation.Continuation, tokens: torch.Tensor) -> None:
        if isinstance(self._cache, shared_prefix.SharedPrefixCache):
            self._kwargs["position_ids"] = self._kwargs["position_ids"] + 1
        advance(self, tokens)

    monkeypatch.setattr(continuation.Continuation, "advance", late)
    assert chosen(pair, monkeypatch) == selfcheck.REPEATED


def test_padding_that_is_read_is_noticed(pair: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        continuation,
        "SharedPrefixCache",
        lambda cache, _, slots: shared_prefix.SharedPrefixCache(cache, None, slots),
    )
    assert chosen(pair, monkeypatch) != selfcheck.SHARED


@pytest.mark.parametrize("make", SLIDING, ids=lambda make: make.__name__)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_wrong_window_is_noticed(
    make: Any, by: int, models: dict[Any, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    visible = shared_prefix.SharedPrefixLayer._visible

    def shifted(self: shared_prefix.SharedPrefixLayer) -> tuple[int, int]:
        if self.window is None:
            return visible(self)
        self.window += by
        found = visible(self)
        self.window -= by
        return found

    monkeypatch.setattr(shared_prefix.SharedPrefixLayer, "_visible", shifted)
    assert chosen(models[make], monkeypatch) == selfcheck.REPEATED


def test_tasks_mixed_up_when_rows_leave_are_noticed(pair: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = shared_prefix._moved
    monkeypatch.setattr(shared_prefix, "_moved", lambda suffix, slots: moved(suffix, slots).flip(0))
    assert chosen(pair, monkeypatch) == selfcheck.REPEATED


# what falls back, and says so


@pytest.mark.parametrize(
    ("breaks", "mode"),
    [
        (("SharedPrefixCache",), "repeated cache"),
        (("SharedPrefixCache", "Prompts"), "plain generate: shared prefix: broken; repeated cache: broken"),
    ],
)
def test_what_does_not_work_is_not_used(
    breaks: tuple[str, ...], mode: str, models: dict[Any, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, *_: Any) -> None:
            raise RuntimeError("broken\nwith a second line")

        compute = __init__

    for name in breaks:
        monkeypatch.setattr(decoder if name == "Prompts" else continuation, name, Broken)
    assert chosen(models[llava], monkeypatch) == mode


def test_the_attention_of_a_model_is_put_back(models: dict[Any, Made]) -> None:
    model, batch = models[llava]
    before = model.config.text_config._attn_implementation
    asked = []

    def stop() -> bool:
        asked.append(model.config.text_config._attn_implementation)
        return len(asked) == 3

    with pytest.raises(SamplingStopped):
        ours(model, batch, Decoder(2, greedy, (), PAD, stop=stop), do_sample=False)
    assert asked == [shared_prefix.ATTENTION] * 3
    assert model.config.text_config._attn_implementation == before


def test_chunked_attention_is_left_alone(models: dict[Any, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = models[llava]
    monkeypatch.setattr(model.config.text_config, "layer_types", ["chunked_attention"] * 3, raising=False)
    monkeypatch.setattr(model.config.text_config, "attention_chunk_size", 64, raising=False)
    assert chosen(models[llava], monkeypatch) == selfcheck.REPEATED
