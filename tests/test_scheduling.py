"""Who comes first at the model, who shares a result, and what is given up."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from backend.sampling import Sampled
from backend.scheduling import Priority, Scheduler
from illume_plugin.errors import ModelError, TaskError, UnavailableError
from illume_plugin.generation.stopping import SamplingStopped
from illume_plugin.types import CandidateSet, Project, Wish

ONE, TWO = (Project(n, "", "") for n in (1, 2))


class Model:
    """Samples when it is let; keeps what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.wishes: list[Wish | None] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.given_up = 0
        self.fails: BaseException | None = None

    def __call__(
        self,
        project: Project,
        data: Mapping[int, Mapping[str, Any]],
        wish: Wish | None,
        stop: Callable[[], bool],
    ) -> Sampled:
        self.batches.append(list(data))
        self.wishes.append(wish)
        self.begun.release()
        while not self.may_end.acquire(timeout=0.01):
            if stop():
                self.given_up += 1
                raise SamplingStopped("Stopped.")
        if self.fails is not None:
            raise self.fails
        problems = {task_id: TaskError("no") for task_id in data if task_id >= 900}
        sets = {
            task_id: CandidateSet(project.project_id, task_id, project.active_version, "plan", 0, 0.0, ())
            for task_id in data
            if task_id < 900
        }
        return Sampled(sets, problems)

    def let(self, batches: int = 1) -> None:
        for _ in range(batches):
            self.may_end.release()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def scheduler(model: Model) -> Iterator[Scheduler]:
    made = Scheduler(model, at_a_time=lambda: 3, most=10)
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def asked(
    pool: ThreadPoolExecutor, scheduler: Scheduler, *ids: int, project: Project = ONE, **how: Any
) -> "Future[Sampled]":
    """Ask in a thread; returns once the tasks are in the queue."""
    before = waiters(scheduler)
    new = {i: {} for i in ids}
    future = pool.submit(scheduler.sample, project, new, **{"priority": Priority.OPEN, **how})
    until(lambda: waiters(scheduler) >= before + len(ids) or future.done())
    return future


def waiters(scheduler: Scheduler) -> int:
    """How many wait, each counted for each of its tasks: no user needs that, so it is not public."""
    return sum(job.waiting for job in list(scheduler._queue.jobs.values()))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it never came true"
        threading.Event().wait(0.002)


