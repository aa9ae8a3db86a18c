"""Webhooks are hints, Label Studio is the truth: a round brings us in step, whatever was told or not."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from at_work import PROJECT, AtWork, Stored, reconcile, service_at
from conftest import both_stores
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from small_labelstudio import SmallLabelStudio

from backend.reconcile import Reconciler
from backend.service import Service
from backend.settings import Settings
from illume_plugin.errors import LabelStudioError
from illume_plugin.store import intake, projects, reconciliations
from illume_plugin.store.intake import Found
from illume_plugin.store.reconciliations import Reconciliation


@pytest.fixture
def work() -> Iterator[AtWork]:
    with SmallLabelStudio().running() as studio:
        yield AtWork(studio)


@pytest.fixture
def service(work: AtWork, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with service_at(work.studio, settings, tmp_path) as service:
        yield service


@pytest.fixture
def stored(service: Service) -> Stored:
    return Stored(service)


def known(service: Service) -> Reconciliation:
    with service.store.read() as conn:
        found = reconciliations.find(conn, PROJECT)
    assert found is not None
    return found


@both_stores
def test_the_first_round_takes_in_all_that_is_there(service: Service, work: AtWork, stored: Stored) -> None:
    work.import_tasks(["c1"], None, ["none"], ["c1", "c2"])
    work.skip(work.import_tasks(None)[0])
    done = reconcile(service)
    assert done.found == Found(new_tasks=5, new_annotations=4)
    assert done.in_step
    assert stored.preferences() == work.preferences()
    assert len(stored.preferences()) == 6
    assert stored.data() == work.data()
    assert stored.skipped() == 1
    assert reconcile(service).found == Found()
    assert known(service).found == 0, "nobody could have told of what was there before"
    work.import_tasks(None)
    assert reconcile(service).found.count == 1
    assert known(service).found == 1


Change = Callable[[AtWork, list[int], int], Any]

#: What people do to twelve tasks (the first four hold an annotation); nothing of it is told.
CHANGES: dict[str, Change] = {
    "submit": lambda work, tasks, _: work.submit(tasks[7], "c2"),
    "edit": lambda work, _, said: work.edit(said, "c2"),
    "edit twice": lambda work, _, said: (work.edit(said, "none"), work.edit(said, "c1", "c2")),
    "delete": lambda work, _, said: work.delete(said),
    "convert to draft": lambda work, _, said: work.to_draft(said),
    "submit and delete": lambda work, tasks, _: work.delete(work.submit(tasks[5], "c1")),
    "skip": lambda work, tasks, _: work.skip(tasks[6]),
    "skip what was submitted": lambda work, _, said: work.studio.edit(
        work.studio.annotations[said], result=[], was_cancelled=True
    ),
    "import with annotations": lambda work, *_: work.import_tasks(["c1"], None, ["none"]),
    "predictions to annotations": lambda work, tasks, _: work.predictions_to_annotations(*tasks),
    "delete all annotations": lambda work, tasks, _: work.delete_all_annotations(*tasks),
    "change a task's data": lambda work, tasks, _: work.change_data(tasks[9]),
    "delete a task": lambda work, tasks, _: work.studio.delete_tasks(tasks[10]),
    "delete a task with its annotation": lambda work, tasks, _: work.studio.delete_tasks(tasks[0]),
    "delete the last tasks": lambda work, tasks, _: work.studio.delete_tasks(*tasks[8:]),
    "delete all tasks": lambda work, tasks, _: work.studio.delete_tasks(*tasks),
    "delete a task and import another": lambda work, tasks, _: (
        work.studio.delete_tasks(tasks[2]), work.import_tasks(["c2"])
    ),
    "propagate annotations": lambda work, tasks, _: work.propagate(*tasks[3:6]),
    "remove duplicates": lambda work, tasks, _: work.remove_duplicates(*tasks[1::-1], tasks[2], tasks[11]),
    "rename a label": lambda work, _, said: work.rename_label(said, "c2"),
}  # fmt: skip


@pytest.mark.parametrize("late", [False, True], ids=["no event", "late events"])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_found(
    service: Service, work: AtWork, stored: Stored, change: str, *, late: bool
) -> None:
    tasks = work.import_tasks(["c1"], ["none"], ["c2"], ["c1"], *[None] * 8)
    reconcile(service)
    said = min(work.studio.annotations)
    work.studio.clock += 500
    work.events.clear()
    CHANGES[change](work, tasks, said)
    done = reconcile(service)
    assert done.in_step
    assert done.found.count or change == "submit and delete"
    if late:
        for body in work.events:
            service.receive(body)
        done = reconcile(service)
    assert stored.preferences() == work.preferences()
    assert stored.data() == work.data()
    again = reconcile(service)
    assert (again.found, again.in_step) == (Found(), True)


# -- any order, any loss -------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from([*CHANGES, "deliver", "deliver", "deliver", "round", "broken round", "time passes"]),
        st.integers(0, 10**6),
    ),
    max_size=14,
)


@given(steps)
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_events_in_any_order_end_in_the_truth(
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    timetable: list[tuple[str, int]],
) -> None:
    """Events are delivered late, twice, in another order or never; rounds are broken off anywhere."""
    folder = tmp_path_factory.mktemp("any")
    shutil.copy(settings.data_dir / "illume.sqlite3", folder)
    fresh = settings.model_copy(update={"data_dir": folder, "database_url": ""})
    with SmallLabelStudio().running() as studio:
        work = AtWork(studio)
        work.import_tasks(["c1"], ["c2"], None, None, None, None)
        with service_at(studio, fresh, folder) as service:
            for what, number in timetable:
                _carry_out(service, work, what, number)
            reconcile(service)
            stored = Stored(service)
            assert stored.preferences() == work.preferences()
            assert stored.data() == work.data()


def _carry_out(service: Service, work: AtWork, what: str, number: int) -> None:
    if what == "time passes":
        work.studio.clock += number % 100
    elif what == "deliver" and work.events:
        service.receive(work.events[number % len(work.events)])
    elif what == "round":
        reconcile(service)
    elif what == "broken round":
        pages = itertools.count()
        reconcile(service, page=2, stop=lambda: next(pages) >= number % 4)
    elif what in CHANGES:
        if lacking := 12 - len(work.data()):
            work.import_tasks(*[None] * lacking)
        tasks, said = sorted(work.data()), sorted(work.studio.annotations)
        chosen = [tasks[(number + k) % len(tasks)] for k in range(12)]
        CHANGES[what](work, chosen, said[number % len(said)] if said else work.submit(chosen[0], "c1"))


# -- what comes while Label Studio is asked -------------------------------------------------------------


def test_an_annotation_that_comes_while_its_task_is_read_stays(
    service: Service, work: AtWork, stored: Stored
) -> None:
    (task_id,) = work.import_tasks(["c1"])

    def amid() -> None:
        work.submit(task_id, "c2")
        service.receive(work.events[-1])
        service.apply_events()

    reconcile(service)
    work.change_data(task_id)
    work.shown_before(amid)
    done = reconcile(service)
    assert done.found.gone_annotations == 0
    assert stored.preferences() == work.preferences()
    assert len(stored.preferences()) == 4


def test_a_deletion_that_is_heard_of_while_its_task_is_read_counts(
    service: Service, work: AtWork, stored: Stored
) -> None:
    (task_id,) = work.import_tasks(["c1"])
    (said,) = work.studio.annotations

    def amid() -> None:
        work.delete(said)
        service.receive(work.events[-1])
        service.apply_events()

    reconcile(service)
    work.change_data(task_id)
    work.shown_before(amid)
    pages = itertools.count()
    reconcile(service, stop=lambda: next(pages) >= 1)
    assert stored.preferences() == []
    reconcile(service)
    assert stored.preferences() == []


def test_a_task_that_comes_while_the_last_page_is_read_stays(
    service: Service, work: AtWork, stored: Stored
) -> None:
    work.import_tasks(["c1"])

    def amid_page() -> None:
        asked = work.studio.asked[-1]
        if asked["include"] == "id" or '"ordering":["tasks:id"]' not in asked["query"]:
            return  # not a page of the walk
        work.studio.amid_page = lambda: None
        work.import_tasks(["c2"])
        service.receive(work.events[-1])
        service.apply_events()

    work.studio.amid_page = amid_page
    pages = itertools.count()
    reconcile(service, stop=lambda: next(pages) >= 1)
    assert stored.data() == work.data()
    assert len(stored.data()) == 2


def test_totals_that_change_while_they_are_compared_are_left_to_the_next_round(
    service: Service, work: AtWork
) -> None:
    tasks = work.import_tasks(*[None] * 30)
    reconcile(service)
    work.studio.delete_tasks(tasks[3])
    work.studio.before_page = lambda: work.propagate(tasks[0])
    done = reconcile(service)
    assert done.in_step is None
    work.studio.before_page = lambda: None
    assert reconcile(service).in_step is True


# -- what a round costs --------------------------------------------------------------------------------


def test_the_cost_follows_the_changes_and_not_the_project(service: Service, work: AtWork) -> None:
    tasks = work.import_tasks(*[None] * 2000)
    reconcile(service, page=500)
    work.studio.clock += 500
    reconcile(service, page=500)
    for task_id in tasks[::200]:
        work.submit(task_id, "c1")
    done = reconcile(service, page=500)
    assert (done.found.new_annotations, done.requests) == (10, 2)
    work.studio.clock += 500
    assert reconcile(service, page=500).requests == 2
    work.studio.delete_tasks(tasks[1234])
    done = reconcile(service, page=100)
    assert done.found == Found(gone_tasks=1)
    assert done.requests <= 11, "halving finds it; 20 pages would have to be read otherwise"


def test_pages_that_are_shorter_than_asked_for_are_not_the_last_ones(
    service: Service, work: AtWork, stored: Stored
) -> None:
    work.studio.page_size_max = 3
    work.import_tasks(*[["c1"]] * 20)
    work.studio.clock += 500
    reconcile(service)
    work.predictions_to_annotations(*sorted(work.data()))
    reconcile(service)
    assert stored.preferences() == work.preferences()


def test_totals_that_cannot_be_explained_are_looked_into_twice(service: Service, work: AtWork) -> None:
    work.import_tasks(*[None] * 8)
    reconcile(service)
    # counted by Label Studio in the project, and of no task
    work.studio.add(work.studio.annotations, project=PROJECT, task=None, was_cancelled=False)
    assert service.label_studio is not None
    reconciler = Reconciler(service, service.label_studio, PROJECT, page=5)
    assert [reconciler.round().in_step for _ in range(2)] == [False, False]
    again = reconciler.round()
    assert again.in_step is False
    assert again.requests == 3


# -- failures ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What kill -9 does, at a place of our choice."""


