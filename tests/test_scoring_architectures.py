"""Scores of several architectures against whole rows, one for each candidate, written down plainly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from PIL import Image  # noqa: E402
from tiny_models import ARCHITECTURES, Tiny, tiny  # noqa: E402

from illume_plugin.base_model import encode_rows, open_image  # noqa: E402
from illume_plugin.scoring import Mode, ScoreRequest, known_facts, score  # noqa: E402
from illume_plugin.types import Blind  # noqa: E402

pytestmark = pytest.mark.torch

QUESTION, ANSWER = "why is the dog here ?", "the ball"
TEXTS = [
    "because the dog runs . the ball is red .",
    "because the dog is on grass .",
    "because",
    "the ball is here , not there , because the dog is on the red grass .",
    "because the dog runs . the ball is blue .",
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "1.png"
    picture = Image.new("RGB", (40, 30), (200, 40, 40))
    picture.paste((20, 90, 220), (5, 5, 20, 20))
    picture.save(path)
    return path


def whole_rows(
    each: Tiny, image: Path, texts: list[str], *, pictured: bool = True, question: str = QUESTION
) -> list[list[float]]:
    """log P of the rationale tokens: one whole row for each text through the bare model."""
    prompts = replace(each.base.prompts, pictured=pictured)
    found = []
    for text in texts:
        row = encode_rows(prompts, [prompts.told(question, ANSWER, text)], [open_image(image)])
        mask = row.pop("rationale_mask")[0]
        del row["answer_mask"]
        if each.model.config.model_type == "paligemma":  # two-way attention ends where the rationale begins
            row["token_type_ids"] = mask.long()[None]
        with torch.inference_mode():
            logprobs = each.model(**row).logits[0, :-1].log_softmax(dim=-1)
        picked = logprobs.gather(1, row["input_ids"][0, 1:, None])[:, 0]
        found.append(picked[mask[1:]].tolist())
    return found


def request(image: Path, texts: list[str] = TEXTS) -> ScoreRequest:
    return ScoreRequest(image, QUESTION, ANSWER, texts)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_scores_are_those_of_whole_rows(architecture: str, image: Path) -> None:
    each = tiny(architecture)
    (scores,) = score(each.base, [request(image)])
    expected = whole_rows(each, image, TEXTS)
    for found, tokens in zip(scores, expected, strict=True):
        assert found.logprob_mean == pytest.approx(sum(tokens) / len(tokens), abs=1e-5)
        assert sum(found.sentence_logprobs) == pytest.approx(sum(tokens), abs=1e-4)
    assert scores[0].sentence_logprobs[0] == pytest.approx(sum(expected[0][:5]), abs=1e-4)
    assert [len(found.sentence_logprobs) for found in scores] == [2, 1, 1, 1, 2]
    known = known_facts(each.base)
    assert known is not None
    # a tree's mask knows no windows: the model is caught at it and its own masks are used
    assert known.mode is (Mode.CHAIN if "narrow" in architecture else Mode.TREE), known.why


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_figures_without_the_picture(architecture: str, image: Path, tmp_path: Path) -> None:
    each = tiny(architecture)
    (scores,) = score(each.base, [request(image)])
    how = Blind.GREY if architecture == "paligemma" else Blind.TEXT
    assert {found.blind for found in scores} == {how}
    Image.new("RGB", (40, 30), (128, 128, 128)).save(tmp_path / "grey.png")
    blind = (
        whole_rows(each, tmp_path / "grey.png", TEXTS)
        if how is Blind.GREY
        else whole_rows(each, image, TEXTS, pictured=False)
    )
    for found, with_it, without in zip(scores, whole_rows(each, image, TEXTS), blind, strict=True):
        p = torch.tensor(with_it[:-1], dtype=torch.float64).exp().clamp(1e-6, 1)
        q = torch.tensor(without[:-1], dtype=torch.float64).exp().clamp(1e-6, 1)
        assert found.pmi == pytest.approx(float((p / q).log().mean()), abs=1e-5)
        p, q = p / p.sum(), q / q.sum()
        assert found.i2c == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-5)
    assert scores[2].i2c == 0, "one token has no profile"
    assert max(abs(found.pmi or 0) for found in scores) > 0.01, "the picture changes something"


def test_a_prompt_longer_than_the_window_after_a_short_one(image: Path) -> None:
    each = tiny("gemma3")
    score(each.base, [request(image)])
    known = known_facts(each.base)
    assert known is not None
    assert known.mode is Mode.TREE
    long = "why is the dog here and not there ? " * 8
    (scores,) = score(each.base, [ScoreRequest(image, long, ANSWER, TEXTS)])
    expected = whole_rows(each, image, TEXTS, question=long)
    assert [each.logprob_mean for each in scores] == pytest.approx(
        [sum(tokens) / len(tokens) for tokens in expected], abs=1e-5
    )


@pytest.mark.parametrize("broken", ["mask", "position"])
def test_a_model_that_cannot_read_trees_is_caught(
    broken: str, image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    each = tiny("llava")
    forward = type(each.model).forward

    def forgetful(self: object, **inputs: object) -> object:
        mask = inputs["attention_mask"]
        assert isinstance(mask, torch.Tensor)
        if mask.ndim == 4 and broken == "mask":
            inputs["attention_mask"] = None
        if mask.ndim == 4 and broken == "position":
            del inputs["position_ids"]
        return forward(self, **inputs)

    monkeypatch.setattr(type(each.model), "forward", forgetful)
    (scores,) = score(each.base, [request(image)])
    known = known_facts(each.base)
    assert known is not None
    assert known.mode is Mode.CHAIN
    assert "differs" in caplog.text
    monkeypatch.undo()
    assert [found.logprob_mean for found in scores] == pytest.approx(
        [sum(tokens) / len(tokens) for tokens in whole_rows(each, image, TEXTS)], abs=1e-5
    )


def test_a_model_that_keeps_nothing_is_computed_by_plain_rows(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = tiny("llava")
    forward = type(each.model).forward

    def forward_without_cache(self: object, **inputs: object) -> object:
        if "past_key_values" in inputs:
            raise ValueError("no cache")
        return forward(self, **inputs)

    monkeypatch.setattr(type(each.model), "forward", forward_without_cache)
    (scores,) = score(each.base, [request(image)], blind=False)
    known = known_facts(each.base)
    assert known is not None
    assert known.mode is Mode.PLAIN
    assert "no cache" in known.why
    assert [found.logprob_mean for found in scores] == pytest.approx(
        [sum(tokens) / len(tokens) for tokens in whole_rows(each, image, TEXTS)], abs=1e-5
    )


@pytest.mark.parametrize("tokens", [1, 7, 1000])
def test_how_many_go_together_changes_nothing(tokens: int, image: Path) -> None:
    each = tiny("qwen2_vl")
    (whole,) = score(each.base, [request(image)])
    (cut,) = score(each.base, [request(image)], tokens_at_a_time=tokens)
    for one, other in zip(whole, cut, strict=True):
        assert one.logprob_mean == pytest.approx(other.logprob_mean, abs=1e-5)
        assert one.pmi == pytest.approx(other.pmi, abs=1e-5)


def test_tasks_do_not_disturb_each_other(image: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 60), (0, 200, 0)).save(tmp_path / "other.png")
    each = tiny("qwen2_vl")
    some = [request(image), request(tmp_path / "other.png", TEXTS[:2]), request(image, []), request(image)]
    together = score(each.base, some)
    assert [len(scores) for scores in together] == [5, 2, 0, 5]
    assert together[0] == together[3]
    assert together[1] == score(each.base, [some[1]])[0]


def test_half_precision_is_near(image: Path) -> None:
    exact, rough = tiny("llava"), tiny("llava", dtype=torch.bfloat16)
    (one,), (other,) = score(exact.base, [request(image)]), score(rough.base, [request(image)])
    assert [s.logprob_mean for s in one] == pytest.approx([s.logprob_mean for s in other], abs=0.2)
