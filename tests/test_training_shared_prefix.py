"""The shared-prefix step against plain rows, one sequence each, architecture by architecture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402
from tiny_models import ARCHITECTURES, RELATIVES, Tiny, tiny  # noqa: E402

from illume_plugin.base_model import open_image  # noqa: E402
from illume_plugin.training import TrainConfig, heads  # noqa: E402
from illume_plugin.training.equality import Lesson, lesson  # noqa: E402
from illume_plugin.training.logps import row_logps  # noqa: E402
from illume_plugin.training.lora import language_layers, lora_config  # noqa: E402
from illume_plugin.training.micro_batch import MicroBatch  # noqa: E402
from illume_plugin.training.objective import IllumeObjective  # noqa: E402
from illume_plugin.training.packing import Packing  # noqa: E402
from illume_plugin.training.terms import terms_of_rows  # noqa: E402
from illume_plugin.training.traits import Traits  # noqa: E402
from illume_plugin.training.ways import Ways, compared  # noqa: E402
from illume_plugin.types import TrainingRow  # noqa: E402

pytestmark = pytest.mark.torch

EVERY = sorted({**ARCHITECTURES, **RELATIVES})
#: Where rows of these tests are longer than a window that no mask of ours can tell it: computed plainly.
UNSERVED = "paligemma2, narrow window"
TEXTS = [
    "because the dog runs . the ball is red .",
    "because the dog is on grass .",
    "because",
    "the ball is here , not there , because the dog is on the red grass .",
    "because the dog runs . the ball is blue .",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    found = {}
    for index, colour in enumerate([(200, 40, 40), (30, 200, 60), (90, 90, 255)]):
        picture = Image.new("RGB", (40, 30), colour)
        picture.paste((20, 90, 220 - 60 * index), (5, 5, 20, 20))
        found[f"/{index}.png"] = folder / f"{index}.png"
        picture.save(found[f"/{index}.png"])
    return found


def rows() -> list[TrainingRow]:
    """Five rationales of one task, two questions about a second picture, a bare answer about a third."""
    one = [TrainingRow(1, "/0.png", "why is the dog here ?", "the ball", text) for text in TEXTS]
    two = [
        TrainingRow(2, "/1.png", "is the dog red ?", "not so", TEXTS[1], 0.5),
        TrainingRow(3, "/1.png", "is the ball on grass or is the cat there ?", "the ball", TEXTS[0]),
        TrainingRow(2, "/1.png", "is the dog red ?", "not so", TEXTS[2], 0.75),
    ]
    return [*one, *two, TrainingRow(4, "/2.png", "is a cat here ?", "not here")]


def adapted(each: Tiny) -> Any:
    """The model with an adapter whose every weight has a gradient."""
    with each.base.adapters.using(None) as model:
        layers = language_layers(model)
    each.base.adapters.create("new", lora_config(TrainConfig(rank=4), layers))
    with each.base.adapters.training("new") as model:
        torch.manual_seed(5)
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.2 if "lora_A" in name else 0.05)
    return model


def ways_of(
    each: Tiny, model: Any, images: dict[str, Path], folder: Path, *, size: int = 16, with_last: bool = False
) -> tuple[Ways, list[Packing]]:
    config = TrainConfig(batch_size=16, micro_batch_size=size)
    ways = Ways(each.base, model, terms_of_rows(rows(), config), images, config, folder)
    return ways, list(ways.shared(with_last=with_last))


OBJECTIVES = [IllumeObjective(w=3.0)]


def assert_same(found: Lesson, expected: Lesson, bound: float = 1e-4) -> None:
    """Loss and every gradient, each relative to its own size."""
    assert found.loss == pytest.approx(expected.loss, rel=bound)
    assert expected.gradients
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        assert float(other.norm()) > 0
        assert float((one - other).norm() / other.norm()) < bound


@pytest.mark.parametrize("architecture", EVERY)
def test_loss_and_every_gradient_are_those_of_plain_rows(
    architecture: str, images: dict[str, Path], tmp_path: Path
) -> None:
    each = tiny(architecture)
    model = adapted(each)
    ways, shared = ways_of(each, model, images, tmp_path)
    expected = lesson(model, ways.plain, range(9), OBJECTIVES)
    assert len(shared) == 2
    for way in shared:
        assert_same(lesson(model, way, range(9), OBJECTIVES), expected)
        if architecture != UNSERVED:
            (batch,) = way.micro_batches(range(9))
            (plain,) = ways.plain.micro_batches(range(9))
            families = 4 if Traits.of(model).two_way_prompt else 3
            assert len(batch.inputs["input_ids"]) == families
            assert batch.tokens < 0.7 * plain.tokens


@pytest.mark.parametrize("architecture", ["gemma3, narrow window", "idefics3", "paligemma", "qwen2_vl"])
@pytest.mark.parametrize("size", [1, 2])
def test_how_a_step_is_split_changes_nothing(
    architecture: str, size: int, images: dict[str, Path], tmp_path: Path
) -> None:
    each = tiny(architecture)
    model = adapted(each)
    ways, shared = ways_of(each, model, images, tmp_path, size=size)
    longest = max(batch.inputs["input_ids"].shape[1] for batch in ways.plain.micro_batches(range(9)))
    expected = lesson(model, ways.plain, range(9), OBJECTIVES)
    for way in shared:
        batches = way.micro_batches(range(9))
        assert len(batches) > 1
        assert all(batch.tokens <= size * longest for batch in batches)
        assert sorted(number for batch in batches for number in batch.numbers) == list(range(9))
        assert_same(lesson(model, way, range(9), OBJECTIVES), expected)


@pytest.mark.parametrize("architecture", ["llava", "gemma3, narrow window", "qwen2_vl"])
def test_each_row_has_its_own_logps_and_hidden_states(
    architecture: str, images: dict[str, Path], tmp_path: Path
) -> None:
    each = tiny(architecture)
    model = adapted(each).eval()
    ways, shared = ways_of(each, model, images, tmp_path, with_last=True)
    traits = Traits.of(model)
    (plain,) = ways.plain.micro_batches(range(9))
    expected = row_logps(model, plain, traits, hidden=True)
    logprobs = model(**plain.inputs).logits.log_softmax(dim=-1)
    by_hand = logprobs[plain.own.sequence, plain.own.predictor, plain.own.token]
    assert torch.allclose(expected.values, plain.by_row(by_hand), atol=1e-5)
    for way in shared:
        (batch,) = way.micro_batches(range(9))
        pictures = way.pictures(batch, torch.device("cpu"))
        found = row_logps(model, batch, traits, pictures=pictures, hidden=True)
        assert found.hidden is not None
        assert expected.hidden is not None
        for place, number in enumerate(batch.numbers):
            own = int((batch.answer_mask | batch.rationale_mask)[place].sum())
            assert torch.equal(batch.answer_mask[place, :own], plain.answer_mask[number, :own])
            assert batch.rows[place] == plain.rows[number]
            for one, other in ((found.values, expected.values), (found.hidden, expected.hidden)):
                assert torch.allclose(one[place, :own], other[number, :own], atol=1e-4)
                assert not one[place, own:].any()


def test_the_prompt_sees_both_ways_and_nobody_sees_the_answer_before(
    images: dict[str, Path], tmp_path: Path
) -> None:
    """PaliGemma's own masks would show every token of a row to every other."""
    each = tiny("paligemma")
    model = adapted(each).eval()
    traits = Traits.of(model)
    told = [TrainingRow(1, "/0.png", "why ?", "the ball", text) for text in TEXTS[:2]]
    ways = Ways(each.base, model, terms_of_rows(told, TrainConfig()), images, TrainConfig(), tmp_path)
    (batch,) = ways.plain.micro_batches([0, 1])
    first, other = row_logps(model, batch, traits).values
    differ = next(i for i, (a, b) in enumerate(zip(*_own(batch), strict=False)) if a != b)
    assert torch.allclose(first[:differ], other[:differ], atol=1e-5)