@both_stores
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_or_after_any_commit_nothing_is_lost_and_little_is_read_again(
    service: Service, work: AtWork, stored: Stored, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    work.import_tasks(*[["c1"]] * 14)
    kills = 0
    for place in itertools.count(1):
        commits = itertools.count(1)
        write = service.store.write

        def killed(write: Any = write, commits: Any = commits, place: int = place) -> Any:
            return _killed_at(write, when, here=next(commits) == place)

        monkeypatch.setattr(service.store, "write", killed)
        try:
            done = reconcile(service, full=place % 3 == 1)
        except Killed:
            kills += 1
            # people go on meanwhile
            work.edit(min(work.studio.annotations) + place % 3, "c2")
            work.studio.delete_tasks(min(work.data()))
            continue
        finally:
            monkeypatch.setattr(service.store, "write", write)
        break
    assert kills >= 5
    assert done.in_step
    assert stored.preferences() == work.preferences()
    assert stored.data() == work.data()


def _killed_at(write: Any, when: str, *, here: bool) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def transaction() -> Iterator[Any]:
        with write() as conn:
            yield conn
            if here and when == "before":
                raise Killed
        if here:
            raise Killed

    return transaction()


def test_a_first_round_that_was_killed_goes_on_where_it_was(
    service: Service, work: AtWork, stored: Stored
) -> None:
    work.import_tasks(*[["c1"]] * 40)
    pages = itertools.count()
    reconcile(service, stop=lambda: next(pages) >= 5)
    assert known(service).checked_at is None
    work.studio.asked.clear()
    done = reconcile(service)
    assert done.found.new_tasks < 20
    assert len(work.studio.asked) <= 1 + 8 // 2 + 10
    assert stored.preferences() == work.preferences()


def test_of_two_that_read_everything_the_later_one_ends_the_other(
    service: Service, work: AtWork, stored: Stored
) -> None:
    """What the first one has read may have changed before the second one began."""
    work.import_tasks(*[["c1"]] * 20)
    pages = itertools.count()
    assert service.label_studio is not None

    def second() -> bool:
        if next(pages) == 2:
            work.studio.clock += 5000
            with service.store.write() as conn:
                reconciliations.begin_walk(conn, PROJECT, "the second", "2026-11-22T01:00:00.000000Z")
        return False

    reconcile(service, stop=second)
    assert known(service).walk == "the second"
    assert known(service).walked == 0
    reconcile(service)
    assert known(service).walk is None
    assert stored.preferences() == work.preferences()


def garbage(task: dict[str, Any]) -> dict[str, Any]:
    annotation = task["annotations"][0]
    return {
        "a text": "sorry",
        "a list": [],
        "no tasks": {"total": 3, "total_annotations": 1},
        "tasks are no list": {"tasks": {}, "total": 3, "total_annotations": 1},
        "no total": {"tasks": [], "total_annotations": 0},
        "total below zero": {"tasks": [], "total": -1, "total_annotations": 0},
        "no annotations": page({name: task[name] for name in task if name != "annotations"}),
        "annotations are null": page({**task, "annotations": None}),
        "no time": page({**task, "updated_at": None}),
        "a time that is none": page({**task, "updated_at": "yesterday"}),
        "a task of id 0": page({**task, "id": 0}),
        "no data": page({**task, "data": None}),
        "annotations without results": page({**task, "annotations": [{"id": 1, "is_stub": True}]}),
        "an annotation of another task": page({**task, "annotations": [{**annotation, "task": 99}]}),
        "the same page again": page({**task, "updated_at": "2001-01-01T00:00:00Z"}),
    }


def page(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": list(tasks), "total": len(tasks), "total_annotations": 1}


GARBAGE = list(garbage({"annotations": [{}]}))


@pytest.mark.parametrize("kind", GARBAGE)
def test_an_answer_that_is_not_label_studios_is_told_and_changes_nothing(
    service: Service, work: AtWork, stored: Stored, kind: str
) -> None:
    (task_id,) = work.import_tasks(["c1"])
    work.studio.clock += 500
    reconcile(service)
    work.edit(min(work.studio.annotations), "c2")
    body = garbage(work.studio.opened(work.studio.tasks[task_id]))[kind]
    before = stored.rows()
    view = work.studio.app.view_functions.pop("tasks")
    work.studio.app.view_functions["tasks"] = lambda: work.studio.app.json.response(body)
    with pytest.raises(LabelStudioError) as caught:
        reconcile(service)
    assert "Label Studio answered" in caught.value.what
    assert stored.rows() == before
    work.studio.app.view_functions["tasks"] = view
    assert reconcile(service).found == Found(changed_annotations=1)
    assert stored.preferences() == work.preferences()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502])
