"""Sampling on a vLLM server: what is asked of it, what becomes of its answers. The server is a small one."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")

from peft import LoraConfig  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from small_vllm import BASE, SmallVllm, copied, opened  # noqa: E402

from backend.sampling import Engine  # noqa: E402
from backend.settings import load_settings  # noqa: E402
from illume_plugin.base_model import Prompts, load_base_model, load_prompts, open_image  # noqa: E402
from illume_plugin.embedded import base_model_path, draw, make_tasks  # noqa: E402
from illume_plugin.errors import ImageError, ModelError, SettingsError  # noqa: E402
from illume_plugin.generation.generator import Generator, SampleRequest  # noqa: E402
from illume_plugin.generation.plan import SamplingPlan, SentenceSearch  # noqa: E402
from illume_plugin.generation.vllm.chat import CHAT  # noqa: E402
from illume_plugin.generation.vllm.client import VllmClient  # noqa: E402
from illume_plugin.generation.vllm.engine import VllmGenerator  # noqa: E402
from illume_plugin.generation.vllm.pictures import data_url  # noqa: E402
from illume_plugin.generation.wordings import prompt_of, rationale_prompt  # noqa: E402
from illume_plugin.registry import FolderStore, Registry  # noqa: E402
from illume_plugin.training.lora import language_layers  # noqa: E402
from illume_plugin.types import Blind, Candidate, Task, Wish  # noqa: E402

PLAN = SamplingPlan(temperatures=(0.3, 0.9), samples=3, max_new_tokens=40)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return load_prompts(base_model_path())


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[SampleRequest]:
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for index, task in enumerate(make_tasks(3, seed=1)):
        draw(task.scene, 240).save(folder / f"{index}.png")
        fields = Task(1, index + 1, f"/{index}.png", task.question_text, task.answer)
        found.append(SampleRequest(fields, folder / f"{index}.png"))
    return found


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 4 that changes something."""
    base = load_base_model(base_model_path(), device="cpu")
    with base.adapters.using(None) as model:
        layers = language_layers(model)
    base.adapters.create("some", LoraConfig(r=4, target_modules=layers, task_type="CAUSAL_LM"))
    with base.adapters.training("some") as model:
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.fill_(0.01)
    folder = tmp_path_factory.mktemp("adapters") / "v0001"
    base.adapters.save("some", folder)
    return folder


@pytest.fixture
def server(prompts: Prompts) -> SmallVllm:
    return SmallVllm(prompts)


@pytest.fixture
def client(server: SmallVllm) -> Iterator[VllmClient]:
    client = VllmClient("http://gpu:8000", transport=httpx.MockTransport(server))
    yield client
    client.close()


@pytest.fixture
def generator(client: VllmClient, prompts: Prompts) -> VllmGenerator:
    return VllmGenerator(client, prompts)


# meeting


@pytest.mark.parametrize(
    ("after_top_k", "reads", "scoring", "concern"),
    [
        (False, False, "log-probabilities of what it draws, not of other texts", ""),
        (False, True, "log-probabilities of what it draws, and of other texts", ""),
        (True, False, "none of what it draws, not of other texts", "raw_logprobs"),
    ],
)
def test_it_tells_how_it_works(
    client: VllmClient,
    prompts: Prompts,
    server: SmallVllm,
    after_top_k: bool,
    reads: bool,
    scoring: str,
    concern: str,
) -> None:
    server.after_top_k = after_top_k
    facts = VllmGenerator(client, prompts, reads=reads).facts()
    assert facts.decoding == "vLLM server at http://gpu:8000"
    assert facts.place == f"model {BASE}"
    assert facts.scoring == scoring
    assert facts.blind == ("text" if reads else "not read (ILLUME_VLLM_READS)")
    assert concern in facts.concern
    assert bool(facts.concern) == bool(concern)


def test_it_is_a_generator(generator: VllmGenerator) -> None:
    assert isinstance(generator, VllmGenerator)
    same: Generator = generator
    assert same.rows == 256


