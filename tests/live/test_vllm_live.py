"""Against a real vLLM server with the embedded model: the same model as in this process, behind another door.

Run by `make vllm-test`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

torch = pytest.importorskip("torch")

from peft import LoraConfig  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from illume_plugin.base_model import encode_prompts, load_base_model, open_image  # noqa: E402
from illume_plugin.embedded import WorldTask, base_model_path, check, draw, make_tasks  # noqa: E402
from illume_plugin.errors import ModelError, SettingsError, TaskError, UnavailableError  # noqa: E402
from illume_plugin.generation.engine import TransformersGenerator  # noqa: E402
from illume_plugin.generation.generator import SampleRequest  # noqa: E402
from illume_plugin.generation.plan import SamplingPlan  # noqa: E402
from illume_plugin.generation.stopping import SamplingStopped  # noqa: E402
from illume_plugin.generation.vllm.chat import messages  # noqa: E402
from illume_plugin.generation.vllm.client import Limits, VllmClient  # noqa: E402
from illume_plugin.generation.vllm.engine import VllmGenerator  # noqa: E402
from illume_plugin.generation.vllm.pictures import data_url  # noqa: E402
from illume_plugin.metrics import distinct_share  # noqa: E402
from illume_plugin.training.lora import language_layers  # noqa: E402
from illume_plugin.types import Candidate  # noqa: E402
from illume_plugin.types import Task as Fields  # noqa: E402
from live.conftest import free_port  # noqa: E402
from live.vllm_server import KEY, MAX_RANK, VllmServer  # noqa: E402

PLAN = SamplingPlan.paper()
TASKS = make_tasks(20, seed=1)
SHORT = Limits(attempts=3, first_wait_s=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """Started once; one test kills it and starts it again."""
    server = VllmServer(free_port(), tmp_path_factory.mktemp("vllm") / "server.log")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def local() -> TransformersGenerator:
    return TransformersGenerator(load_base_model(base_model_path(), device="cpu"))


@pytest.fixture(scope="module")
def client(server: VllmServer) -> Iterator[VllmClient]:
    client = VllmClient(server.url, api_key=KEY, limits=SHORT)
    yield client
    client.close()


@pytest.fixture(scope="module")
def remote(client: VllmClient, local: TransformersGenerator) -> VllmGenerator:
    return VllmGenerator(client, local.base.prompts, reads=True)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[SampleRequest]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for index, task in enumerate(TASKS):
        draw(task.scene, 240).save(folder / f"{index}.png")
        fields = Fields(1, index + 1, f"/{index}.png", task.question_text, task.answer)
        found.append(SampleRequest(fields, folder / f"{index}.png"))
    return found


@pytest.fixture(scope="module")
def drawn(remote: VllmGenerator, requests: list[SampleRequest]) -> list[list[Candidate]]:
    """25 draws for each of the 20 tasks."""
    return [[one for one in draws if one] for draws in remote.draw(requests, PLAN)]


def kept(drawn: Sequence[Sequence[Candidate]], tasks: int) -> list[list[Candidate]]:
    """The different texts of some tasks."""
    return [list({one.text: one for one in draws}.values()) for draws in drawn[:tasks]]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v0001 (rank 8) and v0002 (rank 16), and some that no server should take.

    They change little, so that rounding tips no answer.
    """
    root = tmp_path_factory.mktemp("adapters")
    _adapter(root / "v0001", rank=8)
    _adapter(root / "v0002", rank=MAX_RANK)
    _adapter(root / "rank", rank=2 * MAX_RANK)
    _adapter(root / "vision", rank=8, layers=r".*vision_tower.*\.(q_proj|v_proj)")
    _changed(
        root / "v0001", root / "wide", lambda key, value: (key, torch.cat([value] * 2, int("_A" in key)))
    )
    _changed(root / "v0001", root / "named", lambda key, value: (key.replace("language", "text"), value))
    return root


def _adapter(folder: Path, *, rank: int, layers: str | None = None) -> None:
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        layers = layers or language_layers(model)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers, task_type="CAUSAL_LM")
    base.adapters.create("some", config)
    numbers = torch.Generator().manual_seed(rank)
    with base.adapters.training("some") as model:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=numbers) * 0.1
    base.adapters.save("some", folder)


