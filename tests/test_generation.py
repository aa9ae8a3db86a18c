"""Seeded draws, and sampling with the real embedded model."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from illume_plugin.embedded import base_model_path, draw, make_tasks
from illume_plugin.errors import ModelError
from illume_plugin.generation import Generator, SampleRequest, SamplingPlan
from illume_plugin.types import Candidate, Task

torch = pytest.importorskip("torch")

from illume_plugin.base_model import load_base_model  # noqa: E402
from illume_plugin.generation.drawing import SeededDraw  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator, _distinct  # noqa: E402
from illume_plugin.scoring import logprob_mean  # noqa: E402
from illume_plugin.training import TrainConfig  # noqa: E402
from illume_plugin.training.trainer import language_layers, lora_config  # noqa: E402

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
    chosen = draw_token(torch.empty(len(seeds), 0), scores)
    assert ((chosen == 0).sum(dim=1) == 1).all()
    assert torch.isinf(chosen).sum() == chosen.numel() - len(seeds)
    return chosen.argmax(dim=1)


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


def test_impossible_tokens_are_never_drawn() -> None:
    assert set(drawn([0.0, 1.0, 0.0], seeds=range(500)).tolist()) == {1}


# cleaning


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([], []),
        (["a b", "a b"], ["a b"]),
        (["A b", "a  B", "c"], ["A b", "c"]),
        (["", "  ", "x"], ["x"]),
    ],
)
def test_distinct(texts: list[str], kept: list[str]) -> None:
    assert [c.text for c in _distinct(Candidate(text, 0.5, 1) for text in texts)] == kept


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