def test_a_server_that_reads_otherwise_is_refused(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    server.shifts = True
    with pytest.raises(
        ModelError, match=r"tokens of a prompt that are \d+ here: from token \d+ on \[7\] instead of \[\]"
    ):
        generator.answer(requests)
    assert not server.asked(CHAT)


def test_a_server_of_another_model_is_refused(
    client: VllmClient, prompts: Prompts, requests: list[SampleRequest]
) -> None:
    with pytest.raises(ModelError, match=r"base model 'llava'\. It serves: embedded\."):
        VllmGenerator(client, prompts, model="llava").answer(requests)


def test_nobody_asks_twice_whether_a_server_is_right(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    generator.answer(requests)
    before = len(server.requests)
    generator.answer(requests)
    assert len(server.requests) == before + len(requests)


# drawing


def test_draws_are_the_plans(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest], prompts: Prompts
) -> None:
    generator.answer(requests[:1])
    server.requests.clear()
    found = generator.draw(requests, PLAN)
    assert [len(draws) for draws in found] == [PLAN.size] * 3
    for request, draws in zip(requests, found, strict=True):
        planned = PLAN.seeds(request.task, None)
        firsts = {t: next(seed for at, seed in planned if at == t) for t in PLAN.temperatures}
        expected = [(t, firsts[t] + i) for t in PLAN.temperatures for i in range(PLAN.samples)]
        assert [(one.temperature, one.seed) for one in draws if one] == expected
        assert [one.text for one in draws if one] == [f"{BASE} {seed}." for _, seed in expected]
        prompt = prompts.rationale(request.task.question, request.task.answer)
        assert {one.prompt for one in draws if one} == {prompt}
    bodies = server.asked(CHAT)
    assert [body["temperature"] for body in bodies] == [0.3, 0.9] * 3
    one = bodies[0]
    assert (one["top_k"], one["max_tokens"], one["n"]) == (PLAN.top_k(464), 40, 3)
    assert (one["top_p"], one["min_p"], one["repetition_penalty"]) == (1, 0, 1)
    assert one["stop_token_ids"] == [prompts.processor.tokenizer.eos_token_id]


def test_every_wording_is_asked_for_and_only_the_own_one_is_remembered(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest], prompts: Prompts
) -> None:
    plan = replace(PLAN, suffixes=("How do you know?",))
    generator.answer(requests[:1])
    server.requests.clear()
    (drawn,) = generator.draw(requests[:1], plan)
    assert len(drawn) == plan.size == 12
    task = requests[0].task
    own = prompts.rationale(task.question, task.answer)
    assert [one.prompt == own for one in drawn if one] == [True] * 6 + [False] * 6
    seeds = {w: dict(reversed(plan.seeds(task, None, w))) for w in (0, 1)}
    assert [body["seed"] for body in server.asked(CHAT)] == [seeds[w][t] for w in (0, 1) for t in (0.3, 0.9)]
    asked = [body["messages"][-1]["content"] for body in server.asked(CHAT)]
    assert ["How do you know?" in str(words) for words in asked] == [False] * 2 + [True] * 2
    (scored,) = generator.score(requests[:1], [[one for one in drawn if one]], blind=False)
    # behind the other wording the server told other probabilities than those that candidates are scored with
    assert [one.logprob_mean is None for one in scored] == [False] * 6 + [True] * 6


def test_a_wish_is_asked_for_in_its_conversation_and_not_remembered(
    server: SmallVllm, generator: VllmGenerator, requests: list[SampleRequest]
) -> None:
    wish = Wish(1, "name the corners", "Because it is red.")
    asked = [replace(requests[0], wish=each) for each in (wish, replace(wish, text=""))]
    (conversation, plain) = generator.draw(asked, PLAN)
    chats = [body["messages"] for body in server.asked(CHAT)][-4:]
    assert [[part["role"] for part in chat] for chat in chats] == [
        ["user", "assistant"] * 2 + ["user"]
    ] * 2 + [["user", "assistant", "user"]] * 2
    said = [[part["text"] for part in turn["content"] if part["type"] == "text"] for turn in chats[0]]
    assert said[-2:] == [["Because it is red."], ["name the corners"]]
    assert {each.prompt for each in plain if each} == {
        rationale_prompt(generator._prompts, None, requests[0].task)
    }
    assert {each.prompt for each in conversation if each} == {prompt_of(generator._prompts, None, asked[0])}
    seeds = [each.seed for each in (*conversation, *plain) if each]
    assert len(set(seeds)) == len(seeds)
    scored = generator.score(requests[:1], [[each for each in plain if each]])
    assert all(each.logprob_mean is not None for each in scored[0]), "plain draws are remembered"


def test_a_search_is_not_for_a_server(generator: VllmGenerator, requests: list[SampleRequest]) -> None:
    with pytest.raises(SettingsError, match="sentence_search does not go with a vLLM server"):
        generator.draw(requests, replace(PLAN, search=SentenceSearch()))


def test_the_same_task_twice_gets_the_same_candidates_twice(
    generator: VllmGenerator, requests: list[SampleRequest]
) -> None:
    one, other = generator.draw([requests[0], requests[0]], PLAN)
    assert one == other
    assert len(one) == PLAN.size


