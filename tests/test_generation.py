"""Seeded draws, and sampling with the real embedded model."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.errors import ModelError
from illume_plugin.generation import Generator, SampleRequest, SamplingPlan
from illume_plugin.types import Task

torch = pytest.importorskip("torch")

from illume_plugin.base_model import load_base_model  # noqa: E402
from illume_plugin.generation import tokens  # noqa: E402
from illume_plugin.generation.drawing import DrawInGenerate, SeededDraw  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator  # noqa: E402
from illume_plugin.scoring import logprob_mean  # noqa: E402
from illume_plugin.training import TrainConfig  # noqa: E402
from illume_plugin.training.lora import language_layers, lora_config  # noqa: E402

pytestmark = pytest.mark.torch

PLAN = SamplingPlan(temperatures=(0.3, 0.9), samples=3, max_new_tokens=40)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[SampleRequest]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for index, task in enumerate(make_tasks(6, seed=1)):
        draw(task.scene, 240).save(folder / f"{index}.png")
        fields = Task(1, index + 1, f"/{index}.png", task.question_text, task.answer)
        found.append(SampleRequest(fields, folder / f"{index}.png"))
    return found


@pytest.fixture(scope="module")
def generator() -> TransformersGenerator:
    return TransformersGenerator(load_base_model(base_model_path(), device="cpu"))


# draws


def drawn(
    probabilities: list[float], *, seeds: range, temperature: float = 1.0, top_k: int = 9
) -> torch.Tensor:
    """The tokens drawn in one step, one per seed."""
    scores = torch.tensor(probabilities).log().repeat(len(seeds), 1)
    draw_token = SeededDraw(list(seeds), [temperature] * len(seeds), top_k=top_k, steps=1)
    tokens = draw_token(scores, 0, torch.arange(len(seeds)))
    chosen = DrawInGenerate(draw_token)(torch.empty(len(seeds), 0), scores)
    assert torch.isinf(chosen).sum() == chosen.numel() - len(seeds)
    assert (chosen.gather(1, tokens[:, None]) == 0).all()
    return tokens


@pytest.mark.parametrize(
    ("temperature", "top_k", "expected"),
    [
        (1.0, 3, [0.5, 0.2, 0.3]),
        (1.0, 2, [0.625, 0.0, 0.375]),
        (0.5, 3, [25 / 38, 4 / 38, 9 / 38]),  # squares
        (0.5, 2, [25 / 34, 0.0, 9 / 34]),
        (0.001, 3, [1.0, 0.0, 0.0]),
        (5.0, 1, [1.0, 0.0, 0.0]),
    ],
)
def test_draws_follow_top_k_then_temperature(temperature: float, top_k: int, expected: list[float]) -> None:
    tokens = drawn([0.5, 0.2, 0.3], seeds=range(4000), temperature=temperature, top_k=top_k)
    shares = [float((tokens == token).float().mean()) for token in range(3)]
    assert shares == pytest.approx(expected, abs=0.03)
    assert all(share == 0 for share, p in zip(shares, expected, strict=True) if p == 0)


def test_a_draw_depends_on_its_seed_alone() -> None:
    together = drawn([0.1, 0.2, 0.3, 0.4], seeds=range(50))
    assert [
        int(drawn([0.1, 0.2, 0.3, 0.4], seeds=range(s, s + 1))[0]) for s in range(50)
    ] == together.tolist()


@pytest.mark.parametrize("top_k", [1, 7, 40, 99])
@pytest.mark.parametrize("temperature", [0.01, 0.8, 5.0])
def test_draws_are_those_of_sorting_all_scores(top_k: int, temperature: float) -> None:
    numbers = torch.Generator().manual_seed(3)
    scores = torch.randn(200, 50, generator=numbers).round(decimals=1)  # many are equal
    scores[:, 40:] = -torch.inf
    draw_token = SeededDraw(range(300), [temperature] * 300, top_k=top_k, steps=2)
    rows = torch.arange(100, 300)
    expected = []
    for row, seed in enumerate(rows.tolist()):
        uniform = torch.rand(2, generator=torch.Generator().manual_seed(seed))[1]
        order = scores[row].sort(descending=True, stable=True)
        cumulative = (order.values[:top_k] / temperature).softmax(0).cumsum(0)
        expected.append(int(order.indices[(cumulative <= uniform * cumulative[-1]).sum()]))
    assert draw_token(scores, 1, rows).tolist() == expected


def test_scores_that_are_no_numbers_are_an_error() -> None:
    scores = torch.zeros(2, 5)
    scores[1, 3] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        SeededDraw([1, 2], [0.5, 0.5], top_k=3, steps=1)(scores, 0, torch.arange(2))


def test_impossible_tokens_are_never_drawn() -> None:
    assert set(drawn([0.0, 1.0, 0.0], seeds=range(500)).tolist()) == {1}


# sampling


def test_it_is_a_generator(generator: TransformersGenerator) -> None:
    checked: Generator = generator
    assert not checked.has("v0001")


def test_candidates_are_distinct_complete_and_scored(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    for request, candidates in zip(requests, generator.sample(requests, PLAN), strict=True):
        texts = [candidate.text for candidate in candidates]
        assert 1 <= len(texts) <= PLAN.size
        assert len({text.casefold() for text in texts}) == len(texts)
        assert all(text == text.strip() != "" and "</s>" not in text for text in texts)
        assert {(c.temperature, c.seed) for c in candidates} <= set(PLAN.seeds(request.task, None))
        task = request.task
        scores = logprob_mean(generator.base, request.image, task.question, task.answer, texts)
        assert [c.logprob_mean for c in candidates] == pytest.approx(scores, abs=1e-5)
        assert all(c.prompt.endswith(f"{task.answer}</s><user> Why?<assistant>") for c in candidates)


def test_a_task_gets_the_same_candidates_whoever_shares_its_batch(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    together = [[c.text for c in found] for found in generator.sample(requests, PLAN)]
    alone = [[c.text for c in generator.sample([r], PLAN)[0]] for r in requests]
    small = replace(generator, rows=2 * PLAN.size)
    backwards = [[c.text for c in found] for found in small.sample(requests[::-1], PLAN)][::-1]
    assert together == alone == backwards


def test_the_embedded_model_shares_its_prompts(generator: TransformersGenerator) -> None:
    assert generator.mode == "shared prefix"


def test_draws_and_answers_are_those_of_plain_generate(
    requests: list[SampleRequest], adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = TransformersGenerator(load_base_model(base_model_path(), device="cpu"))
    generator.load_adapter("v0001", adapter)
    names = (None, "v0001")
    drawn = [generator.draw(requests, PLAN, adapter=name) for name in names]
    answers = [generator.answer(requests, adapter=name) for name in names]
    monkeypatch.setattr(tokens, "mode_of", lambda base: "plain generate: to compare")
    assert [generator.draw(requests, PLAN, adapter=name) for name in names] == drawn
    assert [generator.answer(requests, adapter=name) for name in names] == answers


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_few_rows_at_a_time_change_nothing(
    generator: TransformersGenerator, requests: list[SampleRequest], rows: int
) -> None:
    few = replace(generator, rows=rows)
    assert few.draw(requests[:3], PLAN) == generator.draw(requests[:3], PLAN)


def test_texts_that_do_not_end_are_dropped(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    assert generator.sample(requests, replace(PLAN, max_new_tokens=2)) == [[] for _ in requests]


def test_no_requests(generator: TransformersGenerator) -> None:
    assert generator.sample([], PLAN) == generator.answer([]) == []


def test_answers_are_the_models_own(generator: TransformersGenerator, requests: list[SampleRequest]) -> None:
    answers = generator.answer(requests)
    blind = [replace(request, task=replace(request.task, answer="nonsense")) for request in requests]
    assert generator.answer(blind) == answers
    assert sum(a == r.task.answer for a, r in zip(answers, requests, strict=True)) >= 4


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        config = lora_config(TrainConfig(rank=4), language_layers(model))
    base.adapters.create("x", config)
    noise = torch.Generator().manual_seed(0)
    with base.adapters.training("x") as model, torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, generator=noise) * 0.05)
    folder = tmp_path_factory.mktemp("adapter") / "x"
    base.adapters.save("x", folder)
    return folder


def test_an_adapter_changes_what_is_said_and_nothing_else(
    requests: list[SampleRequest], adapter: Path
) -> None:
    generator = TransformersGenerator(load_base_model(base_model_path(), device="cpu"))
    before = generator.sample(requests, PLAN)
    generator.load_adapter("v0001", adapter)
    assert generator.has("v0001")
    tuned = generator.sample(requests, PLAN, adapter="v0001")
    assert [[c.text for c in found] for found in tuned] != [[c.text for c in found] for found in before]
    assert generator.sample(requests, PLAN) == before
    generator.drop_adapter("v0001")
    assert not generator.has("v0001")
    with pytest.raises(ModelError, match="v0001"):
        generator.sample(requests, PLAN, adapter="v0001")


def test_threads_with_different_adapters_do_not_disturb_each_other(
    requests: list[SampleRequest], adapter: Path
) -> None:
    generator = TransformersGenerator(load_base_model(base_model_path(), device="cpu"))
    generator.load_adapter("v0001", adapter)
    few = requests[:2]
    expected = {name: generator.sample(few, PLAN, adapter=name) for name in (None, "v0001")}
    wrong: list[str | None] = []

    def work(name: str | None) -> None:
        for _ in range(3):
            if generator.sample(few, PLAN, adapter=name) != expected[name]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in (None, "v0001", None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