def test_a_refusal_in_the_middle_keeps_what_was_read(
    service: Service, work: AtWork, stored: Stored, status: int
) -> None:
    work.import_tasks(*[["c1"]] * 20)
    pages = itertools.count()
    view = work.studio.app.view_functions["tasks"]

    def refuses() -> Any:
        return view() if next(pages) < 3 else ({"detail": "no"}, status)

    work.studio.app.view_functions["tasks"] = refuses
    with pytest.raises(LabelStudioError):
        reconcile(service)
    kept = len(stored.data())
    assert 0 < kept < 20
    work.studio.app.view_functions["tasks"] = view
    assert reconcile(service).found.new_tasks == 20 - kept
    assert stored.preferences() == work.preferences()


@pytest.mark.parametrize("full", [False, True])
def test_a_list_that_is_shorter_than_the_count_deletes_nothing(
    service: Service, work: AtWork, stored: Stored, *, full: bool
) -> None:
    """A proxy's empty page, or a token whose user does not see everything."""
    work.import_tasks(["c1"], ["c2"])
    reconcile(service)
    work.propagate(min(work.data()))  # so that the totals differ
    before = stored.preferences(), stored.data()
    view = work.studio.app.view_functions["tasks"]
    empty = {"tasks": [], "total": 0, "total_annotations": 0}
    work.studio.app.view_functions["tasks"] = lambda: work.studio.app.json.response(empty)
    with pytest.raises(LabelStudioError, match="counts 2 tasks in project 1 and lists 0"):
        reconcile(service, full=full)
    assert (stored.preferences(), stored.data()) == before
    work.studio.app.view_functions["tasks"] = view
    assert reconcile(service).in_step
    assert stored.preferences() == work.preferences()