def test_what_did_not_end_is_none(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    server.ends_at = 1
    (draws,) = generator.draw(requests[:1], PLAN)
    assert [one is None for one in draws] == [False, True, False] * 2


def test_no_requests(generator: VllmGenerator) -> None:
    assert (generator.draw([], PLAN), generator.answer([]), generator.score([], [])) == ([], [], [])


def test_answers_are_the_likeliest(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    assert generator.answer(requests) == [f"{BASE} 0."] * 3
    assert {body["temperature"] for body in server.asked(CHAT)[-3:]} == {0.0}


HOSTILE = st.lists(
    st.sampled_from(
        ["<image>", "</s>", "<s>", "<user>", "<assistant>", "<pad>", "is", "\n", '"}]', "{{ 7 }}"]
    )
).map(lambda words: " ".join(["so", *words]))  # texts of markup alone are refused: see test_bad_input_text


@given(question=HOSTILE, answer=HOSTILE)
def test_words_of_a_task_stay_in_their_place(question: str, answer: str) -> None:
    prompts = load_prompts_once()
    server = SmallVllm(prompts)
    client = VllmClient("http://gpu:8000", transport=httpx.MockTransport(server))
    try:
        generator = VllmGenerator(client, prompts)
        generator.draw([SampleRequest(Task(1, 1, "/x.png", question, answer), PICTURE)], PLAN)
    finally:
        client.close()
    chat = server.asked(CHAT)[-1]["messages"]
    assert [message["role"] for message in chat] == ["user", "assistant", "user"]
    assert [part["type"] for message in chat for part in message["content"]] == ["image_url", *["text"] * 3]
    ids = server._tokens(chat, reply=True)
    plain = server._tokens(benign(), reply=True)
    specials = prompts.processor.tokenizer.all_special_ids
    assert [i for i in ids if i in specials] == [i for i in plain if i in specials]


def benign() -> list[dict[str, Any]]:
    words = [{"type": "text", "text": "a"}]
    picture = {"type": "image_url", "image_url": {"url": data_url(PICTURE)}}
    return [
        {"role": "user", "content": [picture, *words]},
        {"role": "assistant", "content": words},
        {"role": "user", "content": [{"type": "text", "text": load_prompts_once().why}]},
    ]


PICTURE: Path
_loaded: list[Prompts] = []


@pytest.fixture(autouse=True, scope="module")
def _picture(tmp_path_factory: pytest.TempPathFactory) -> None:
    global PICTURE
    PICTURE = tmp_path_factory.mktemp("one") / "x.png"
    Image.new("RGB", (96, 96), (200, 30, 30)).save(PICTURE)


def load_prompts_once() -> Prompts:
    if not _loaded:
        _loaded.append(load_prompts(base_model_path()))
    return _loaded[0]


# adapters


def test_an_adapter_is_loaded_used_and_dropped(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest], adapter: Path
) -> None:
    assert not generator.has("p1-v0001")
    generator.load_adapter("p1-v0001", adapter)
    assert generator.has("p1-v0001")
    (name,) = server.adapters
    assert name.startswith("p1-v0001-")
    assert server.adapters[name] == str(adapter)
    (draws,) = generator.draw(requests[:1], PLAN, adapter="p1-v0001")
    assert all(one and one.text.startswith(name) for one in draws)
    generator.drop_adapter("p1-v0001")
    assert not server.adapters
    assert not generator.has("p1-v0001")
    with pytest.raises(ModelError, match="No adapter named 'p1-v0001' is loaded"):
        generator.draw(requests[:1], PLAN, adapter="p1-v0001")


def test_a_server_that_restarted_is_given_its_adapters_again(
    generator: VllmGenerator, server: SmallVllm, adapter: Path
) -> None:
    generator.load_adapter("a", adapter)
    server.adapters.clear()
    assert not generator.has("a")
    generator.load_adapter("a", adapter)
    assert generator.has("a")


def test_an_adapter_that_another_process_drops_is_loaded_again(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest], adapter: Path
) -> None:
    generator.load_adapter("a", adapter)
    before = generator.draw(requests, PLAN, adapter="a")
    server.adapters.clear()
    assert generator.draw(requests, PLAN, adapter="a") == before
    server.adapters.clear()
    server.refusal = (500, "no more")
    with pytest.raises(ModelError, match="no more"):
        generator.draw(requests, PLAN, adapter="a")


