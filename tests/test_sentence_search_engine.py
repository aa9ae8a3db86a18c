"""The search with real forward passes: tiny models of every architecture, then the embedded one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from tiny_models import ARCHITECTURES, IMAGE, tiny  # noqa: E402

from illume_plugin.base_model import load_base_model  # noqa: E402
from illume_plugin.embedded import base_model_path, draw, make_tasks  # noqa: E402
from illume_plugin.errors import SettingsError  # noqa: E402
from illume_plugin.generation import SampleRequest, SamplingPlan  # noqa: E402
from illume_plugin.generation import sentence_search_candidates as searching  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator  # noqa: E402
from illume_plugin.generation.generator import SentenceSearcher  # noqa: E402
from illume_plugin.generation.plan import SentenceSearch  # noqa: E402
from illume_plugin.generation.sentence_search import Found, Step, search  # noqa: E402
from illume_plugin.generation.sentence_search_drawing import SentenceDraw  # noqa: E402
from illume_plugin.generation.sentence_search_reading import SentenceReader  # noqa: E402
from illume_plugin.generation.stopping import SamplingStopped  # noqa: E402
from illume_plugin.generation.tokens import encoded  # noqa: E402
from illume_plugin.proposals import Choice, propose  # noqa: E402
from illume_plugin.store import Store, candidates, projects  # noqa: E402
from illume_plugin.types import Candidate, CandidateSet, Side, Task  # noqa: E402

pytestmark = pytest.mark.torch

MODES = ["shared prefix", "repeated cache", "plain generate: to compare"]
#: All of the vocabulary, so that full stops and ends come up.
HOT = 2.5
PLAN = SamplingPlan((1.0, HOT), 1, top_k_fraction=1.0, max_new_tokens=32, search=SentenceSearch())
ONE = SentenceSearch(sentences=1, best=1, worst=0, sentence_tokens=40, max_sentences=40)


def texts(found: Sequence[Sequence[Candidate | None]]) -> list[list[str | None]]:
    return [[one and one.text for one in some] for some in found]


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[SampleRequest]:
    folder = tmp_path_factory.mktemp("pictures")
    Image.linear_gradient("L").convert("RGB").save(folder / "1.png")
    Image.radial_gradient("L").convert("RGB").save(folder / "2.png")
    return [
        SampleRequest(Task(1, 1, "", "is the dog red ?", "not so"), folder / "1.png"),
        SampleRequest(
            Task(1, 2, "", "because there is a blue ball on the grass why ?", "the cat"), folder / "2.png"
        ),
        SampleRequest(Task(1, 3, "", "a ball ?", "there"), folder / "2.png"),
    ]


@pytest.fixture(scope="module")
def generators() -> dict[str, TransformersGenerator]:
    """One token is suppressed, so that `generate`'s own processors take part."""
    models = {name: tiny(name) for name in ARCHITECTURES}
    for each in models.values():
        each.model.generation_config.suppress_tokens = [IMAGE]
    return {name: TransformersGenerator(each.base) for name, each in models.items()}


@pytest.fixture
def generator(generators: dict[str, TransformersGenerator]) -> TransformersGenerator:
    return generators["llava"]


@pytest.fixture(params=ARCHITECTURES)
def each_generator(
    request: pytest.FixtureRequest, generators: dict[str, TransformersGenerator]
) -> TransformersGenerator:
    return generators[request.param]


