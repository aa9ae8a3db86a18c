"""The simulated loop through Label Studio: nothing lost, nothing doubled, nobody else's work touched.

Label Studio is a small one in memory (small_labelstudio.py) behind real HTTP; the store, the listening
backend, the pictures' way and the API client are the real ones. tests/live has the real Label Studio.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import SELECT, SayingGenerator
from hypothesis import given
from hypothesis import strategies as st
from small_labelstudio import TOKEN, SmallLabelStudio
from test_retrain import StandInChild

import backend.retrain
import backend.simulate.labelstudio.listening as listening
from backend.cli import main
from backend.sampling import Engine, Sampler
from backend.service import Service
from backend.settings import load_settings
from backend.simulate import Options
from backend.simulate.labelling import Tally
from backend.simulate.labelstudio import LabelStudioSimulation, SimulationDoor
from backend.simulate.labelstudio.delivery import Tick, compare
from backend.simulate.labelstudio.importing import NUMBER
from backend.simulate.labelstudio.listening import on_port
from backend.simulate.labelstudio.project import read_claim
from backend.simulate.report import page
from backend.simulate.world import PICTURE_PX, labelled_tasks
from illume_plugin.embedded import WorldTask, draw, rationales
from illume_plugin.errors import ConflictError, IllumeError, LabelStudioError, SettingsError
from illume_plugin.generation import SampleRequest, SamplingPlan
from illume_plugin.generation.stopping import never
from illume_plugin.labelstudio import LabelStudio, TokenRefusedError
from illume_plugin.store import judgements
from illume_plugin.types import Candidate

SMALL = Options(
    tasks=4, iterations=2, samples=1, temperatures=(0.5,), annotators=2, held_out_tasks=3, held_out_samples=1
)
TASKS = labelled_tasks(SMALL.seed, tasks=SMALL.tasks, iteration=1)
#: How the ticks of the first iteration travel when nothing goes wrong.
QUIET = {"annotations": 8, "ticks": 16, "arrived": 16, "lost": 0, "doubled": 0, "sent_again": 0}
GENERIC = "because it is obvious ."


class Killed(BaseException):
    """As if kill -9: nothing of ours handles it."""


class Seer(SayingGenerator):
    """Knows a task by its picture as it came from Label Studio, and says one thing that fits and one that
    does not; of other pictures only what fits nothing.
    """

    def __init__(self, known: Mapping[str, WorldTask]) -> None:
        super().__init__()
        self.known = known

    def draw(
        self,
        requests: Sequence[SampleRequest],
        plan: SamplingPlan,
        *,
        adapter: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> list[list[Candidate | None]]:
        return [[Candidate(text, 0.5, 1) for text in self._says(request)] for request in requests]

    def _says(self, request: SampleRequest) -> list[str]:
        task = self.known.get(_digest(request.image) + request.task.question)
        if task is None:
            return [GENERIC, GENERIC]
        return [rationales(task.scene, task.question, task.answer, random.Random(1)), GENERIC]


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, WorldTask]:
    """What the drawn pictures of all iterations look like -> their tasks."""
    file = tmp_path_factory.mktemp("seen") / "seen.png"
    found = {}
    for iteration in range(1, SMALL.iterations + 1):
        for task in labelled_tasks(SMALL.seed, tasks=SMALL.tasks, iteration=iteration).values():
            draw(task.scene, PICTURE_PX).save(file, format="PNG")
            found[_digest(file) + task.question_text] = task
    return found


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def studio() -> Iterator[SmallLabelStudio]:
    with SmallLabelStudio().running() as studio:
        yield studio


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def simulation(
    studio: SmallLabelStudio,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    _migrated: Path,
    known: Mapping[str, WorldTask],
) -> Callable[..., LabelStudioSimulation]:
    """A simulation as a new process begins it, with the base model as the only stand-in."""
    port = free_port()
    monkeypatch.setenv("ILLUME_LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("ILLUME_LABEL_STUDIO_TOKEN", TOKEN)
    monkeypatch.setenv("ILLUME_PORT", str(port))
    monkeypatch.setenv("ILLUME_BACKEND_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(Engine, "_load", lambda _self: Seer(known))

    def make(name: str = "out", options: Options = SMALL) -> LabelStudioSimulation:
        out = tmp_path / name
        if not out.is_dir():
            (out / "data").mkdir(parents=True)
            shutil.copy(_migrated, out / "data" / "illume.sqlite3")
        return LabelStudioSimulation(options, out, say=lambda _line: None)

    return make


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not arrived will not arrive."""
    monkeypatch.setattr(listening, "ARRIVES_WITHIN_S", 0.0)


