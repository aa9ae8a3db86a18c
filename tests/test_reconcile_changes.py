"""Reading what changed while people go on working: nothing is passed over, no more is read than must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illume_plugin.labelstudio.changes import OVERLAP_S, changed_since, differing, earlier, start, walk
from illume_plugin.labelstudio.pages import Page, Where
from illume_plugin.preferences import TaskNow, TaskSeen


def moment(seconds: float) -> str:
    at = datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seconds)
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@dataclass
class Clockwork:
    """Tasks that change by a timetable, in the order in which Label Studio would write and show it.

    `shown` is what is committed. A change is written with the moment at which it was made and committed
    some seconds later.
    """

    shown: dict[int, str] = field(default_factory=dict)
    written: list[tuple[float, str, tuple[int, ...]]] = field(default_factory=list)
    now: float = 1000.0
    tells_date: bool = True
    page_max: int = 10**9
    amid_page: Callable[[], None] = lambda: None
    questions: int = 0
    said: dict[int, int] = field(default_factory=dict)

    def touch(self, *task_ids: int, takes: float = 0.0) -> None:
        self.written.append((self.now + takes, moment(self.now), task_ids))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = sorted(one for one in self.written if one[0] <= self.now)
        self.written = [one for one in self.written if one[0] > self.now]
        for _, at, task_ids in due:
            self.shown |= {task_id: max(at, self.shown.get(task_id, "")) for task_id in task_ids}

    def ask(self, where: Where, size: int) -> Page:
        self.questions += 1
        self.wait(0.1)
        asked_at = moment(self.now - 1) if self.tells_date else ""
        matching = [
            task_id
            for task_id, at in self.shown.items()
            if at > (where.after or "") and (not where.at or at == where.at)
            and where.above < task_id <= (where.up_to or 10**9)
        ]  # fmt: skip
        by_time = where.after is not None or where.newest
        matching.sort(key=lambda one: (self.shown[one] if by_time else "", one), reverse=where.newest)
        page = matching[: min(size, self.page_max)]
        submitted = sum(self.said.get(one, 0) for one in matching)
        self.amid_page()
        tasks = tuple(TaskNow(TaskSeen(1, one, {}, self.shown[one]), ()) for one in page)
        return Page(tasks, len(matching), submitted, page[-1] if page else 0, asked_at)


class Reader:
    """Reads as the reconciler does: only what a step settles is remembered when a reading is broken off."""

    def __init__(self, studio: Clockwork, page: int) -> None:
        self.studio = studio
        self.page = page
        self.settled = ""
        self.seen: dict[int, str] = {}

    def read(self, steps: int = 10**9) -> None:
        for number, step in enumerate(changed_since(self.studio.ask, self.settled, page=self.page), 1):
            self.seen |= {task.task_id: task.updated_at for task in step.tasks}
            assert step.settled >= self.settled
            self.settled = step.settled
            if number == steps:
                return


@pytest.fixture
def studio() -> Clockwork:
    return Clockwork()


def filled(studio: Clockwork, count: int, every: float = 1.0) -> None:
    for task_id in range(1, count + 1):
        studio.touch(task_id)
        studio.wait(every)


actions = st.lists(
    st.one_of(
        # tasks that change together, and how long their transaction takes
        st.tuples(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.floats(0, OVERLAP_S - 3)),
        st.floats(0.1, 90),  # time passes
        st.integers(1, 3),  # a round that is broken off after so many steps
        st.none(),  # a whole round
    ),
    max_size=25,
)


@given(actions, st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_nothing_is_passed_over_whatever_happens_between_pages(
    timetable: list[object], page: int, page_max: int, tells_date: bool
) -> None:
    studio = Clockwork(tells_date=tells_date, page_max=page_max)
    reader = Reader(studio, page)
    for action in timetable:
        if isinstance(action, tuple):
            studio.touch(*action[0], takes=action[1])
        elif isinstance(action, float):
            studio.wait(action)
        else:
            reader.read(action if isinstance(action, int) else 10**9)
    studio.wait(OVERLAP_S)
    reader.read()
    assert reader.seen == studio.shown
    newest = max(studio.shown.values(), default="")
    assert reader.settled <= newest


@given(st.lists(st.integers(1, 12), max_size=12), st.integers(1, 5), st.booleans())
def test_people_who_work_while_a_page_is_read(touched: list[int], page: int, tells_date: bool) -> None:
    """Their tasks stand in the page with a later moment than the one that gave them their place."""
    studio = Clockwork(tells_date=tells_date)
    filled(studio, 12)
    studio.wait(1000)
    work = iter(touched)

    def amid_page() -> None:
        for task_id in work:
            studio.touch(task_id)
            studio.wait(0.1)
            return

    reader = Reader(studio, page)
    studio.amid_page = amid_page if tells_date else lambda: None
    reader.read()
    studio.amid_page = lambda: None
    reader.read()
    assert reader.seen == studio.shown


def test_more_tasks_of_one_moment_than_a_page_holds(studio: Clockwork) -> None:
    studio.touch(*range(1, 1001))
    studio.wait(5)
    studio.touch(7)
    studio.wait(5)
    reader = Reader(studio, page=100)
    reader.read()
    assert reader.seen == studio.shown


def test_a_quiet_project_costs_one_question_and_brings_nothing(studio: Clockwork) -> None:
    filled(studio, 300)
    studio.wait(600)
    reader = Reader(studio, page=100)
    reader.read()
    studio.questions = 0
    for _ in range(3):
        studio.wait(45)
        assert [step.tasks for step in changed_since(studio.ask, reader.settled, page=100)] == [()]
    assert studio.questions == 3


def test_what_was_imported_at_once_is_not_read_again_for_ever(studio: Clockwork) -> None:
    """All of it lies within the overlap of its last task."""
    studio.touch(*range(1, 5001))
    studio.wait(1)
    reader = Reader(studio, page=500)
    reader.read()
    studio.wait(OVERLAP_S + 30)
    reader.read()
    studio.questions = 0
    reader.read()
    assert studio.questions == 1


def test_without_a_date_the_last_minute_before_the_newest_change_is_read_again(studio: Clockwork) -> None:
    studio.tells_date = False
    filled(studio, 200)
    studio.wait(1000)
    reader = Reader(studio, page=100)
    reader.read()
    assert reader.settled == earlier(max(studio.shown.values()), OVERLAP_S)


def test_a_change_that_is_committed_late(studio: Clockwork) -> None:
    studio.touch(1, takes=OVERLAP_S - 5)
    studio.wait(1)
    studio.touch(2)
    studio.wait(1)
    reader = Reader(studio, page=10)
    reader.read()
    assert set(reader.seen) == {2}
    studio.wait(OVERLAP_S)
    reader.read()
    assert set(reader.seen) == {1, 2}


def test_a_reading_that_takes_long_settles_no_more_than_its_first_page_did(studio: Clockwork) -> None:
    """What was committed behind its back is long past when it ends."""
    studio.touch(1)
    studio.wait(1)
    studio.touch(9, takes=40)
    studio.wait(1)
    for task_id in (2, 3, 4):
        studio.touch(task_id)
        studio.wait(1)
    studio.amid_page = lambda: studio.wait(2 * OVERLAP_S)
    reader = Reader(studio, page=3)
    reader.read()
    assert set(reader.seen) == {1, 2, 3, 4}
    studio.amid_page = lambda: None
    reader.read()
    assert set(reader.seen) == {1, 2, 3, 4, 9}


def test_a_server_that_ignores_the_order_does_not_hold_us_up_for_ever(studio: Clockwork) -> None:
    """All tasks always newer than the answer: the reading ends and is gone on with the next time."""
    filled(studio, 10, every=0.1)
    future = Clockwork(shown=dict(studio.shown), now=-1e5)
    list(changed_since(future.ask, "", page=3))
    assert future.questions <= 21


# -- walking and comparing -----------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "page_max"), [(1, 99), (7, 99), (7, 3), (100, 99)])
def test_a_walk_covers_every_id_once(studio: Clockwork, page: int, page_max: int) -> None:
    studio.page_max = page_max
    studio.touch(*range(3, 60, 2))
    studio.wait(1)
    spans = list(walk(studio.ask, page=page))
    assert [one.task_id for span in spans for one in span.tasks] == list(range(3, 60, 2))
    edges = [(span.low, span.high) for span in spans]
    assert edges[0][0] == 0
    assert edges[-1][1] is None
    assert [high for _, high in edges[:-1]] == [low for low, _ in edges[1:]]
    assert [one.task_id for span in walk(studio.ask, 10, 20, page=page) for one in span.tasks] == [
        *range(11, 20, 2)
    ]


def test_after_a_walk_the_changes_are_read_from_before_it(studio: Clockwork) -> None:
    assert start(studio.ask) == ""
    studio.touch(1)
    studio.wait(1000)
    assert start(studio.ask) == studio.shown[1], "long settled"
    studio.touch(2)
    studio.wait(1)
    assert start(studio.ask) < moment(studio.now - OVERLAP_S)


def spread(count: int) -> Iterator[int]:
    """Ids as they are where other projects' tasks lie between."""
    return iter(range(5, 5 + 3 * count, 3))


