"""The simulated loop: resumed = uninterrupted, plain ends, results; one true round with torch at the end."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import SELECT, SayingGenerator
from defusedxml import ElementTree
from test_retrain import StandInChild

import backend.retrain
import backend.simulate.loop
import backend.simulate.supervised
from backend.cli import main
from backend.sampling import Engine, Sampler
from backend.service import Service
from backend.simulate import Iteration, Measurement, Options, Simulation
from backend.simulate.curve import Series, curve
from backend.simulate.labelling import Tally
from backend.simulate.loop import no_signal
from backend.simulate.measuring import HeldOut, judged
from backend.simulate.options import freeze
from backend.simulate.progress import Stage, duration
from backend.simulate.report import outcome, page
from backend.simulate.submission import submission
from backend.simulate.supervised import supervised
from backend.simulate.world import held_out_tasks, labelled_tasks, unjudged_tasks
from illume_plugin.annotators import CheckerAnnotator, Critic, Strictness
from illume_plugin.embedded import World, rationales
from illume_plugin.errors import ConflictError, RunError, SettingsError
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.preferences import AnnotationSeen, observe, preferences_of
from illume_plugin.store import candidates
from illume_plugin.training.spec import read_spec
from illume_plugin.types import BASE_VERSION, Candidate, Metric, Verdict

SMALL = Options(
    tasks=12, iterations=2, samples=2, temperatures=(0.5, 0.9), held_out_tasks=8, held_out_samples=3
)


class Talker(SayingGenerator):
    """Gives a true rationale with probability `base` without an adapter, always with one; never sees."""

    def __init__(self, options: Options, base: float = 0.5) -> None:
        super().__init__()
        self.base = base
        held_out = held_out_tasks(options.seed, options.held_out_tasks, world=options.world)
        self.world = {f"held-out/{n:05d}": task for n, task in enumerate(held_out, start=1)}
        unjudged = unjudged_tasks(options.seed, options.unjudged, world=options.world)
        self.world |= {f"labelled/{task_id:05d}": task for task_id, task in unjudged.items()}
        for iteration in range(1, options.iterations + 1):
            labelled = labelled_tasks(
                options.seed, tasks=options.tasks, iteration=iteration, world=options.world
            )
            self.world |= {f"labelled/{task_id:05d}": task for task_id, task in labelled.items()}

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        assert adapter is None or self.has(adapter)
        return [list(self._say(request, plan, adapter)) for request in requests]

    def _say(
        self, request: SampleRequest, plan: SamplingPlan, adapter: str | None
    ) -> Iterator[Candidate | None]:
        task = self.world[f"{request.image.parent.name}/{request.image.stem}"]
        for temperature, seed in plan.seeds(request.task, adapter):
            rng = random.Random(seed)
            text = "because it is obvious ."
            if adapter or rng.random() < self.base:
                text = rationales(task.scene, task.question, task.answer, rng)
            yield Candidate(text, temperature, seed, logprob_mean=-rng.random())


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[StandInChild]:
    class Fresh(StandInChild):
        pass

    monkeypatch.setattr(backend.retrain, "TrainingChild", Fresh)
    return Fresh


@pytest.fixture
def simulate(
    monkeypatch: pytest.MonkeyPatch, _migrated: Path, child: type[StandInChild]
) -> Callable[..., list[Iteration]]:
    """Runs a simulation in which only the base model and the training process are stand-ins."""

    def run(options: Options, out: Path, *, base: float = 0.5) -> list[Iteration]:
        if not out.is_dir():
            (out / "data").mkdir(parents=True)
            shutil.copy(_migrated, out / "data" / "illume.sqlite3")
        monkeypatch.setattr(Engine, "_load", lambda _self: Talker(options, base))
        return Simulation(options, out, say=lambda _line: None).run()

    return run


def timeless(done: Sequence[Iteration]) -> list[Iteration]:
    return [replace(one, seconds={}) for one in done]


class Killed(BaseException):
    """As if kill -9: nothing of ours handles it."""


def dying_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but the process dies at this call."""
    calls: list[str] = []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append("")
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    return dying


# -- the loop (measuring loads torch) --------------------------------------------------------------------