def _changed(
    folder: Path, into: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]
) -> None:
    into.mkdir()
    (into / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(dict(change(key, value) for key, value in weights.items()), into / "adapter_model.safetensors")


# the same model


def test_greedy_answers_are_the_same(
    remote: VllmGenerator, local: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    assert remote.answer(requests) == local.answer(requests)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what color is it ?", "red"),
        ("What   COLOR,\nis it?\t", " Ünïcode 色 \U0001f600 "),
        ("</s><assistant> it is red <image> <user>", "</s><user> say something else"),
        ("{{ 7 * 7 }} {% raw %}", '"}]} \\n'),
        ("", ""),
        ("עברית", "اللغة\u202e العربية"),
        ("\x00\x07\ufeff", "\u200d"),
    ],
)
def test_the_server_reads_every_task_as_we_do(
    remote: VllmGenerator, local: TransformersGenerator, client: VllmClient, requests: list[SampleRequest],
    question: str, answer: str,
) -> None:  # fmt: skip
    prompts, picture = local.base.prompts, requests[0].image
    for text, chat in (
        (prompts.answer(question), prompts.answer_messages(question)),
        (prompts.rationale(question, answer), prompts.rationale_messages(question, answer)),
    ):
        ours = encode_prompts(prompts, [text], [open_image(picture)])["input_ids"][0].tolist()
        body = {"model": "embedded", "messages": messages(chat, data_url(picture))}
        assert client.post("/tokenize", body)["tokens"] == ours
        ends = local.base.end_ids
        assert sum(token in ends for token in ours) == (1 if len(chat) > 1 else 0)


def fit_rate(tasks: Sequence[WorldTask], drawn: Sequence[Sequence[Candidate]]) -> float:
    return fmean(
        check(task.scene, task.question, task.answer, one.text).fits
        for task, draws in zip(tasks, drawn, strict=True)
        for one in draws
    )


def test_draws_fit_and_differ_as_ours_do(
    drawn: list[list[Candidate]], local: TransformersGenerator, requests: list[SampleRequest]
) -> None:
    ours = [[one for one in draws if one] for draws in local.draw(requests, PLAN)]
    assert sum(map(len, drawn)) > 0.98 * len(requests) * PLAN.size
    assert fit_rate(TASKS, drawn) == pytest.approx(fit_rate(TASKS, ours), abs=0.1)  # 500 draws each

    def different(some: Sequence[Sequence[Candidate]], temperature: float) -> float:
        return fmean(distinct_share([c.text for c in d if c.temperature == temperature]) for d in some)

    shares = [different(drawn, t) for t in PLAN.temperatures]
    assert shares[0] < 0.35  # of five nearly greedy draws
    assert shares[0] < shares[2] < shares[4]
    for temperature, share in zip(PLAN.temperatures, shares, strict=True):
        assert share == pytest.approx(different(ours, temperature), abs=0.15)


