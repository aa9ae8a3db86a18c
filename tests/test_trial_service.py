"""A trial from the run that begins it to the verdict of the people; model and Label Studio are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import SELECT, SayingGenerator, both_stores, task
from flask.testing import FlaskClient
from test_retrain import StandInChild, active, child, labelled, run_now  # noqa: F401 - fixtures
from test_worker import TakingLabelStudio, label_studio  # noqa: F401 - fixture

from backend import trials
from backend.cli import main
from backend.presample import push_ahead, sample_ahead, waiting
from backend.retrain import due
from backend.service import Service
from backend.versions import collectable, promote, retire
from backend.worker import Worker
from illume_plugin.errors import BadRequestError, ConflictError, ModelError, NotFoundError
from illume_plugin.registry import ADAPTER_FILES
from illume_plugin.sequential import Outcome
from illume_plugin.store import judgements, projects, versions
from illume_plugin.store import trials as stored
from illume_plugin.trials import Trial, TrialEnd
from illume_plugin.types import BASE_VERSION, Project, RunState

TASKS = 16
CHALLENGER = "v0001"
OLD, NEW = "by None", "by p2-v0001"

Told = Mapping[str, Any]


def publish(service: Service, project_id: int = 2) -> str:
    """A version of the project whose weights are a stand-in."""
    folder = service.settings.data_dir / "made"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ADAPTER_FILES:
        (folder / name).write_bytes(b"{}")
    made = service.registry.publish(
        project_id,
        folder,
        parent=BASE_VERSION,
        base_model="embedded",
        base_model_hash="abc",
        training_set="def",
        config={},
        seed=0,
        metrics={"gate": "promote"},
        versions={},
        created_at=1.0,
    )
    return made.version


@pytest.fixture
def connected_with_tasks(service: Service, connected: int, label_studio: TakingLabelStudio) -> Service:  # noqa: F811
    """Project 2 with unjudged tasks, each with candidates in Label Studio, and a version that is ready."""
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(i, task(i)["data"]) for i in range(1, TASKS + 1)])
    publish(service)
    sample_and_push(service)
    return service


@pytest.fixture
def tried(connected_with_tasks: Service) -> Service:
    """The same with the version on trial."""
    trials.begin(connected_with_tasks, 2, CHALLENGER, who="ann")
    sample_and_push(connected_with_tasks)
    return connected_with_tasks


def project_of(service: Service) -> Project:
    with service.store.read() as conn:
        return projects.get(conn, 2)


def sample_and_push(service: Service) -> None:
    project = project_of(service)
    while sample_ahead(service, project):
        pass
    push_ahead(service, project, everything=True)


def on_screen(service: Service, task_id: int) -> dict[str, Any]:
    """What Label Studio shows: the newest prediction of the task."""
    assert isinstance(service.label_studio, TakingLabelStudio)
    found: dict[str, Any] = [one for one in service.label_studio.pushed if one["task"] == task_id][-1]
    return found


def texts_of(prediction: Told) -> list[str]:
    found: list[str] = prediction["result"][0]["value"]["text"]
    return found


def judge(
    service: Service,
    task_id: int,
    ticks: Callable[[str], bool],
    *,
    annotation: int = 0,
    at: int = 0,
    prediction: Told | None = None,
) -> Told:
    """Somebody ticks what stands on the screen; returns the event."""
    (region,) = (prediction or on_screen(service, task_id))["result"]
    chosen = [f"c{row}" for row, text in enumerate(region["value"]["text"], start=1) if ticks(text)]
    result = [
        region,
        {
            "from_name": "fits",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": chosen or ["none"]},
        },
    ]
    event = {
        "action": "ANNOTATION_CREATED",
        "annotation": {
            "id": annotation or 100 + task_id,
            "task": task_id,
            "updated_at": f"2026-11-22T00:00:{at:02d}Z",
            "result": result,
            "was_cancelled": False,
            "completed_by": 1,
        },
        "task": task(task_id),
        "project": {"id": 2},
    }
    service.receive(event)
    return event


def prefer(side: str) -> Callable[[str], bool]:
    return lambda text: text.endswith(side)


def judge_all(service: Service, side: str, *, of: int = TASKS) -> Trial | None:
    """Tasks are judged one by one, the worker looking after each, until the trial ends."""
    for task_id in range(1, of + 1):
        judge(service, task_id, prefer(side))
        service.apply_events()
        if ended := trials.review(service, project_of(service)):
            return ended
    return None


def now(service: Service) -> trials.Standing:
    found = trials.standing(service, 2)
    assert found is not None
    return found


# -- candidates ---------------------------------------------------------------------------------------


def test_unjudged_tasks_get_candidates_of_both_under_one_version_string(tried: Service) -> None:
    shown = on_screen(tried, 1)
    texts = texts_of(shown)
    assert sum(text.endswith(OLD) for text in texts) == sum(text.endswith(NEW) for text in texts) == 3
    wrote = {OLD: [BASE_VERSION], NEW: [CHALLENGER]}
    provenance = shown["result"][0]["meta"]["illume"]
    assert provenance["versions"] == [next(wrote[side] for side in wrote if t.endswith(side)) for t in texts]
    assert {one["model_version"] for one in tried.label_studio.pushed} == {BASE_VERSION}  # type: ignore[union-attr]
    assert tried.setup(2, SELECT) == BASE_VERSION, "Label Studio does not hear of the trial"
    assert waiting(tried, project_of(tried)) == {}


def test_judged_tasks_are_left_alone(connected_with_tasks: Service) -> None:
    judge(connected_with_tasks, 1, prefer(OLD))
    trials.begin(connected_with_tasks, 2, CHALLENGER, who="ann")
    assert sorted(waiting(connected_with_tasks, project_of(connected_with_tasks))) == list(
        range(2, TASKS + 1)
    )


def test_who_waits_does_not_wait_for_a_trial(
    connected_with_tasks: Service, generator: SayingGenerator
) -> None:
    service = connected_with_tasks
    trials.begin(service, 2, CHALLENGER, who="ann")
    generator.calls.clear()
    (known,) = service.predictor.predict(2, None, [task(1)])
    assert texts_of(known) == texts_of(on_screen(service, 1))
    assert generator.calls == [], "the active version's are there"
    (fresh,) = service.predictor.predict(2, None, [task(99)])
    assert generator.calls == [[99]], "drawn once, by the active version"
    assert all(text.endswith(OLD) for text in texts_of(fresh))
    sample_and_push(service)
    (mixed,) = service.predictor.predict(2, None, [task(1)])
    assert texts_of(mixed) == texts_of(on_screen(service, 1))
    assert any(text.endswith(NEW) for text in texts_of(mixed))


def test_a_task_that_the_challenger_cannot_do_opens_all_the_same(
    connected_with_tasks: Service, generator: SayingGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = generator.draw
    monkeypatch.setattr(
        generator,
        "draw",
        lambda requests, plan, adapter=None, stop=None: (
            [[] for _ in requests] if adapter else draw(requests, plan, adapter=adapter)
        ),
    )
    trials.begin(connected_with_tasks, 2, CHALLENGER, who="ann")
    sample_and_push(connected_with_tasks)
    assert all(text.endswith(OLD) for text in texts_of(on_screen(connected_with_tasks, 1)))
    judge(connected_with_tasks, 1, prefer(OLD))
    connected_with_tasks.apply_events()
    assert now(connected_with_tasks).figures.tasks == 0


# -- the verdict ----------------------------------------------------------------------------------------


def test_what_people_prefer_comes_to_serve(tried: Service) -> None:
    ended = judge_all(tried, NEW)
    assert ended is not None
    assert ended.end is TrialEnd.BETTER
    assert project_of(tried) == replace(project_of(tried), active_version=CHALLENGER, challenger=None)
    with tried.store.read() as conn:
        (switch,) = versions.switched(conn, 2)
    assert (switch.to_version, switch.who) == (CHALLENGER, "trial 1")
    assert "people ticked 100.0% of its candidates and 0.0% of the active version's on" in switch.reason
    figures = now(tried).figures
    assert figures.outcome is Outcome.BETTER
    assert figures.low > 0
    assert figures.tasks < TASKS, "it stopped as soon as it was decided"
    sample_and_push(tried)
    fresh = on_screen(tried, TASKS)
    assert fresh["model_version"] == CHALLENGER
    assert all(text.endswith(NEW) for text in texts_of(fresh))


def test_what_people_tick_less_is_retired_and_its_candidates_go(tried: Service) -> None:
    ended = judge_all(tried, OLD)
    assert ended is not None
    assert ended.end is TrialEnd.WORSE
    assert project_of(tried).adapters == (BASE_VERSION,)
    with tried.store.read() as conn:
        retirement = versions.retired(conn, 2)[CHALLENGER]
    assert retirement.who == "trial 1"
    assert "people ticked 0.0% of its candidates" in retirement.reason
    sample_and_push(tried)
    assert all(text.endswith(OLD) for text in texts_of(on_screen(tried, TASKS)))
    assert push_ahead(tried, project_of(tried), everything=True) == 0, "once"


def test_what_stays_undecided_stays_as_it_is(connected_with_tasks: Service) -> None:
    service = connected_with_tasks
    policy = service.settings.data_dir / "policy.toml"
    policy.write_text("[blind]\nmost_tasks = 12\n")
    service.settings = service.settings.model_copy(update={"gate_policy": policy})
    trials.begin(service, 2, CHALLENGER, who="ann")
    sample_and_push(service)
    ended = judge_all(service, "nobody")
    assert ended is not None
    assert ended.end is TrialEnd.UNDECIDED
    assert now(service).figures.tasks == 12
    assert project_of(service).adapters == (BASE_VERSION,)
    service.check_version(2, CHALLENGER)


@both_stores
def test_any_order_and_repetition_of_events_gives_the_same_state(tried: Service) -> None:
    events = [judge(tried, task_id, prefer(NEW)) for task_id in range(10, 0, -1)]
    tried.apply_events()
    before = now(tried).figures
    for event in [*events, *reversed(events)]:
        tried.receive(event)
        tried.apply_events()
    assert now(tried).figures == before
    with tried.store.read() as conn:
        judged = stored.judged(conn, now(tried).trial)
    assert [one.task_id for one in judged] == list(range(1, 11)), "by their annotations' numbers"


def test_changed_and_deleted_annotations_change_the_state(tried: Service) -> None:
    for task_id in range(1, 5):
        judge(tried, task_id, prefer(NEW))
    tried.apply_events()
    assert now(tried).figures.difference == 1.0
    judge(tried, 1, prefer(OLD), at=9)
    tried.apply_events()
    assert now(tried).figures.difference == 0.5
    with tried.store.write() as conn:
        judgements.delete(conn, 2, 101)
    assert (now(tried).figures.tasks, now(tried).figures.difference) == (3, 1.0)


def test_annotations_from_before_the_trial_do_not_count(tried: Service) -> None:
    judge(tried, 1, prefer(NEW))
    trials.stop(tried, 2, who="ann", reason="a new guideline")
    assert now(tried).figures.tasks == 1
    trials.begin(tried, 2, CHALLENGER, who="ann")
    assert now(tried).figures.tasks == 0
    sample_and_push(tried)
    judge(tried, 2, prefer(NEW))
    tried.apply_events()
    assert now(tried).figures.tasks == 1


def test_a_second_trial_of_the_same_two_shows_its_candidates_again(tried: Service) -> None:
    mixed = texts_of(on_screen(tried, 1))
    trials.stop(tried, 2, who="ann", reason="a break")
    sample_and_push(tried)
    assert texts_of(on_screen(tried, 1)) != mixed
    trials.begin(tried, 2, CHALLENGER, who="ann")
    sample_and_push(tried)
    assert texts_of(on_screen(tried, 1)) == mixed


@pytest.mark.parametrize("side", [NEW, OLD])
def test_a_worker_that_dies_at_the_verdict_leaves_it_to_the_next(
    tried: Service, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    class Died(BaseException):
        """As if kill -9: nothing of ours handles it."""

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(versions, "switch", die)
        patch.setattr(versions, "retire", die)
        with pytest.raises(Died):
            judge_all(tried, side)
    assert project_of(tried).adapters == (BASE_VERSION, CHALLENGER), "all of it or nothing"
    ended = trials.review(tried, project_of(tried))
    assert ended is not None
    assert ended.end is (TrialEnd.BETTER if side == NEW else TrialEnd.WORSE)


def test_preferences_on_the_challengers_candidates_keep_their_writer(tried: Service) -> None:
    judge(tried, 1, prefer(NEW))
    tried.apply_events()
    with tried.store.read() as conn:
        found = {each.text: each.version for each in judgements.preferences_in(conn, 2)}
    assert {text.endswith(NEW): version for text, version in found.items()} == {
        True: CHALLENGER,
        False: BASE_VERSION,
    }


# -- what ends a trial, and what cannot begin ---------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (lambda s: s.switch(2, "v0002", reason="I say so", who="bob"), "v0002 came to serve: I say so"),
        (lambda s: promote(s, 2, CHALLENGER, who="bob", reason="I say so"), "v0001 came to serve: I say so"),
        (lambda s: retire(s, 2, CHALLENGER, who="bob", reason="broken"), "v0001 was retired: broken"),
        (lambda s: trials.stop(s, 2, who="bob", reason="enough"), "enough"),
    ],
    ids=["another is promoted", "the challenger is promoted", "the challenger is retired", "stopped"],
)
def test_a_person_ends_a_trial(tried: Service, deed: Callable[[Service], object], told: str) -> None:
    publish(tried)
    judge(tried, 1, prefer(NEW))
    tried.apply_events()
    deed(tried)
    ended, figures = now(tried).trial, now(tried).figures
    assert (ended.end, ended.ended_by, ended.reason) == (TrialEnd.STOPPED, "bob", told)
    assert figures.tasks == 1
    assert project_of(tried).challenger is None
    assert trials.review(tried, project_of(tried)) is None


def test_a_challenger_that_cannot_be_loaded_ends_the_trial(
    connected_with_tasks: Service, generator: SayingGenerator
) -> None:
    service = connected_with_tasks
    trials.begin(service, 2, CHALLENGER, who="ann")
    weights = service.registry.folder(2, CHALLENGER) / ADAPTER_FILES[0]
    weights.chmod(0o600)
    weights.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="v0001 is damaged"):
        sample_and_push(service)
    assert project_of(service).adapters == (BASE_VERSION,)
    ended = now(service).trial
    assert ended.end is TrialEnd.STOPPED
    assert "v0001 cannot be loaded" in ended.reason
    with service.store.write() as conn:
        projects.put_tasks(conn, 2, [(77, task(77)["data"])])
    sample_and_push(service)
    assert all(text.endswith(OLD) for text in texts_of(on_screen(service, 77)))


def test_another_error_ends_no_trial(tried: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("The base model is out of memory.")

    monkeypatch.setattr(tried.scheduler, "sample", refuse)
    with tried.store.write() as conn:
        projects.put_tasks(conn, 2, [(77, task(77)["data"])])
    with pytest.raises(ModelError, match="out of memory"):
        sample_ahead(tried, project_of(tried))
    assert project_of(tried).challenger == CHALLENGER


def test_trials_that_cannot_be(tried: Service) -> None:
    publish(tried)
    with pytest.raises(ConflictError, match="v0001 is on trial"):
        trials.begin(tried, 2, "v0002", who="ann")
    trials.stop(tried, 2, who="ann", reason="enough")
    with pytest.raises(NotFoundError, match="No trial is open"):
        trials.stop(tried, 2, who="ann", reason="enough")
    with pytest.raises(BadRequestError, match="v0000 serves project 2 already"):
        trials.begin(tried, 2, BASE_VERSION, who="ann")
    with pytest.raises(NotFoundError):
        trials.begin(tried, 2, "v0009", who="ann")
    retire(tried, 2, "v0002", who="ann", reason="test")
    with pytest.raises(ConflictError, match="is retired"):
        trials.begin(tried, 2, "v0002", who="ann")
    tried.plan = replace(tried.plan, limit=1)
    with pytest.raises(BadRequestError, match="A task shows one candidate"):
        trials.begin(tried, 2, CHALLENGER, who="ann")


@both_stores
def test_a_project_has_one_trial_at_a_time(service: Service, connected: int) -> None:
    limits = service.settings.gate_limits().blind.limits
    with service.store.write() as conn:
        first = stored.start(conn, 2, "v0001", limits=limits, who="ann", now=1.0)
        with pytest.raises(ConflictError):
            stored.start(conn, 2, "v0002", limits=limits, who="ann", now=1.0)
        assert stored.open_trial(conn, 2) == first
        assert stored.end(conn, first, TrialEnd.STOPPED, who="ann", reason="", now=2.0)
        assert not stored.end(conn, first, TrialEnd.BETTER, who="ann", reason="", now=3.0)
        second = stored.start(conn, 2, "v0002", limits=limits, who="ann", now=4.0)
        assert stored.newest(conn, 2) == second
        assert projects.get(conn, 2).challenger == "v0002"
        assert stored.get(conn, first.trial_id).end is TrialEnd.STOPPED


def test_the_weights_of_the_challenger_are_kept(tried: Service) -> None:
    for _ in range(3):
        publish(tried)
    assert collectable(tried, 2, keep=1) == ["v0002", "v0003"]


# -- runs and the worker --------------------------------------------------------------------------------


@pytest.fixture
def blind(labelled: Service) -> Service:  # noqa: F811
    """A labelled project in which people have the last word."""
    policy = labelled.settings.data_dir / "policy.toml"
    policy.write_text("[blind]\nenabled = true\n")
    labelled.settings = labelled.settings.model_copy(update={"gate_policy": policy})
    return labelled


def test_what_the_gate_lets_through_goes_on_trial(blind: Service, child: type[StandInChild]) -> None:  # noqa: F811
    run = run_now(blind)
    assert run.state is RunState.TRIAL, run.error
    assert run.report["reasons"][0] == "v0001 is on trial: people decide between it and v0000."
    assert active(blind) == BASE_VERSION
    assert project_of(blind).challenger == "v0001"
    assert now(blind).trial.started_by == f"run {run.run_id}"
    second = run_now(blind)
    assert second.state is RunState.HELD
    assert second.report["reasons"][0].startswith("v0001 is on trial; v0002 waits")


def test_what_the_gate_holds_back_does_not(blind: Service, child: type[StandInChild]) -> None:  # noqa: F811
    child.challenger = 0.2
    assert run_now(blind).state is RunState.HELD
    assert project_of(blind).challenger is None


def test_one_row_is_refused_before_the_training(blind: Service, child: type[StandInChild]) -> None:  # noqa: F811
    blind.plan = replace(blind.plan, limit=1)
    run = run_now(blind)
    assert run.state is RunState.FAILED
    assert "two rows" in (run.error or "")
    assert child.started == 0


def test_no_run_is_due_while_people_decide(blind: Service, child: type[StandInChild]) -> None:  # noqa: F811
    blind.settings = blind.settings.model_copy(update={"train_after": 1})
    assert due(blind, 2)
    run_now(blind)
    later = blind.clock() + 10
    blind.clock = lambda: later
    with blind.store.write() as conn:
        projects.put_tasks(conn, 2, [(50, task(50)["data"])])
    publish(blind)
    assert not due(blind, 2)


def test_the_worker_decides_by_itself(tried: Service) -> None:
    worker = Worker(tried)
    for task_id in range(1, TASKS + 1):
        judge(tried, task_id, prefer(NEW))
    while worker._round():
        pass
    assert project_of(tried).adapters == (CHALLENGER,)


# -- what people see ------------------------------------------------------------------------------------


def illume(service: Service, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setenv("ILLUME_DATA_DIR", str(service.settings.data_dir))
    return CliRunner().invoke(main, ["trial", *words])


def test_the_command_shows_starts_and_stops(
    connected_with_tasks: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = connected_with_tasks
    assert "has had no trial" in illume(service, monkeypatch, "show").output
    said = illume(service, monkeypatch, "start", CHALLENGER, "--dry-run").output
    assert f"{TASKS} tasks that nobody has judged would get candidates of both" in said
    assert project_of(service).challenger is None
    assert "v0001 is on trial beside v0000" in illume(service, monkeypatch, "start", CHALLENGER).output
    sample_and_push(service)
    for task_id in range(1, 13):
        judge(service, task_id, lambda text: text.endswith(NEW) and "reason 0" in text)
    shown = illume(service, monkeypatch, "show").output
    assert "v0000  tick rate 0.000" in shown
    assert "v0001  tick rate 0.333" in shown
    assert "on 12 tasks" in shown
    assert "tasks more, if they are like these" in shown
    told = json.loads(illume(service, monkeypatch, "show", "--json").output)
    assert told["trial"]["figures"]["tasks"] == 12
    assert "would end" in illume(service, monkeypatch, "stop", "--dry-run").output
    assert project_of(service).challenger == CHALLENGER
    assert "v0000 goes on alone" in illume(service, monkeypatch, "stop", "--reason", "enough").output
    assert "stopped: enough" in illume(service, monkeypatch, "show").output
    assert illume(service, monkeypatch, "stop").exit_code == 1


def test_the_status_page_tells_of_the_trial_and_not_whose_candidates_are_whose(
    tried: Service, stranger: FlaskClient
) -> None:
    judge(tried, 1, prefer(NEW))
    tried.apply_events()
    pages = {name: stranger.get(f"/status/2{name}").get_data(as_text=True) for name in ("", "/versions")}
    for page in pages.values():
        assert "On trial: v0001 beside v0000" in page
        assert "1 task judged, on average +100.0 points for v0001" in page
        assert "too early to say" in page
    assert "on trial</span>" in pages["/versions"]
    found = stranger.get("/api/projects/2/trial").get_json()["trial"]
    assert (found["trial"]["challenger"], found["figures"]["tasks"]) == (CHALLENGER, 1)
    shown = stranger.get("/api/projects/2/tasks").get_json()["tasks"]
    assert all(len(one["candidates"]) == 6 and one["candidates"][0]["versions"] == [] for one in shown)
    rates = {
        one["version"]: one["rate"]["value"]
        for one in stranger.get("/api/projects/2/curve").get_json()["versions"]
    }
    assert rates == {BASE_VERSION: 0.0, CHALLENGER: 1.0}
    trials.stop(tried, 2, who="ann", reason="enough")
    ended = stranger.get("/api/projects/2/trial").get_json()["trial"]
    assert ended["trial"]["end"] in (None, "stopped"), "kept for a moment"