def _own(batch: MicroBatch) -> list[list[int]]:
    return [batch.own.token[batch.own.row == row].tolist() for row in (0, 1)]


@pytest.mark.parametrize("architecture", ["llava", "gemma3", "qwen2_vl"])
def test_gradient_checkpointing_changes_nothing(
    architecture: str, images: dict[str, Path], tmp_path: Path
) -> None:
    each = tiny(architecture)
    model = adapted(each)
    _, (way, _) = ways_of(each, model, images, tmp_path)
    expected = lesson(model, way, range(9), OBJECTIVES)
    each.model.activation_checkpointing_enable()
    blocks = [block for block in each.model.modules() if getattr(block, "gradient_checkpointing", False)]
    assert blocks
    for block in blocks:
        block.training = True  # `lesson` switches dropout off, and checkpointing with it
    assert_same(lesson(model, way, range(9), OBJECTIVES), expected, 1e-6)


def test_pictures_are_read_once(
    images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = tiny("llava")
    model = adapted(each)
    opened: list[str] = []
    seen: list[int] = []
    inner = each.model.model
    look = inner.get_image_features

    def opening(path: Path) -> Image.Image:
        opened.append(path.name)
        return open_image(path)

    def looking(pixel_values: Any, **more: Any) -> Any:
        seen.append(len(pixel_values))
        return look(pixel_values, **more)

    monkeypatch.setattr(heads, "open_image", opening)
    monkeypatch.setattr(inner, "get_image_features", looking)
    for way, looks in zip(ways_of(each, model, images, tmp_path)[1], (3, 6), strict=True):
        opened.clear()
        for _ in range(3):
            lesson(model, way, range(9), OBJECTIVES)
        assert sorted(opened) == ["0.png", "1.png", "1.png", "2.png"], "once for each prompt about it"
        assert len(seen) == looks


def test_a_vision_tower_that_is_trained_is_looked_through_anew(
    images: dict[str, Path], tmp_path: Path
) -> None:
    each = tiny("llava")
    each.base.adapters.create("new", lora_config(TrainConfig(rank=4), r".*(q_proj|linear_1)"))
    with each.base.adapters.training("new") as model:
        ways, shared = ways_of(each, model, images, tmp_path)
        assert [way.name for way in shared] == [
            "rows that share a picture as one sequence, pictures read each time"
        ]
        expected = lesson(model, ways.plain, range(9), OBJECTIVES)
        found = lesson(model, shared[0], range(9), OBJECTIVES)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        assert float((one - other).norm()) <= 1e-4 * max(float(other.norm()), 1e-3)


@pytest.mark.parametrize(
    ("broken", "way"),
    [
        ("nothing", "one sequence, pictures features kept"),
        ("features", "one sequence, pictures read each time"),
        ("mask", "plain rows"),
        ("positions", "plain rows"),
        ("refusal", "plain rows"),
    ],
)
def test_what_does_not_equal_plain_rows_is_not_used(
    broken: str,
    way: str,
    images: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    each = tiny("llava")
    model = adapted(each)
    forward = type(each.model).forward

    @functools.wraps(forward)
    def wrong(self: object, **inputs: Any) -> object:
        shared = inputs["attention_mask"].ndim == 4
        if shared and broken == "mask":
            inputs["attention_mask"] = None
        if shared and broken == "positions":
            del inputs["position_ids"]
        if shared and broken == "refusal":
            raise ValueError("no masks of yours")
        if broken == "features" and "mm_encoder_outputs" in inputs:
            inputs["mm_encoder_outputs"]["image"].pooler_output *= 1.01
        return forward(self, **inputs)

    monkeypatch.setattr(type(each.model), "forward", wrong)
    ways, _ = ways_of(each, model, images, tmp_path)
    caplog.set_level("WARNING", logger="illume_plugin.training.equality")
    choice = ways.choose(OBJECTIVES)
    assert choice.packing.name.endswith(way)
    assert bool(choice.whys) is (broken != "nothing")
    assert all(why in caplog.text for why in choice.whys)
    if broken == "refusal":
        assert "no masks of yours" in caplog.text
    assert all(weight.grad is None for weight in model.parameters())


def test_running_out_of_memory_is_no_reason_for_another_way(
    images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = tiny("llava")
    model = adapted(each)
    ways, _ = ways_of(each, model, images, tmp_path)
    forward = type(each.model).forward

    @functools.wraps(forward)
    def full(self: object, **inputs: Any) -> object:
        if inputs["attention_mask"].ndim == 4:
            raise torch.OutOfMemoryError("full")
        return forward(self, **inputs)

    monkeypatch.setattr(type(each.model), "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        ways.choose(OBJECTIVES)


def test_branches_and_padding_are_among_what_is_compared(images: dict[str, Path], tmp_path: Path) -> None:
    each = tiny("llava")
    ways, _ = ways_of(each, adapted(each), images, tmp_path)
    keys = [row.key for row in ways.rows]
    assert compared(ways.terms, keys) == [0, 1, 2, 3, 5, 6, 7]
    assert compared(ways.terms[8:], keys[8:]) == [0]