def test_everybody_gets_what_they_asked_for(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    model.let(10)
    found = scheduler.sample(ONE, {1: {}, 2: {}, 901: {}, 3: {}}, priority=Priority.OPEN)
    assert set(found.sets) == {1, 2, 3}
    assert set(found.problems) == {901}
    assert model.batches == [[1, 2, 901], [3]]
    assert scheduler.waiting == 0


def test_who_waits_comes_before_what_is_for_later(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    first = asked(pool, scheduler, 1)
    assert model.begun.acquire(timeout=20)
    ahead = asked(pool, scheduler, 2, priority=Priority.AHEAD)
    opened = asked(pool, scheduler, 3)
    by_hand = asked(pool, scheduler, 4, priority=Priority.INTERACTIVE)
    model.let(4)
    for future in (first, ahead, opened, by_hand):
        future.result(20)
    assert model.batches == [[1], [4], [3], [2]]


def test_what_is_sampled_ahead_makes_room_and_comes_again(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    ahead = asked(pool, scheduler, 1, 2, priority=Priority.AHEAD)
    assert model.begun.acquire(timeout=20)
    opened = asked(pool, scheduler, 3)
    until(lambda: model.given_up == 1)
    model.let(2)
    assert set(opened.result(20).sets) == {3}
    assert set(ahead.result(20).sets) == {1, 2}
    assert model.batches == [[1, 2], [3], [1, 2]]


def test_those_who_wait_do_not_push_each_other_aside(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    opened = asked(pool, scheduler, 1)
    assert model.begun.acquire(timeout=20)
    by_hand = asked(pool, scheduler, 2, priority=Priority.INTERACTIVE)
    model.let(2)
    opened.result(20)
    by_hand.result(20)
    assert model.given_up == 0


def test_the_same_task_is_sampled_once_for_all(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    futures = [asked(pool, scheduler, 1), asked(pool, scheduler, 1)]
    futures.append(asked(pool, scheduler, 1, priority=Priority.AHEAD))
    until(lambda: model.begun.acquire(blocking=False))
    model.let()
    sets = [future.result(20).sets[1] for future in futures]
    assert sets[0] is sets[1]
    assert model.batches[0] == [1]


def test_projects_and_versions_do_not_share_a_batch(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    first = asked(pool, scheduler, 9)
    assert model.begun.acquire(timeout=20)
    futures = [asked(pool, scheduler, 1), asked(pool, scheduler, 1, project=TWO), asked(pool, scheduler, 2)]
    model.let(3)
    for future in [first, *futures]:
        future.result(20)
    assert model.batches == [[9], [1, 2], [1]]


def test_after_its_deadline_a_task_is_given_up(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    running = asked(pool, scheduler, 1)
    assert model.begun.acquire(timeout=20)
    late = scheduler.sample(ONE, {2: {}}, priority=Priority.OPEN, deadline=time.monotonic() + 0.05)
    assert isinstance(late.problems[2], UnavailableError)
    model.let(2)
    running.result(20)
    until(lambda: scheduler.waiting == 0)
    assert model.batches == [[1]], "nobody waited for task 2 any more"


def test_a_batch_for_which_nobody_waits_is_stopped(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    leaving = threading.Event()
    future = asked(pool, scheduler, 1, gone=leaving.is_set)
    assert model.begun.acquire(timeout=20)
    leaving.set()
    assert set(future.result(20).problems) == {1}
    until(lambda: model.given_up == 1)
    until(lambda: scheduler.waiting == 0)


def test_a_full_queue_says_so(model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    future = asked(pool, scheduler, *range(9))
    with pytest.raises(UnavailableError, match="9 tasks wait"):
        scheduler.sample(ONE, {100: {}, 101: {}}, priority=Priority.OPEN)
    model.let(3)
    assert len(future.result(20).sets) == 9


@pytest.mark.parametrize("error", [ModelError("The adapter is damaged."), ZeroDivisionError("ours")])
def test_errors_reach_everybody_and_the_next_call_works(
    model: Model, scheduler: Scheduler, error: Exception
) -> None:
    model.fails = error
    model.let()
    with pytest.raises(type(error)):
        scheduler.sample(ONE, {1: {}, 2: {}}, priority=Priority.OPEN)
    model.fails = None
    model.let()
    assert set(scheduler.sample(ONE, {1: {}}, priority=Priority.OPEN).sets) == {1}


def test_closing_ends_those_who_wait(model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    future = asked(pool, scheduler, 1)
    assert model.begun.acquire(timeout=20)
    scheduler.close()
    assert isinstance(future.result(20).problems[1], UnavailableError)
    with pytest.raises(UnavailableError, match="ending"):
        scheduler.sample(ONE, {2: {}}, priority=Priority.OPEN)


def test_a_base_model_that_cannot_be_loaded_is_an_error_of_the_call(model: Model) -> None:
    loading = iter([ModelError("The folder is empty.")])

    def at_a_time() -> int:
        for error in loading:
            raise error
        return 3

    scheduler = Scheduler(model, at_a_time=at_a_time)
    with pytest.raises(ModelError, match="empty"):
        scheduler.sample(ONE, {1: {}}, priority=Priority.OPEN)
    model.let()
    assert set(scheduler.sample(ONE, {1: {}}, priority=Priority.OPEN).sets) == {1}
    scheduler.close()


def test_a_task_that_was_forgotten_is_not_waited_for() -> None:
    scheduler = Scheduler(lambda _project, _data, _wish, _stop: Sampled({}, {}), at_a_time=lambda: 3)
    found = scheduler.sample(ONE, {1: {}}, priority=Priority.OPEN)
    assert isinstance(found.problems[1], UnavailableError)
    scheduler.close()


def test_a_wish_is_answered_by_itself_and_shared_by_those_who_have_the_same(
    model: Model, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    first = asked(pool, scheduler, 1)
    assert model.begun.acquire(timeout=20)
    wish, other = Wish(1, "say why", "it is"), Wish(1, "say more", "it is")
    how = {"priority": Priority.INTERACTIVE}
    futures = [asked(pool, scheduler, 2, wish=one, **how) for one in (wish, wish, other)]
    plain = asked(pool, scheduler, 2)
    model.let(4)
    for future in (first, *futures, plain):
        assert future.result(20).sets
    assert model.batches == [[1], [2], [2], [2]]
    assert model.wishes == [None, wish, other, None]