@pytest.mark.torch
def test_the_loop_learns_from_ticks(
    simulate: Callable[..., list[Iteration]], tmp_path: Path, child: type[StandInChild]
) -> None:
    base, first, second = simulate(SMALL, tmp_path / "out")
    assert (base.serves, first.serves, second.serves) == ("v0000", "v0001", "v0002")
    assert 0.2 < base.measured.fit_rate.value < 0.8
    assert second.measured.fit_rate.value == 1.0
    assert second.measured.fit_rate.low < 1.0, "the interval knows how few tasks there are"
    assert 0 < first.ticked < first.shown
    assert second.ticked == second.shown, "the adapter's candidates all fit"
    assert second.accepted > first.accepted > 0
    assert first.run["state"] == "promoted"
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["outcome"].startswith("after 2 iterations: fit rate")
    assert found["options"]["tasks"] == 12
    assert found["versions"]["torch"]
    assert [Iteration.from_json(one) for one in found["iterations"]] == [base, first, second]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        (Sampler, "sample", 1),
        (Service, "receive", 5),
        (Service, "apply_events", 1),
        (Service, "request_training", 1),
        (Service, "request_training", 2),
        (backend.retrain.Retrain, "_train", 1),
        (backend.retrain.Retrain, "_publish", 2),
        (backend.retrain.Retrain, "_switch", 1),
        (HeldOut, "measure", 1),
        (HeldOut, "measure", 2),
        (backend.simulate.loop, "write_json", 2),
        (backend.simulate.loop, "write_results", 2),
    ],
)
def test_a_killed_simulation_goes_on_and_ends_as_if_nothing_had_happened(
    simulate: Callable[..., list[Iteration]],
    tmp_path: Path,
    child: type[StandInChild],
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    call: int,
) -> None:
    uninterrupted = simulate(SMALL, tmp_path / "quiet")
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dying_at(call, getattr(where, name)))
        with pytest.raises(Killed):
            simulate(SMALL, tmp_path / "killed")
    child.started = 0
    assert timeless(simulate(SMALL, tmp_path / "killed")) == timeless(uninterrupted)
    assert timeless(simulate(SMALL, tmp_path / "killed")) == timeless(uninterrupted), "nothing is left to do"
    assert child.started <= SMALL.iterations


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """People have the last word; figures that need torch are left out."""
    policy = tmp_path / "policy.toml"
    policy.write_text("[blind]\nenabled = true\n", encoding="utf-8")
    monkeypatch.setenv("ILLUME_GATE_POLICY", str(policy))
    half = Metric(0.5, 0.4, 0.6, 8)

    def unmeasured(*_: object, version: str, **__: object) -> tuple[Measurement, float]:
        kinds = {"at": {"fit_rate": half, "answer_accuracy": half}}
        return Measurement(version, half, half, half, half, {}, kinds), 1.0

    monkeypatch.setattr(HeldOut, "measure", unmeasured)


BLIND = replace(SMALL, tasks=20, iterations=4)


def test_annotators_have_the_last_word(
    simulate: Callable[..., list[Iteration]], tmp_path: Path, child: type[StandInChild], blind: None
) -> None:
    _, first, second, third, fourth = simulate(BLIND, tmp_path / "out", base=0.4)
    assert (first.run["state"], first.serves, first.trial) == ("trial", BASE_VERSION, {})
    assert (second.run, second.trial["end"], second.trial["tasks"]) == ({}, "", 20), "no run meanwhile"
    assert (third.trial["end"], third.trial["challenger"], third.serves) == ("better", "v0001", "v0001")
    assert third.trial["low"] > 0
    assert (third.run["state"], third.run["version"]) == ("trial", "v0002"), "the next one follows at once"
    assert fourth.trial["challenger"] == "v0002"
    assert child.started == 2
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| 3 | v0000 | v0001 |" in page
    assert "v0001 (v0002 on trial)" in page
    assert "gate blind enabled `True`" in page


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        (Service, "receive", 25),
        (Service, "request_training", 2),
        (backend.simulate.loop, "standing", 2),
        (backend.retrain.Retrain, "_tidy", 2),
    ],
)
def test_a_killed_simulation_of_a_trial_goes_on_where_it_was(
    simulate: Callable[..., list[Iteration]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blind: None,
    where: Any,
    name: str,
    call: int,
) -> None:
    uninterrupted = simulate(BLIND, tmp_path / "quiet", base=0.4)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dying_at(call, getattr(where, name)))
        with pytest.raises(Killed):
            simulate(BLIND, tmp_path / "killed", base=0.4)
    assert timeless(simulate(BLIND, tmp_path / "killed", base=0.4)) == timeless(uninterrupted)