@pytest.mark.parametrize("mode", MODES)
def test_one_path_with_one_sentence_at_a_time_is_an_ordinary_draw(
    each_generator: TransformersGenerator,
    requests: list[SampleRequest],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token takes the uniform number of its place, so with one seed for all sentences nothing differs.

    Save that an end is impossible where a path goes on, which shifts what a number stands for: left out here.
    """
    monkeypatch.setattr(searching, "mode_of", lambda base: mode)
    monkeypatch.setattr(
        searching, "SentenceDraw", lambda *args, **kw: SentenceDraw(*args, **{**kw, "end_ids": ()})
    )
    one_seed = lambda _, task, *__, **___: [(HOT, task.task_id)]  # noqa: E731
    monkeypatch.setattr(SamplingPlan, "seeds", one_seed)
    monkeypatch.setattr(SamplingPlan, "sentence_seeds", one_seed)
    many = [
        replace(request, task=replace(request.task, task_id=10 * i + k))
        for i, request in enumerate(requests)
        for k in range(2 if mode == MODES[-1] else 8)  # plain, they are drawn one after the other
    ]
    plain = each_generator.draw(many, replace(PLAN, temperatures=(HOT,), search=None))
    found = each_generator.draw(many, replace(PLAN, search=ONE))
    assert texts(found) == texts(plain)
    paths = [one.searched.ranks for (one,) in found if one and one.searched]
    if mode != MODES[-1]:
        assert len(paths) > 2
        assert max(map(len, paths)) > 1


def test_every_way_of_decoding_finds_the_same(
    each_generator: TransformersGenerator, requests: list[SampleRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for mode in MODES:
        monkeypatch.setattr(searching, "mode_of", lambda base, mode=mode: mode)
        found.append(texts(each_generator.draw(requests, PLAN)))
    assert found[0] == found[1] == found[2]
    assert all(any(some) for some in found[0])


def test_a_task_gets_the_same_whatever_else_is_searched(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    together = texts(generator.draw(requests, PLAN))
    assert [texts(generator.draw([request], PLAN))[0] for request in requests] == together
    assert texts(generator.draw(requests[::-1], PLAN))[::-1] == together


@pytest.mark.parametrize("rows", [2, 17])
def test_few_rows_at_a_time_change_nothing(
    generator: TransformersGenerator, requests: list[SampleRequest], rows: int
) -> None:
    few = replace(generator, rows=rows)
    assert texts(few.draw(requests[:2], PLAN)) == texts(generator.draw(requests[:2], PLAN))


def test_adapters_plans_and_wordings_have_noise_of_their_own(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    worded = replace(PLAN, suffixes=("because",))
    (plain,), (other,) = generator.draw(requests[:1], PLAN), generator.draw(requests[:1], worded)
    assert {one.seed for one in plain if one}.isdisjoint(one.seed for one in other if one)
    prompts = {one.prompt.split(", ")[-1] for one in other if one}
    assert prompts == {"seeing that", "because"}


@pytest.mark.parametrize(("said", "tokens"), [((), {2, 7}), ((9, 9), {7})], ids=["prompt", "path"])
def test_a_path_that_goes_on_begins_with_words(said: tuple[int, ...], tokens: set[int]) -> None:
    """Three in four times the model would end, but that was asked behind the sentence before."""
    reader = SentenceReader(tiny("llava").base.processor.tokenizer, {2})
    scores = torch.full((50, 40), -torch.inf)
    scores[:, 2], scores[:, 7] = torch.tensor(0.75).log(), torch.tensor(0.25).log()
    step = Step(0, said, [(1.0, seed) for seed in range(50)], 5)
    drawing = SentenceDraw([step], reader, end_ids=(2,), top_k=40, longest=8, device="cpu")
    assert set(drawing(scores, len(said), range(50)).tolist()) == tokens
    going = [draw for draw, done in enumerate(drawing.done) if not done]
    ending = torch.full((len(going), 40), -torch.inf)
    ending[:, 2] = 0.0
    drawing(ending, len(said) + 1, going)
    assert all(drawing.done)
    # the words' log-probability is the model's own, as if the end had been possible
    found = [one for one in drawing.sentences if one and one.tokens == (7,)]
    assert len(found) == len(going)
    assert [one.logprob for one in found] == pytest.approx([-1.386294] * len(going), abs=1e-5)


def test_what_is_kept_of_a_search(generator: TransformersGenerator, requests: list[SampleRequest]) -> None:
    (found,) = generator.draw(requests[:1], PLAN)
    kept = [one for one in found if one]
    reports = [one.searched for one in kept if one.searched]
    assert len(reports) == len(kept) > 3
    assert [one.rank for one in reports] == sorted((one.rank for one in reports), reverse=True)
    assert reports[0].side is Side.BEST
    assert [one.side for one in reports[-2:]] == [Side.WORST] * 2
    assert max(len(one.ranks) for one in reports) > 1
    assert all(one.relevances == () and len(one.logprobs) == len(one.ranks) for one in reports)
    assert found[len(kept) :] == [None] * (len(found) - len(kept))


def test_log_probabilities_are_those_of_reading(
    requests: list[SampleRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told again behind the prompt and drawn, or read with the prompt in one pass: the same figures."""
    one = tiny("llava")
    found: list[Found] = []
    monkeypatch.setattr(searching, "search", lambda *args, **kw: found.extend(search(*args, **kw)) or found)
    generator = TransformersGenerator(one.base)
    (drawn,) = generator.draw(requests[:1], PLAN)
    prompt = next(candidate.prompt for candidate in drawn if candidate)
    batch = encoded(one.base, [prompt], [requests[0].image], steps=0)
    paths = [path for path, _ in found[0].paths if IMAGE not in path.said]
    assert max(len(path.nodes) for path in paths) > 2
    for path in paths:
        tokens = [*path.said, *([2] if path.nodes[-1].sentence.ended else [])]
        ids = torch.cat([batch["input_ids"], torch.tensor([tokens])], dim=1)
        with torch.inference_mode():
            logits = one.model(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[
                0
            ]
        read = logits[-len(tokens) - 1 : -1].log_softmax(-1)[range(len(tokens)), tokens].tolist()
        for node in path.nodes:
            count = len(node.sentence.tokens) + node.sentence.ended
            assert node.sentence.logprob == pytest.approx(sum(read[:count]), abs=1e-3)
            read = read[count:]
        assert not read


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [1, 30])
def test_it_stops_between_two_tokens(
    generator: TransformersGenerator,
    requests: list[SampleRequest],
    mode: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(searching, "mode_of", lambda base: mode)
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == at

    with pytest.raises(SamplingStopped):
        generator.draw(requests, PLAN, stop=stop)
    assert len(asked) == at
    assert generator.draw(requests[:1], PLAN)  # and the model is as it was


class Counting:
    """An encoder that likes long sentences, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def relevances(
        self, images: Sequence[Path], told: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, ...]]]:
        assert len(set(images)) == len(images) == len(told)
        self.asked.append((len(images), sum(map(len, told))))
        return [[(float(len(text)),) if text else () for text in some] for some in told]


def test_an_encoder_ranks_sentences(generator: TransformersGenerator, requests: list[SampleRequest]) -> None:
    encoder = Counting()
    plan = replace(PLAN, suffixes=("because",), search=SentenceSearch(relevance_weight=1.0))
    found = generator.search(requests, plan, relevances=encoder.relevances)
    assert 1 < len(encoder.asked) <= 4  # all sentences of a step at once
    assert all(pictures <= 2 for pictures, _ in encoder.asked)
    for some in found:
        reports = [one.searched for one in some if one and one.searched and one.text != ""]
        assert any(report.relevances for report in reports)
        firsts = {report.relevances[0]: report.ranks[0] for report in reports if report.relevances}
        longest, shortest = max(firsts), min(firsts)
        assert firsts[longest] > firsts[shortest]


def test_a_plan_without_a_search_cannot_be_searched(
    generator: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    with pytest.raises(SettingsError, match="ILLUME_STRATEGY"):
        generator.search(requests, replace(PLAN, search=None))


def test_no_requests(generator: TransformersGenerator) -> None:
    searcher: SentenceSearcher = generator
    assert searcher.search([], PLAN) == []


# the embedded model


@pytest.fixture(scope="module")
def embedded() -> TransformersGenerator:
    return TransformersGenerator(load_base_model(base_model_path(), device="cpu"))


@pytest.fixture(scope="module")
def drawn_world(tmp_path_factory: pytest.TempPathFactory) -> list[SampleRequest]:
    folder = tmp_path_factory.mktemp("drawn")
    found = []
    for index, task in enumerate(make_tasks(2, seed=1)):
        draw(task.scene, 240).save(folder / f"{index}.png")
        fields = Task(1, index + 1, f"/{index}.png", task.question_text, task.answer)
        found.append(SampleRequest(fields, folder / f"{index}.png"))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    store.migrate()
    yield store
    store.close()


def test_from_the_embedded_model_to_the_store_and_back(
    embedded: TransformersGenerator, drawn_world: list[SampleRequest], store: Store
) -> None:
    plan = SamplingPlan(max_new_tokens=40, suffixes=("How do you know?",), search=SentenceSearch())
    encoder = Counting()
    for request, proposal in zip(
        drawn_world, propose(embedded, drawn_world, plan, Choice(limit=6), encoder=encoder), strict=True
    ):
        assert 2 <= len(proposal.chosen) <= 6
        for one in proposal.chosen:
            assert one.searched
            assert one.rank == one.searched.rank
            assert one.logprob_mean is not None
            assert one.sentence_relevances == one.searched.relevances == (float(len(one.text)),)
            if "How do you know?" not in one.prompt:
                total = sum(one.sentence_logprobs)
                assert sum(one.searched.logprobs) == pytest.approx(total, abs=1e-3)
        kept = CandidateSet(1, request.task.task_id, "v0000", plan.hash, 1, 0.5, tuple(proposal.chosen))
        with store.write() as conn:
            projects.put(conn, 1, title="t", label_config="", now=0.0)
            stored = candidates.put(conn, kept, now=0.0)
        assert stored == kept
