"""What a project's tasks and annotations are now, read from Label Studio page by page; nothing is stored.

Label Studio can be asked for the tasks whose `updated_at` lies after a moment. Around that it has traps:

* a page's number says nothing while people work, so the first page after the last moment is asked for again
  and again, never the second;
* an action over many tasks gives them all the same moment, more of them than a page holds;
* a moment is written before it is committed, so what is older than `OVERLAP_S` alone is settled;
* a task's fields are read after the page was put together, so they may be newer than its place in it;
* a page may be shorter than asked for (TASK_API_PAGE_SIZE_MAX) without being the last one;
* deleted tasks, and some bulk actions, move no moment at all: those show in the totals only, and `differing`
  finds where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from illume_plugin.labelstudio.pages import Page, Where
from illume_plugin.preferences import TaskNow

#: No transaction of Label Studio is taken to last longer, seconds.
OVERLAP_S = 60.0
#: Tasks asked for at a time: about 0.5 s of Label Studio's time.
PAGE = 500
#: Pages in a row that may bring nothing new before the rest is left to the next time.
_FRUITLESS = 20

Ask = Callable[[Where, int], Page]
#: (tasks, submitted annotations) of the ids above the first and up to the second number.
Count = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Step:
    """Some tasks that may have changed.

    Attributes:
        settled: whoever has taken in this step and those before it has everything up to this moment.
    """

    tasks: tuple[TaskNow, ...]
    settled: str


@dataclass(frozen=True, slots=True)
class Span:
    """All tasks there are with low < id <= high; `high` is None for all that follow."""

    low: int
    high: int | None
    tasks: tuple[TaskNow, ...]


def start(ask: Ask) -> str:
    """A moment before which nothing will change any more: where to go on from after reading everything."""
    newest = ask(Where(newest=True), 1)
    last = newest.tasks[0].updated_at if newest.tasks else ""
    return min(last, earlier(newest.asked_at or last, OVERLAP_S))


def changed_since(ask: Ask, settled: str, *, page: int = PAGE) -> Iterator[Step]:
    """The tasks that changed after `settled`, oldest change first; some of them more than once.

    Args:
        settled: of the last step taken in before; "" for all tasks.
    """
    position, unbroken, fruitless, now = settled, True, 0, ""
    while True:
        found = ask(Where(after=position), page)
        now = found.asked_at or now or _newest(ask)
        tasks, reach = found.tasks, _reach(found, position)
        if reach is None:
            tasks, reach = (), _one_moment(found)
            yield from (Step(tied, settled) for tied in _at(ask, reach, page))
        limit = earlier(now, OVERLAP_S)
        if unbroken:
            settled = max(settled, min(reach, limit))
            unbroken = reach <= limit
        yield Step(tasks, settled)
        fruitless = fruitless + 1 if reach == position else 0
        if found.complete or not found.tasks or fruitless == _FRUITLESS:
            return
        position = reach


def walk(ask: Ask, low: int = 0, high: int | None = None, *, page: int = PAGE) -> Iterator[Span]:
    """Every task with low < id <= high, by id."""
    while True:
        found = ask(Where(above=low, up_to=high), page)
        if found.complete or not found.tasks:
            yield Span(low, high, found.tasks)
            return
        last = found.tasks[-1].task_id
        yield Span(low, last, found.tasks)
        low = last


def differing(ask: Ask, ours: Count, high: int, *, page: int = PAGE) -> Iterator[tuple[int, int]]:
    """Ranges (low, high] of ids in which the totals differ from ours, each of about a page.

    Halving finds one lost task among 100,000 with eight questions. Losses that make up for each other within
    a range stay hidden.

    Args:
        high: the greatest id that either side knows.
    """
    ranges = [(0, high, _count(ask, 0, high))]
    while ranges:
        low, high, theirs = ranges.pop()
        mine = ours(low, high)
        if theirs == mine:
            continue
        if max(theirs[0], mine[0]) <= page or high - low == 1:
            yield low, high
            continue
        middle = (low + high) // 2
        left = _count(ask, low, middle)
        ranges += [(middle, high, (theirs[0] - left[0], theirs[1] - left[1])), (low, middle, left)]


def _count(ask: Ask, low: int, high: int) -> tuple[int, int]:
    found = ask(Where(above=low, up_to=high, ids_only=True), 1)
    return found.total, found.submitted


def _reach(found: Page, position: str) -> str | None:
    """How far a page brings us; None when it is cut off among tasks of one moment.

    Tasks that changed while the page was read stand in it with a later moment than the one that gave them
    their place, so those do not count where the page was cut off. Of the last moment there may be more than
    the page holds, so it is the one before.
    """
    if found.complete:
        return max((task.updated_at for task in found.tasks), default=position)
    moments = sorted(_moments(found))
    if not moments:
        return position
    return moments[-2] if len(moments) > 1 else None


def _one_moment(found: Page) -> str:
    (moment,) = _moments(found)
    return moment


def _moments(found: Page) -> set[str]:
    """The moments of the tasks that have not changed since they got their place in the page."""
    times = {task.updated_at for task in found.tasks}
    return {time for time in times if not found.asked_at or time <= found.asked_at}


def _at(ask: Ask, moment: str, page: int) -> Iterator[tuple[TaskNow, ...]]:
    """The tasks of exactly this moment."""
    low = 0
    while True:
        found = ask(Where(at=moment, above=low), page)
        yield found.tasks
        if found.complete or not found.tasks:
            return
        low = found.tasks[-1].task_id


def _newest(ask: Ask) -> str:
    """The time at Label Studio, or earlier: where it does not tell the time, its last change does."""
    newest = ask(Where(newest=True), 1)
    return newest.tasks[0].updated_at if newest.tasks else ""


def earlier(moment: str, seconds: float) -> str:
    """A moment before another one, both UTC text with microseconds; "" stays ""."""
    if not moment:
        return ""
    then = datetime.fromisoformat(moment) - timedelta(seconds=seconds)
    return then.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