@pytest.mark.torch
def test_a_held_run_leaves_what_served_and_its_figures(
    simulate: Callable[..., list[Iteration]], tmp_path: Path, child: type[StandInChild]
) -> None:
    child.challenger = 0.2
    base, first, second = simulate(SMALL, tmp_path / "out")
    assert first.run["state"] == second.run["state"] == "held"
    assert first.serves == second.serves == BASE_VERSION
    assert first.measured == second.measured == base.measured
    assert "run held" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.torch
def test_without_a_signal_it_ends_in_plain_words_and_without_an_adapter(
    simulate: Callable[..., list[Iteration]], tmp_path: Path, child: type[StandInChild]
) -> None:
    out = tmp_path / "out"
    done = simulate(SMALL, out, base=0.0)
    words = "o fitting candidates: nobody ticked anything that the base model wrote for 12 tasks."
    assert done[-1].ended.startswith(f"n{words}")
    assert "ILLUME_BASE_MODEL" in done[-1].ended, "it says what to do"
    assert len(done) == 2
    assert child.started == 0
    assert not (out / "data" / "adapters").exists()
    assert json.loads((out / "results.json").read_text())["outcome"] == done[-1].ended
    for name in ("results.md", "curve.svg"):
        assert f"N{words}" in (out / name).read_text(), name
    assert simulate(SMALL, out, base=0.0) == done, "and so it stays"


@pytest.mark.torch
def test_who_sees_patterns_learns_from_ticks_in_the_world_of_patterns(
    simulate: Callable[..., list[Iteration]], tmp_path: Path
) -> None:
    base, first, second = simulate(replace(SMALL, world=World.PATTERNS), tmp_path / "out")
    assert set(base.measured.kinds) == {"pattern"}
    assert 0 < base.measured.fit_rate.value < second.measured.fit_rate.value == 1.0
    assert 0 < first.ticked < first.shown
    assert "World of patterns" in (tmp_path / "out" / "curve.svg").read_text()


@pytest.mark.torch
def test_tasks_that_nobody_opens_wait_with_candidates_of_what_serves(
    simulate: Callable[..., list[Iteration]], tmp_path: Path
) -> None:
    options = replace(SMALL, unjudged=3)
    waiting = unjudged_tasks(options.seed, options.unjudged)
    *_, last = simulate(options, tmp_path / "out")
    assert last.sampled == options.tasks
    service = Service(options.settings(tmp_path / "out"))
    try:
        with service.store.read() as conn:
            newest = {one.task_id: one for one in candidates.newest(conn, options.seed + 1)}
    finally:
        service.close()
    assert {newest[task_id].version for task_id in waiting} == {"v0001"}, "of what served in the last round"


@pytest.mark.torch
def test_a_failed_run_is_told_and_tried_again(
    simulate: Callable[..., list[Iteration]], tmp_path: Path, child: type[StandInChild]
) -> None:
    child.error = RunError("The loss is not finite.")
    with pytest.raises(RunError, match="The loss is not finite"):
        simulate(SMALL, tmp_path / "out")
    child.error = None
    assert len(simulate(SMALL, tmp_path / "out")) == 3


@pytest.mark.torch
def test_several_annotators_judge_every_task(
    simulate: Callable[..., list[Iteration]], tmp_path: Path
) -> None:
    options = replace(SMALL, iterations=1, annotators=3, strictness=tuple(Strictness), noise=0.1)
    (_, one) = simulate(replace(SMALL, iterations=1), tmp_path / "one")
    (_, three) = simulate(options, tmp_path / "three")
    assert three.shown == 3 * one.shown
    assert three.sampled == one.sampled == SMALL.tasks


@pytest.mark.torch
def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    first, second = (Simulation(SMALL, tmp_path, say=print) for _ in range(2))
    with first.alone(), pytest.raises(ConflictError, match="going on in"):
        second.run()