def labelled(simulation: LabelStudioSimulation) -> Tally:
    """One process: connect, label the first iteration, compare."""
    with simulation.service() as service:
        labelling = simulation.labelling(service)
        labelling.label("iteration 1/1:", TASKS)
        return labelling.tally(TASKS)


def contents(studio: SmallLabelStudio) -> dict[str, Any]:
    """What Label Studio holds, without the numbers and times that differ from run to run."""
    number = {task["id"]: task["data"][NUMBER] for task in studio.tasks.values()}
    said = [
        (number[one["task"]], [region["value"] for region in one["result"]])
        for one in studio.of(studio.annotations)
    ]
    return {
        "tasks": sorted(number.values()),
        "predictions": sorted(number[one["task"]] for one in studio.of(studio.predictions)),
        "annotations": sorted(said, key=json.dumps),
        "backends": len(studio.backends),
        "webhooks": len(studio.webhooks),
        "projects": len(studio.projects),
    }


# -- a round ---------------------------------------------------------------------------------------------


def test_every_tick_arrives_once(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    tally = labelled(simulation())
    assert (tally.sampled, tally.shown, tally.ticked) == (4, 16, 8)
    assert tally.delivery == QUIET
    found = contents(studio)
    assert found["tasks"] == found["predictions"] == [1, 2, 3, 4]
    assert Counter(task for task, _ in found["annotations"]) == {1: 2, 2: 2, 3: 2, 4: 2}


def test_what_is_submitted_is_what_a_browser_sends(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    labelled(simulation())
    for one in studio.annotations.values():
        (prediction,) = studio.of(studio.predictions, task=one["task"])
        shown, fits = one["result"]
        assert shown == {**prediction["result"][0], "origin": "prediction"}
        assert [shown["value"]["text"][int(c[1:]) - 1] for c in fits["value"]["choices"]] != [GENERIC]
        assert len(fits["value"]["choices"]) == 1
        assert one["parent_prediction"] == prediction["id"]
        assert one["lead_time"] == 2.0
        assert one["was_cancelled"] is False


def test_the_same_round_again_changes_nothing(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    first, before = labelled(simulation()), contents(studio)
    assert labelled(simulation()) == first
    assert contents(studio) == before


#: (where, name, which call) at which a process is killed, whether what it asked for happens all the same,
#: and the event that comes of it and is lost, as nobody listens any more
KILLS = [
    (SimulationDoor, "create_project", 1, True, ""),
    (SimulationDoor, "add_backend", 1, True, ""),
    (SimulationDoor, "update_webhook", 1, False, ""),
    (SimulationDoor, "upload", 1, False, ""),
    (SimulationDoor, "upload", 1, True, ""),
    (SimulationDoor, "import_tasks", 1, False, ""),
    (SimulationDoor, "import_tasks", 1, True, "TASKS_CREATED"),
    (Sampler, "sample", 1, True, ""),
    (LabelStudio, "push_predictions", 1, False, ""),
    (LabelStudio, "push_predictions", 1, True, ""),
    (SimulationDoor, "submit", 1, False, ""),
    (SimulationDoor, "submit", 1, True, "ANNOTATION_CREATED"),
    (SimulationDoor, "submit", 4, True, ""),
    (SimulationDoor, "submit", 5, True, "ANNOTATION_CREATED"),
    (SimulationDoor, "submit", 8, True, "ANNOTATION_CREATED"),
    (Service, "apply_events", 3, False, ""),
]


@pytest.mark.parametrize(("where", "name", "call", "happens", "lost"), KILLS)
def test_a_killed_process_leaves_nothing_that_the_next_one_doubles(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    call: int,
    *,
    happens: bool,
    lost: str,
) -> None:
    calls, real = [], getattr(where, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            studio.lose[lost] = 1
            if happens:
                real(*args, **kwargs)
            studio.lose.clear()
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, dying)
        with pytest.raises(Killed):
            labelled(simulation())
    tally, found = labelled(simulation()), contents(studio)
    assert (tally.sampled, tally.shown, tally.ticked) == (4, 16, 8)
    assert tally.delivery == {**QUIET, "sent_again": int(lost == "ANNOTATION_CREATED")}
    assert found["predictions"] == [1, 2, 3, 4]
    assert Counter(task for task, _ in found["annotations"]) == {1: 2, 2: 2, 3: 2, 4: 2}
    assert found["tasks"] == [1, 2, 3, 4]
    assert (found["projects"], found["backends"], found["webhooks"]) == (1, 1, 1)


def test_a_request_of_a_killed_process_that_is_still_under_way(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = SimulationDoor.submit
    under_way: list[Mapping[str, Any]] = []

    def sent_and_killed(door: SimulationDoor, task_id: int, annotation: Mapping[str, Any]) -> int:
        under_way.append(annotation)
        raise Killed

    def overtaken(door: SimulationDoor, task_id: int, annotation: Mapping[str, Any]) -> int:
        if under_way:
            studio.lose["ANNOTATION_CREATED"] = 1
            real(door, task_id, under_way.pop())
        return real(door, task_id, annotation)

    monkeypatch.setattr(SimulationDoor, "submit", sent_and_killed)
    with pytest.raises(Killed):
        labelled(simulation())
    monkeypatch.setattr(SimulationDoor, "submit", overtaken)
    assert labelled(simulation()).delivery == {**QUIET, "sent_again": 1}
    assert len(studio.annotations) == 8


def test_tasks_made_behind_our_back_by_a_killed_process_are_deleted_again(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = SimulationDoor.import_tasks

    def twice(door: SimulationDoor, project_id: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        real(door, project_id, data)
        return real(door, project_id, data)

    monkeypatch.setattr(SimulationDoor, "import_tasks", twice)
    assert labelled(simulation()).sampled == 4
    assert contents(studio)["tasks"] == [1, 2, 3, 4]


def test_a_refusal_to_submit_is_told(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> int:
        raise LabelStudioError("Label Studio answered 403 to POST.")

    monkeypatch.setattr(SimulationDoor, "submit", refused)
    with pytest.raises(LabelStudioError, match="403"):
        labelled(simulation())


# -- lost, doubled, changed ------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_lost_tick_is_an_error_that_names_its_task_and_is_sent_again_next_time(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    studio.lose["ANNOTATION_CREATED"] = 1
    with pytest.raises(LabelStudioError) as caught:
        labelled(simulation())
    first = min(studio.tasks)
    assert "Of 16 ticks 2 are lost and 0 doubled" in caught.value.what
    assert f"2 are in Label Studio and did not arrive here (task {first})" in caught.value.what
    assert labelled(simulation()).delivery["sent_again"] == 1


@pytest.mark.usefixtures("impatient")
def test_an_event_that_never_comes_stays_an_error(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    studio.lose |= {"ANNOTATION_CREATED": 1, "ANNOTATION_UPDATED": 9}
    for _ in range(2):
        with pytest.raises(LabelStudioError, match="did not arrive"):
            labelled(simulation())


def someone_annotates_too(studio: SmallLabelStudio) -> None:
    one = next(iter(studio.annotations.values()))
    studio.annotate(one["task"], unique_id="another", result=one["result"], was_cancelled=False)


def someone_deletes_an_annotation(studio: SmallLabelStudio) -> None:
    del studio.annotations[min(studio.annotations)]


def someone_unticks(studio: SmallLabelStudio) -> None:
    one = next(iter(studio.annotations.values()))
    one["result"][1]["value"] = {"choices": ["none"]}


@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (someone_annotates_too, "nobody submitted them, or twice"),
        (someone_deletes_an_annotation, "submitted and are not in Label Studio"),
        (someone_unticks, "submitted and are not in Label Studio"),
    ],
)
def test_the_comparison_sees_whatever_differs(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    meddle: Callable[[SmallLabelStudio], None],
    words: str,
) -> None:
    sim = simulation()
    with sim.service() as service:
        labelling = sim.labelling(service)
        labelling.label("iteration 1/1:", TASKS)
        meddle(studio)
        with pytest.raises(LabelStudioError, match=rf"{words} \(task {min(studio.tasks)}\)"):
            labelling.tally(TASKS)


def test_a_tick_that_the_store_forgot_is_missed(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    sim = simulation()
    with sim.service() as service:
        labelling = sim.labelling(service)
        labelling.label("iteration 1/1:", TASKS)
        with service.store.write() as conn:
            judgements.delete(conn, sim.project_id, min(studio.annotations))
        with pytest.raises(LabelStudioError, match="did not arrive here"):
            labelling.tally(TASKS)


TICKS = st.lists(
    st.builds(Tick, st.integers(1, 30), st.integers(1, 3), st.sampled_from("ab"), st.booleans(), st.none()),
    max_size=20,
)


@given(meant=TICKS, gone=st.sets(st.integers(0, 19)), extra=TICKS)
def test_lost_and_doubled_are_counted_and_named(meant: list[Tick], gone: set[int], extra: list[Tick]) -> None:
    arrived = [tick for place, tick in enumerate(meant) if place not in gone] + extra
    lost, doubled = Counter(meant) - Counter(arrived), Counter(arrived) - Counter(meant)
    if not lost and not doubled:
        found = compare(meant, meant, arrived, annotations=1, sent_again=0)
        assert (found.ticks, found.arrived, found.lost, found.doubled) == (len(meant), len(meant), 0, 0)
        return
    with pytest.raises(LabelStudioError) as caught:
        compare(meant, meant, arrived, annotations=1, sent_again=0)
    said = caught.value.what
    assert f"{lost.total()} are lost and {doubled.total()} doubled" in said
    tasks = sorted({tick.task_id for tick in lost} or {tick.task_id for tick in doubled})
    assert all(f"{task}" in said for task in tasks[:10])
    assert (f"and {len(tasks) - 10} more" in said) or len(tasks) <= 10


# -- the project -----------------------------------------------------------------------------------------


def test_a_project_of_the_same_title_is_somebody_elses(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    title = f"ILLUME simulation, seed {SMALL.seed}"
    theirs = studio.add(studio.projects, title=title, description="mine", label_config=SELECT)
    task = studio.add(studio.tasks, project=theirs["id"], data={"image": "x", NUMBER: 1})
    before = json.dumps([theirs, task])
    labelled(simulation("one"))
    labelled(simulation("two"))
    assert len(studio.projects) == 3, "two folders are two projects"
    assert json.dumps([studio.projects[theirs["id"]], studio.tasks[task["id"]]]) == before
    assert studio.of(studio.webhooks, project=theirs["id"]) == []


def renamed(project: dict[str, Any]) -> None:
    project["title"] = "what is this?"


def unmarked(project: dict[str, Any]) -> None:
    project["description"] = "our best work"


def test_a_renamed_project_is_found_again(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    labelled(simulation())
    (project,) = studio.projects.values()
    renamed(project)
    labelled(simulation())
    assert len(studio.projects) == 1


def test_a_project_without_the_mark_is_left_alone(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    labelled(simulation())
    (project,) = studio.projects.values()
    unmarked(project)
    with pytest.raises(ConflictError, match="does not carry the mark"):
        labelled(simulation())
    assert "carries the mark" in removed("out", "--yes").output
    assert studio.projects, "nor is it removed"


def test_a_deleted_project_is_not_made_anew(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    labelled(simulation())
    studio.delete_project(min(studio.projects))
    with pytest.raises(ConflictError, match="is gone from Label Studio"):
        labelled(simulation())


def a_foreign_task(studio: SmallLabelStudio) -> None:
    studio.add(studio.tasks, project=min(studio.projects), data={"image": "x"})


def a_changed_task(studio: SmallLabelStudio) -> None:
    studio.tasks[min(studio.tasks)]["data"]["question"] = "and why?"


def a_deleted_task(studio: SmallLabelStudio) -> None:
    del studio.tasks[min(studio.tasks)]


def a_copied_task(studio: SmallLabelStudio) -> None:
    studio.add(studio.tasks, project=min(studio.projects), data=studio.tasks[min(studio.tasks)]["data"])


@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (a_foreign_task, "1 tasks that the simulation did not make"),
        (a_changed_task, "and why"),
        (a_deleted_task, r"lacks the tasks of 1 drawings \(1\)"),
        (a_copied_task, r"holds 1 twice"),
    ],
)
def test_work_of_somebody_else_in_the_project_is_refused(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    meddle: Callable[[SmallLabelStudio], None],
    words: str,
) -> None:
    sim = simulation()
    with sim.service() as service:
        labelling = sim.labelling(service)
        labelling.label("iteration 1/1:", TASKS)
        meddle(studio)
        with pytest.raises(ConflictError, match=words):
            labelling.tally(TASKS)


# -- removing --------------------------------------------------------------------------------------------


def removed(out: str, *arguments: str, answer: str = "") -> Result:
    command = ["simulate", "--label-studio", "--out", out, "--remove", *arguments]
    return CliRunner().invoke(main, command, input=answer)


def test_removing_says_what_asks_and_removes_that_alone(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    other = studio.add(studio.projects, title="theirs", description="", label_config=SELECT)
    labelled(simulation())
    before = contents(studio)

    said = removed("out", answer="n\n")
    assert said.exit_code == 1
    assert "(ILLUME simulation, seed 0)" in said.output
    assert "4 tasks" in said.output
    assert contents(studio) == before

    said = removed("out", answer="y\n")
    assert said.exit_code == 0, said.output
    assert list(studio.projects) == [other["id"]]
    assert not studio.tasks
    assert not studio.webhooks

    assert "has nothing in Label Studio" in removed("out").output
    with pytest.raises(ConflictError, match="was removed"):
        labelled(simulation())


def test_a_second_project_of_a_killed_process_goes_too(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation], tmp_path: Path
) -> None:
    labelled(simulation())
    claim = read_claim(tmp_path / "out")
    assert claim is not None
    second = {"title": claim.title, "description": claim.description, "label_config": SELECT}
    studio.add(studio.projects, **second)
    labelled(simulation())
    assert removed("out", "--yes").exit_code == 0
    assert not studio.projects


def test_what_was_never_there_is_not_removed(simulation: Callable[..., LabelStudioSimulation]) -> None:
    said = removed("elsewhere", "--yes")
    assert said.exit_code == 1
    assert "has nothing in Label Studio" in said.output


def test_another_label_studio_is_another_place(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labelled(simulation())
    with SmallLabelStudio().running() as second:
        monkeypatch.setenv("ILLUME_LABEL_STUDIO_URL", second.url)
        with pytest.raises(ConflictError, match=f"is in Label Studio at {studio.url}"):
            labelled(simulation())
        assert "is in Label Studio at" in removed("out", "--yes").output
        assert not second.projects
    assert studio.projects


# -- getting through -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_events_that_do_not_get_through_end_it_before_it_begins(
    studio: SmallLabelStudio, simulation: Callable[..., LabelStudioSimulation]
) -> None:
    studio.lose["PROJECT_UPDATED"] = 99
    with pytest.raises(LabelStudioError, match="has not sent the event of a change"):
        labelled(simulation())
    assert not studio.tasks


def test_another_port_than_last_time_leaves_no_old_connection(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labelled(simulation())
    port = free_port()
    monkeypatch.setenv("ILLUME_PORT", str(port))
    monkeypatch.setenv("ILLUME_BACKEND_URL", f"http://127.0.0.1:{port}")
    labelled(simulation())
    assert [one["url"] for one in studio.backends.values()] == [f"http://127.0.0.1:{port}"]
    assert [one["url"] for one in studio.webhooks.values()] == [f"http://127.0.0.1:{port}/webhook"]


def test_a_port_that_is_taken_is_told(simulation: Callable[..., LabelStudioSimulation]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sim = simulation()
        sim.settings = on_port(sim.settings, port)
        with pytest.raises(SettingsError, match=rf"Cannot listen on 127\.0\.0\.1:{port} \(Address already"):
            labelled(sim)


@pytest.mark.parametrize(
    ("url", "port", "address"),
    [
        ("http://localhost:9090", 9100, "http://localhost:9100"),
        ("https://illume.example.com/x", 9100, "https://illume.example.com:9100/x"),
        ("http://[::1]:9090", 9100, "http://[::1]:9100"),
        ("http://localhost:9090", None, "http://localhost:9090"),
    ],
)
def test_another_port_is_in_the_address_too(url: str, port: int | None, address: str) -> None:
    settings = on_port(load_settings(backend_url=url), port)
    assert settings.backend_url == address
    assert settings.port == (port or 9090)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"ILLUME_LABEL_STUDIO_TOKEN": ""}, SettingsError, "No Label Studio token is set"),
        ({"ILLUME_LABEL_STUDIO_TOKEN": "wrong"}, TokenRefusedError, "Invalid token"),
        ({"ILLUME_LABEL_STUDIO_URL": "http://127.0.0.1:9"}, LabelStudioError, "cannot be reached"),
    ],
)
def test_without_a_label_studio_nothing_is_begun(
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changed: Mapping[str, str],
    error: type[IllumeError],
    words: str,
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=words):
        LabelStudioSimulation(SMALL, tmp_path / "new", say=lambda _line: None).run()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--remove"], "go with --label-studio"),
        (["--port", "9100"], "go with --label-studio"),
        (["--label-studio", "--yes"], "--yes goes with --remove"),
        (["--label-studio"], "No Label Studio token is set"),
    ],
)
def test_the_command_refuses_in_plain_words(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["simulate", "--out", "out", *arguments])
    assert result.exit_code != 0
    assert words in result.output
    assert not Path("out").exists()


# -- the whole loop (measuring loads torch) --------------------------------------------------------------


@contextmanager
def killed_at(patch: pytest.MonkeyPatch, where: Any, name: str) -> Iterator[None]:
    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    with patch.context() as context:
        context.setattr(where, name, dying)
        with pytest.raises(Killed):
            yield


@pytest.mark.torch
def test_the_loop_learns_from_ticks_that_went_through_label_studio(
    studio: SmallLabelStudio,
    simulation: Callable[..., LabelStudioSimulation],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    class Fresh(StandInChild):
        pass

    monkeypatch.setattr(backend.retrain, "TrainingChild", Fresh)
    for where, name in [(Service, "request_training"), (backend.retrain.Retrain, "_publish")]:
        with killed_at(monkeypatch, where, name):
            simulation().run()
    done = simulation().run()
    assert [one.serves for one in done] == ["v0000", "v0001", "v0002"]
    assert [one.delivery.get("arrived") for one in done] == [None, 16, 16]
    assert [one.shown for one in done] == [0, 16, 16]
    versions = {(task["data"][NUMBER] - 1) // SMALL.tasks: one["model_version"]
                for one in studio.predictions.values() for task in [studio.tasks[one["task"]]]}  # fmt: skip
    assert versions == {0: "v0000", 1: "v0001"}
    assert len(studio.annotations) == 16
    said = (tmp_path / "out" / "results.md").read_text()
    assert "| 2 | 8 | 16 | 16 | 0 | 0 | 0 |" in said
    assert "each task has 2 annotations by one user" in said
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["options"]["label_studio"] == studio.url
    assert simulation().run() == done


@pytest.mark.torch
def test_a_folder_begun_without_label_studio_does_not_go_on_with_it(
    simulation: Callable[..., LabelStudioSimulation], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "options.json").write_text(json.dumps(SMALL.to_json()))
    with pytest.raises(ConflictError, match="label_studio was None"):
        simulation().run()


def test_results_without_label_studio_say_nothing_of_it() -> None:
    from test_simulate import iteration

    assert "sent again" not in page(SMALL.to_json(), [iteration(0, 0.5)])