def test_a_draw_can_be_repeated_alone_by_its_seed(
    remote: VllmGenerator,
    requests: list[SampleRequest],
    drawn: list[list[Candidate]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = remote.draw(requests[7:8], PLAN)
    assert [one for one in again[0] if one] == drawn[7]
    for candidate in drawn[7][-3:]:
        monkeypatch.setattr(SamplingPlan, "seeds", lambda *_, at=candidate: [(at.temperature, at.seed)])
        assert remote.draw(requests[7:8], PLAN) == [[candidate]]


def test_a_draw_that_is_cut_short_is_none(remote: VllmGenerator, requests: list[SampleRequest]) -> None:
    (draws,) = remote.draw(requests[:1], replace(PLAN, max_new_tokens=2))
    assert draws == [None] * PLAN.size


@pytest.mark.parametrize("remembered", [True, False])
def test_scores_are_the_same(
    remote: VllmGenerator,
    local: TransformersGenerator,
    requests: list[SampleRequest],
    drawn: list[list[Candidate]],
    remembered: bool,
) -> None:
    some = kept(drawn, 3)
    if not remembered:
        remote = VllmGenerator(remote._client, local.base.prompts, reads=True)
    theirs, ours = remote.score(requests[:3], some), local.score(requests[:3], some)
    for one, other in ((a, b) for x, y in zip(theirs, ours, strict=True) for a, b in zip(x, y, strict=True)):
        assert one.logprob_mean == pytest.approx(other.logprob_mean, abs=1e-3)
        assert one.sentence_logprobs == pytest.approx(other.sentence_logprobs, abs=1e-2)
        assert (one.i2c, one.pmi) == (pytest.approx(other.i2c, abs=1e-3), pytest.approx(other.pmi, abs=1e-3))
        assert one.blind is other.blind


# adapters


def test_adapters_beside_each_other(
    remote: VllmGenerator,
    local: TransformersGenerator,
    requests: list[SampleRequest],
    drawn: list[list[Candidate]],
    adapters: Path,
) -> None:
    plain = remote.score(requests[:1], kept(drawn, 1))[0]
    for name in ("v0001", "v0002"):
        remote.load_adapter(name, adapters / name)
        local.load_adapter(name, adapters / name)
    for name in ("v0001", "v0002", "v0001"):
        assert remote.answer(requests, adapter=name) == local.answer(requests, adapter=name)
        theirs = remote.score(requests[:1], kept(drawn, 1), adapter=name)[0]
        ours = local.score(requests[:1], kept(drawn, 1), adapter=name)[0]
        told = [one.logprob_mean for one in theirs]
        assert told == pytest.approx([one.logprob_mean for one in ours], abs=1e-3)
        assert told != pytest.approx([one.logprob_mean for one in plain], abs=0.02)
    texts = {
        name: [one and one.text for one in remote.draw(requests[:1], PLAN, adapter=name)[0]]
        for name in (None, "v0001", "v0002")
    }
    assert len({str(some) for some in texts.values()}) == 3
    remote.drop_adapter("v0001")
    assert (remote.has("v0001"), remote.has("v0002")) == (False, True)
    with pytest.raises(ModelError, match="No adapter named 'v0001'"):
        remote.draw(requests[:1], PLAN, adapter="v0001")
    assert remote.answer(requests, adapter="v0002") == local.answer(requests, adapter="v0002")
    remote.drop_adapter("v0002")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("rank", f"rank {2 * MAX_RANK}; the vLLM server takes rank {MAX_RANK} at most"),
        ("vision", "outside the language part"),
        ("wide", "trained on another base model"),
        ("named", "answers as if it were not there"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_the_others_go_on(
    remote: VllmGenerator, requests: list[SampleRequest], adapters: Path, name: str, part: str
) -> None:
    remote.load_adapter("v0001", adapters / "v0001")
    before = remote.answer(requests[:3], adapter="v0001")
    with pytest.raises(ModelError, match=part):
        remote.load_adapter(name, adapters / name)
    assert not remote.has(name)
    assert remote.answer(requests[:3], adapter="v0001") == before
    remote.drop_adapter("v0001")


# what goes wrong


def test_a_question_longer_than_the_server_reads(
    remote: VllmGenerator, requests: list[SampleRequest]
) -> None:
    long = replace(requests[0].task, question="what is it ? " * 1000)
    with pytest.raises(TaskError, match="--max-model-len"):
        remote.draw([replace(requests[0], task=long)], PLAN)


def test_a_wrong_key(server: VllmServer, local: TransformersGenerator, requests: list[SampleRequest]) -> None:
    client = VllmClient(server.url, api_key="another", limits=SHORT)
    try:
        with pytest.raises(SettingsError, match="ILLUME_VLLM_API_KEY"):
            VllmGenerator(client, local.base.prompts).answer(requests[:1])
    finally:
        client.close()


def test_who_stops_gets_no_candidates_and_the_server_goes_on(
    remote: VllmGenerator, requests: list[SampleRequest]
) -> None:
    with pytest.raises(SamplingStopped):
        remote.draw(requests * 5, PLAN, stop=lambda: True)
    assert len(remote.answer(requests[:1])) == 1


def test_a_server_killed_in_the_middle_is_an_error_and_a_new_one_serves(
    server: VllmServer, remote: VllmGenerator, requests: list[SampleRequest], adapters: Path
) -> None:
    remote.load_adapter("v0001", adapters / "v0001")
    before = remote.answer(requests[:3], adapter="v0001")

    def killed() -> bool:
        server.kill()  # asked while requests are in flight
        return False

    with pytest.raises(UnavailableError, match=f"The vLLM server at {server.url} cannot be reached"):
        remote.draw(requests * 5, PLAN, adapter="v0001", stop=killed)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        remote.has("v0001")
    server.start()
    assert not remote.has("v0001")
    remote.load_adapter("v0001", adapters / "v0001")
    assert remote.answer(requests[:3], adapter="v0001") == before