@pytest.mark.torch
def test_figures_by_hand() -> None:
    one, two = held_out_tasks(0, 2)
    true = [rationales(one.scene, one.question, one.answer, random.Random(k)) for k in range(20)]
    first, second = sorted(set(true))[:2]
    generic = "because it is obvious ."
    found = judged(
        "v0001",
        [one, two],
        [f" {one.answer.upper()}.", "no idea"],
        [[first, second, None, first], [generic, generic, None, None]],
        [[first, generic], [generic, None]],
    )
    assert found.reasons == {"generic": 2, "ok": 3, "unfinished": 3}
    assert (found.fit_rate.value, found.fit_rate.n) == (3 / 8, 2)
    assert found.fit_rate_plan.value == 1 / 4
    assert found.distinct.value == (2 / 4 + 1 / 4) / 2
    assert found.answer_accuracy.value == 1 / 2
    assert found.kinds[one.question.kind]["fit_rate"].n == sum(
        task.question.kind == one.question.kind for task in (one, two)
    )


@pytest.mark.torch
def test_supervised_tuning_learns_from_written_rationales_and_is_done_once(
    simulate: Callable[..., list[Iteration]],
    tmp_path: Path,
    child: type[StandInChild],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend.simulate.supervised, "TrainingChild", child)
    simulate(SMALL, tmp_path / "out")
    child.started = 0
    simulation = Simulation(SMALL, tmp_path / "out", say=lambda _line: None)
    first = supervised(simulation, 30)
    spec = read_spec(tmp_path / "out" / "supervised-30")
    tasks = labelled_tasks(SMALL.seed, tasks=30, iteration=1)
    assert [row.task_id for row in spec.training_set.rows] == list(tasks)
    assert all(
        CheckerAnnotator().ticks(tasks[row.task_id], [row.rationale or ""]) == [True]
        for row in spec.training_set.rows
    )
    assert spec.parent_adapter is None
    assert first.measured.fit_rate.value == 1.0
    assert supervised(simulation, 30) == first
    assert child.started == 1