# -- telling without changing --------------------------------------------------------------------------


@pytest.mark.parametrize("change", list(CHANGES)[::3])
def test_a_dry_run_tells_what_would_change_and_changes_nothing(
    service: Service, work: AtWork, stored: Stored, change: str
) -> None:
    tasks = work.import_tasks(["c1"], ["none"], ["c2"], ["c1"], *[None] * 8)
    first = reconcile(service, dry_run=True)
    assert first.found == Found(new_tasks=12, new_annotations=4)
    assert first.in_step
    assert stored.data() == {}
    reconcile(service)
    work.studio.clock += 500
    CHANGES[change](work, tasks, min(work.studio.annotations))
    before = stored.rows()
    told = reconcile(service, dry_run=True)
    assert stored.rows() == before
    done = reconcile(service)
    assert told.found == done.found or told.in_step is False


def test_a_new_title_and_labelling_configuration_are_noted(service: Service, work: AtWork) -> None:
    work.studio.projects[PROJECT] |= {"title": "another", "label_config": "<View/>"}
    reconcile(service)
    with service.store.read() as conn:
        project = projects.get(conn, PROJECT)
    assert (project.title, project.label_config) == ("another", "<View/>")


def test_the_secret_fields_of_a_task_do_not_come_in(service: Service, work: AtWork, stored: Stored) -> None:
    (task_id,) = work.import_tasks(None)
    work.studio.tasks[task_id]["data"] = {"image": "a", "access_token": "hush"}
    reconcile(service)
    assert "hush" not in str(stored.rows())


def test_what_was_found_reads_like_a_sentence() -> None:
    assert str(Found()) == "no difference"
    assert str(Found(new_tasks=2, gone_annotations=1)) == "2 new tasks, 1 deleted annotations"
    assert (Found(1) + Found(2, changed_annotations=3)).count == 6


def test_totals_of_a_range(service: Service, work: AtWork) -> None:
    tasks = work.import_tasks(["c1"], None, ["c2"])
    work.skip(tasks[1])
    reconcile(service)
    with service.store.read() as conn:
        assert intake.totals(conn, PROJECT) == intake.Totals(3, 2, 1)
        assert intake.totals(conn, PROJECT, within=(tasks[0], tasks[1])) == intake.Totals(1, 0, 1)
        assert intake.last_task(conn, PROJECT) == tasks[-1]