def test_the_same_name_of_other_content_is_another_adapter(
    generator: VllmGenerator, server: SmallVllm, adapter: Path, tmp_path: Path
) -> None:
    other = copied(adapter, tmp_path / "other")
    weights = load_file(other / "adapter_model.safetensors")
    save_file({key: value * 2 for key, value in weights.items()}, other / "adapter_model.safetensors")
    generator.load_adapter("a", adapter)
    generator.load_adapter("a", other)
    assert len(server.adapters) == 2
    generator.load_adapter("b", copied(adapter, tmp_path / "copy"))
    assert len(server.adapters) == 3


def test_what_another_process_has_loaded_is_not_loaded_again(
    client: VllmClient, prompts: Prompts, server: SmallVllm, adapter: Path
) -> None:
    for _ in range(2):
        VllmGenerator(client, prompts).load_adapter("a", adapter)
    assert len(server.asked("/v1/load_lora_adapter")) == 1


def test_a_server_elsewhere_sees_the_adapters_at_another_path(
    client: VllmClient, prompts: Prompts, server: SmallVllm, adapter: Path
) -> None:
    generator = VllmGenerator(client, prompts, adapters=(adapter.parent, Path("/mnt/adapters")))
    generator.load_adapter("a", adapter)
    assert list(server.adapters.values()) == ["/mnt/adapters/v0001"]