# -- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tasks": 0}, "tasks must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"unjudged": -1}, "unjudged must be at least 0, not -1"),
        ({"objectives": {"dpo": -1.0}}, "dpo must be a number of at least 0"),
        ({"objectives": {"ppo": 1.0}}, "Unknown settings of objectives: ppo"),
        ({"train": {"epoch": 3}}, "Unknown training settings: epoch"),
        ({"noise": 2.0}, "noise"),
        ({"critic": Critic.ROUGE, "strictness": (Strictness.STRICT,)}, "cannot be strict"),
    ],
)
def test_wrong_options(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        replace(SMALL, **changed)


def test_an_option_that_is_younger_than_the_folder_had_its_default(tmp_path: Path) -> None:
    freeze(tmp_path, {name: value for name, value in SMALL.to_json().items() if name != "world"})
    freeze(tmp_path, SMALL.to_json())
    with pytest.raises(ConflictError, match="world was 'shapes' and is 'patterns' now"):
        freeze(tmp_path, replace(SMALL, world=World.PATTERNS).to_json())


def test_a_changed_option_is_named_with_both_values(tmp_path: Path) -> None:
    freeze(tmp_path, SMALL.to_json())
    freeze(tmp_path, SMALL.to_json())
    with pytest.raises(ConflictError, match=r"noise was 0\.0 and is 0\.2 now, tasks was 12 and is 13 now"):
        freeze(tmp_path, replace(SMALL, tasks=13, noise=0.2).to_json())


def test_the_users_own_store_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_DATABASE_URL", "postgresql://production")
    monkeypatch.setenv("ILLUME_DATA_DIR", "elsewhere")
    assert SMALL.settings(tmp_path).store_url == f"sqlite:///{tmp_path}/data/illume.sqlite3"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperatures", "hot"], "'hot' is not a list of numbers"),
        (["--strictness", "fierce"], "'fierce' is none of exact, lenient, strict"),
        (["--train", "epochs"], "'epochs' is not NAME=VALUE"),
        (["--train", "epochs=0"], "epochs must be a whole number above 0"),
        (["--strictness", "exact,strict"], "2 kinds of strictness cannot be shared among 1"),
    ],
)
def test_the_command_refuses_in_plain_words(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["simulate", "--out", "out", *arguments])
    assert result.exit_code != 0
    assert words in result.output
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "world", "weigh"),
    [
        ([], World.SHAPES, True),
        (["--world", "patterns", "--weigh-agreement"], World.PATTERNS, True),
        (["--majority"], World.SHAPES, False),
    ],
)
def test_world_and_agreement_reach_the_simulation_and_its_backend(
    arguments: list[str], world: World, weigh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Simulation] = []
    monkeypatch.setattr(Simulation, "run", lambda simulation: begun.append(simulation))
    result = CliRunner().invoke(main, ["simulate", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    (simulation,) = begun
    assert simulation.options == Options(world=world, weigh_agreement=weigh)
    assert simulation.settings.weigh_agreement == weigh


# -- the world -------------------------------------------------------------------------------------------


def test_iterations_and_held_out_tasks_share_no_task() -> None:
    rounds = [labelled_tasks(3, tasks=20, iteration=k) for k in (1, 2, 3)]
    assert [task_id for one in rounds for task_id in one] == list(range(1, 61))
    every = [*(task for one in rounds for task in one.values()), *held_out_tasks(3, 40)]
    assert len({json.dumps(task.to_json()) for task in every}) == 100


def test_the_same_seed_in_the_world_of_patterns_asks_for_patterns() -> None:
    labelled = labelled_tasks(3, tasks=6, iteration=2, world=World.PATTERNS)
    assert list(labelled) == list(range(7, 13))
    held_out = held_out_tasks(3, 6, world=World.PATTERNS)
    assert {task.answer for task in (*labelled.values(), *held_out)} == {"striped", "dotted", "checked"}


def test_another_seed_is_another_world() -> None:
    assert labelled_tasks(1, tasks=5, iteration=1) != labelled_tasks(2, tasks=5, iteration=1)
    assert held_out_tasks(1, 5) != held_out_tasks(2, 5)


# -- submissions -----------------------------------------------------------------------------------------

PREDICTION = {
    "model_version": "v0003",
    "score": 0.5,
    "result": [
        {
            "id": "illume-cand",
            "from_name": "cand",
            "to_name": "image",
            "type": "textarea",
            "value": {"text": ["one", "two", "three"]},
            "meta": {"illume": {"model_version": "v0003", "texts": ["one", "two", "three"]}},
        }
    ],
}


@pytest.mark.parametrize("ticks", [[True, False, True], [False, False, False], [True, True, True]])
def test_a_submission_reads_back_as_its_ticks(ticks: list[bool]) -> None:
    body = submission(2, 7, {"image": "x.png"}, PREDICTION, ticks, annotation_id=9, annotator=4)
    (annotation,) = [seen.annotation for seen in observe(body) if isinstance(seen, AnnotationSeen)]
    said = preferences_of(annotation)
    assert [one.verdict is Verdict.FITS for one in said] == ticks
    assert {(one.task_id, one.annotator, one.version) for one in said} == {(7, 4, "v0003")}


def test_a_submission_passes_label_studios_own_check() -> None:
    from label_studio_sdk.label_interface import LabelInterface

    body = submission(2, 7, {}, PREDICTION, [True, False, True], annotation_id=9, annotator=4)
    assert LabelInterface(SELECT).validate_annotation(body["annotation"])


def test_ticks_must_be_as_many_as_candidates() -> None:
    with pytest.raises(ValueError, match="2 ticks for 3"):
        submission(2, 7, {}, PREDICTION, [True, False], annotation_id=9, annotator=4)


# -- results ---------------------------------------------------------------------------------------------


def iteration(number: int, fit: float, **changed: Any) -> Iteration:
    metric = Metric(fit, max(0.0, fit - 0.1), min(1.0, fit + 0.1), 50)
    kinds = {"at": {"fit_rate": metric, "answer_accuracy": metric}}
    measured = Measurement(f"v{number:04d}", metric, metric, metric, metric, {"ok": 3}, kinds)
    return Iteration(number, f"v{number:04d}", measured, **changed)


def test_an_iteration_survives_json() -> None:
    one = iteration(2, 0.5, tasks=3, run={"state": "held"}, seconds={"training": 1.5})
    assert Iteration.from_json(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (
            [iteration(0, 0.3), iteration(1, 0.6)],
            "after 1 iterations of 2, not finished: fit rate 30.0% -> 60.0%",
        ),
        (
            [iteration(0, 0.3), iteration(1, 0.5), iteration(2, 0.9)],
            "after 2 iterations: fit rate 30.0% -> 90.0%",
        ),
        ([iteration(0, 0.3), iteration(1, 0.3, ended="no fitting candidates")], "no fitting candidates"),
    ],
)
def test_the_outcome_in_one_sentence(done: list[Iteration], words: str) -> None:
    assert outcome(SMALL.to_json(), done).startswith(words)
    assert words[1:] in page(SMALL.to_json(), done)


@pytest.mark.parametrize(
    ("version", "said", "words"),
    [
        (BASE_VERSION, Tally(24, 240, 0), "nobody ticked anything that the base model wrote for 24 tasks."),
        ("v0003", Tally(24, 240, 0), "so no run was started and adapter v0003 serves on"),
        (BASE_VERSION, Tally(5, 50, 2), "the 2 ticks on 5 tasks were outvoted or fell on tasks kept for"),
    ],
)
def test_no_signal_is_told_for_what_it_is(version: str, said: Tally, words: str) -> None:
    assert no_signal(version, said).startswith("no fitting candidates: ")
    assert words in no_signal(version, said)


@pytest.mark.parametrize("points", [1, 2, 6])
def test_the_curve_is_xml_inside_its_frame_and_names_everything(points: int) -> None:
    metrics = [Metric(k / 6, 0.0, 1.0, 9) for k in range(points)]
    names = ["fit & rate", "<answers>", "distinct"]
    series = [Series(name, metrics) for name in names]
    text = curve("a < b", [str(k) for k in range(points)], series, note="why & how")
    root = ElementTree.fromstring(text)
    said = "".join(root.itertext())
    assert all(words in said for words in (*names, "a < b", "why & how"))
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    lines = sorted(float(each.attrib["y"]) for each in texts if "style" in each.attrib)
    assert len(lines) == 3
    assert all(later - earlier >= 14 for earlier, later in pairwise(lines))


def test_a_series_must_fit_the_ticks() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        curve("", ["base"], [Series("x", [])])


# -- progress --------------------------------------------------------------------------------------------


def test_progress_is_told_now_and_then_with_the_time_left() -> None:
    now, lines = [0.0], []
    stage = Stage(lines.append, "sampling", 40, "tasks", clock=lambda: now[0])
    for done in range(1, 41):
        now[0] += 3
        stage.at(done)
    assert lines[0] == "sampling 4/40 tasks, about 2 min left"
    assert len(lines) == 9, "the end is told by whoever measures"


@pytest.mark.parametrize(("seconds", "words"), [(42.4, "42 s"), (200, "3 min"), (7500, "2 h 05 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# -- the real thing --------------------------------------------------------------------------------------


@pytest.mark.torch
def test_one_true_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILLUME_TORCH_THREADS", "1")
    options = Options(
        tasks=10, iterations=1, samples=2, held_out_tasks=6, held_out_samples=2, train={"max_steps": 2}
    )
    base, first = Simulation(options, tmp_path, say=lambda _line: None).run()
    assert base.measured.fit_rate.n == 6
    assert first.ended or first.run["state"] in ("promoted", "held")
    assert not first.ended, "some of ten tasks have a fitting candidate"
    assert (tmp_path / "curve.svg").is_file()


@pytest.mark.torch
def test_the_shipped_weights_have_no_signal_in_the_world_of_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILLUME_TORCH_THREADS", "1")
    options = Options(
        world=World.PATTERNS, tasks=6, iterations=1, samples=2, held_out_tasks=6, held_out_samples=2
    )
    base, first = Simulation(options, tmp_path, say=lambda _line: None).run()
    assert base.measured.answer_accuracy.value == base.measured.fit_rate.value == 0.0
    assert first.shown >= 6
    assert (first.ticked, first.run, first.serves) == (0, {}, BASE_VERSION)
    assert first.ended.startswith("no fitting candidates: ")
    assert not (tmp_path / "data" / "adapters").exists()