@given(
    st.sets(st.integers(0, 399), max_size=6), st.sets(st.integers(0, 399), max_size=6), st.integers(1, 300)
)
def test_the_ranges_that_differ_hold_all_that_differs(lost: set[int], ghosts: set[int], page: int) -> None:
    ids = list(spread(400))
    there = Clockwork(shown=dict.fromkeys(ids, moment(1)), said=dict.fromkeys(ids[::2], 1))
    ours = {one: there.said.get(one, 0) for n, one in enumerate(ids) if n not in lost}
    for n in ghosts - lost:
        ours[ids[n]] += 1  # an annotation that is there no more

    def count(low: int, high: int) -> tuple[int, int]:
        held = [said for one, said in ours.items() if low < one <= high]
        return len(held), sum(held)

    found = list(differing(there.ask, count, max(ids), page=page))
    wrong = {ids[n] for n in lost | ghosts}
    # in a range where losses make up for each other nothing shows
    hidden = {one for one in wrong if not any(low < one <= high for low, high in found)}
    assert sum(there.said.get(one, 0) - ours.get(one, 0) for one in hidden) == 0
    assert len(hidden & {ids[n] for n in lost}) == 0
    assert all(sum(low < one <= high for one in ids) <= max(page, 1) for low, high in found)


def test_one_lost_task_among_many_is_found_with_few_questions() -> None:
    ids = range(1, 100_001)
    there = Clockwork(shown=dict.fromkeys(ids, moment(1)))
    counts: dict[tuple[int, int], tuple[int, int]] = {}

    def ask(where: Where, size: int) -> Page:
        there.questions += 1
        assert where.up_to is not None
        return Page((), where.up_to - where.above - (where.above < 77_777 <= where.up_to), 0)

    def ours(low: int, high: int) -> tuple[int, int]:
        return counts.setdefault((low, high), (high - low, 0))

    ((low, high),) = differing(ask, ours, 100_000)
    assert low < 77_777 <= high
    assert there.questions <= 9