@pytest.mark.parametrize(
    ("refusal", "part"),
    [
        (
            (500, "Worker failed with error 'LoRA rank 4 is greater than max_lora_rank 1.', see"),
            "--max-lora-rank 4",
        ),
        ((404, "Loading lora a failed: No adapter found for /x"), "ILLUME_VLLM_ADAPTERS"),
        ((404, "Not Found"), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ((405, "Method Not Allowed"), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ((500, "LoRA is not enabled. Use --enable-lora"), "--enable-lora"),
        ((500, "The size of tensor a (128) must match"), "trained on another base model"),
    ],
)
def test_a_refusal_names_the_setting_that_mends_it(
    generator: VllmGenerator, server: SmallVllm, adapter: Path, refusal: tuple[int, str], part: str
) -> None:
    server.refusal = refusal
    with pytest.raises(ModelError) as caught:
        generator.load_adapter("a", adapter)
    assert part in str(caught.value)
    assert len(server.asked("/v1/load_lora_adapter")) == 1
    assert not generator.has("a")


def test_an_adapter_that_the_server_ignores_is_refused(
    generator: VllmGenerator, server: SmallVllm, adapter: Path
) -> None:
    server.ignores = True
    with pytest.raises(ModelError, match="answers as if it were not there"):
        generator.load_adapter("a", adapter)
    assert not server.adapters
    assert not generator.has("a")


def test_an_untrained_adapter_may_change_nothing(
    generator: VllmGenerator, server: SmallVllm, adapter: Path, tmp_path: Path
) -> None:
    server.ignores = True
    fresh = copied(adapter, tmp_path / "fresh")
    weights = load_file(fresh / "adapter_model.safetensors")
    zeros = {key: value * (0 if "lora_B" in key else 1) for key, value in weights.items()}
    save_file(zeros, fresh / "adapter_model.safetensors")
    generator.load_adapter("a", fresh)
    assert generator.has("a")


def _renamed(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("language_model", "vision_tower"): value for key, value in weights.items()}
    save_file(renamed, folder / "adapter_model.safetensors")


def _configured(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_renamed, "outside the language part"),
        (_configured(r=8), r"rank \[4\], its configuration says 8"),
        (_configured(peft_type="IA3"), "its type is IA3"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "cannot be loaded"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "cannot be loaded"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot be loaded"),
    ],
)
def test_a_damaged_adapter_never_reaches_the_server(
    generator: VllmGenerator, server: SmallVllm, adapter: Path, tmp_path: Path, damage: Any, part: str
) -> None:
    folder = copied(adapter, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(ModelError, match=part):
        generator.load_adapter("a", folder)
    assert not server.asked("/v1/load_lora_adapter")


# scores


def test_a_drawn_text_needs_no_reading(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    drawn = generator.draw(requests, PLAN)
    before = len(server.requests)
    kept = [[one for one in draws if one] for draws in drawn]
    scored = generator.score(requests, kept, blind=False)
    assert len(server.requests) == before
    for one in (one for some in scored for one in some):
        assert one.logprob_mean == pytest.approx(-0.5 - len(one.text) / 100)
        assert (one.i2c, one.pmi, one.blind) == (None, None, None)


def test_log_probabilities_after_top_k_are_not_the_models(
    generator: VllmGenerator, server: SmallVllm, requests: list[SampleRequest]
) -> None:
    server.after_top_k = True
    kept = [[one for one in draws if one] for draws in generator.draw(requests[:1], PLAN)]
    assert {one.logprob_mean for one in generator.score(requests[:1], kept)[0]} == {None}


def test_what_cannot_be_scored_is_left_so_and_said_once(
    generator: VllmGenerator, requests: list[SampleRequest], caplog: pytest.LogCaptureFixture
) -> None:
    others = [[Candidate("it is red.", 0.5, 1)]]
    caplog.set_level(logging.WARNING)
    assert generator.score(requests[:1], others) == others
    assert generator.score(requests[:1], others) == others
    assert caplog.text.count("ILLUME_VLLM_READS") == 1


@pytest.mark.parametrize("behind", [[], [36], [36, 36, 36]])
@pytest.mark.parametrize(("text", "sentences"), [("it is red. it is small.", 2), ("yes", 1)])
def test_a_read_text_is_scored_by_its_own_tokens(
    client: VllmClient,
    server: SmallVllm,
    prompts: Prompts,
    requests: list[SampleRequest],
    behind: list[int],
    text: str,
    sentences: int,
) -> None:
    server.tells_prompts, server.behind = True, behind
    generator = VllmGenerator(client, prompts, reads=True)
    ((one,),) = generator.score(requests[:1], [[Candidate(text, 0.5, 1)]])
    seen, blind = (server._tokens(body["messages"], reply=False) for body in server.asked(CHAT)[-2:])
    own = len(server.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) + 1
    values = [-i / 100 for i in range(len(seen) - own, len(seen))]
    assert one.logprob_mean == pytest.approx(sum(values) / own)
    assert sum(one.sentence_logprobs) == pytest.approx(sum(values))
    assert len(one.sentence_logprobs) == sentences
    assert (one.pmi, one.blind) == (pytest.approx((len(blind) - len(seen)) / 100), Blind.TEXT)


def test_scores_need_a_server_that_tells_prompts(
    client: VllmClient, prompts: Prompts, requests: list[SampleRequest]
) -> None:
    generator = VllmGenerator(client, prompts, reads=True)
    others = [[Candidate("it is red.", 0.5, 1)]]
    assert generator.score(requests[:1], others) == others


# pictures


def _made(mode: str, **options: Any) -> Any:
    def make(path: Path) -> None:
        noise = Image.effect_noise((48, 32), 90)
        picture = Image.merge(
            "RGB", [noise, noise.rotate(180), noise.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
        )
        picture.convert(mode).save(path, **options)

    return make


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _made("RGB", format="JPEG", exif=exif)(path)


@pytest.mark.parametrize(
    ("make", "kind", "kept"),
    [
        (_made("RGB", format="JPEG"), "jpeg", True),
        (_made("RGB", format="PNG"), "png", False),
        (_made("L", format="JPEG"), "png", False),
        (_made("CMYK", format="JPEG"), "png", False),
        (_made("RGBA", format="PNG"), "png", False),
        (_made("P", format="GIF"), "png", False),
        (_made("I;16", format="TIFF"), "png", False),
        (_turned, "png", False),
    ],
)
def test_a_picture_arrives_with_the_pixels_that_we_see(
    tmp_path: Path, make: Any, kind: str, kept: bool
) -> None:
    path = tmp_path / "picture"
    make(path)
    url = data_url(path)
    assert url.startswith(f"data:image/{kind};base64,")
    assert opened(url).tobytes() == open_image(path).tobytes()
    assert (base64.b64decode(url.partition(",")[2]) == path.read_bytes()) is kept


def test_a_picture_too_large_for_png_goes_as_jpeg_and_then_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    _made("RGB", format="BMP")(path)
    png = len(base64.b64decode(data_url(path).partition(",")[2]))
    assert data_url(path, max_bytes=png - 1).startswith("data:image/jpeg;")
    with pytest.raises(ImageError, match=r"'picture' \(48 x 32\) has more than 100 bytes"):
        data_url(path, max_bytes=100)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_no_picture_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"'picture' is (an empty file|not a picture)"):
        data_url(path)


# the engine


def test_the_setting_chooses_the_server_and_no_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", loaded)
    settings = load_settings(vllm_url="http://gpu:8000/v1", vllm_api_key="sesame", data_dir=tmp_path)
    engine = Engine(settings, Registry(FolderStore(tmp_path / "adapters")))
    generator = engine.generator()
    assert isinstance(generator, VllmGenerator)
    assert generator.mode == "vLLM server at http://gpu:8000"
    assert "sesame" not in repr(settings) + repr(generator)
    generator._client.close()
