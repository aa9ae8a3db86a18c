"""A trial: people tick candidates of two adapters without knowing whose, until it is decided. Pure.

While a trial is open, a task shows candidates of the active adapter and of its challenger, equally many, in
an order that owes nothing to who wrote them. What people tick of the ones and of the others is compared task
by task (`sequential`). The state of a trial is a fold over the preferences that are there: nothing else is
kept while it goes on, so repeated, reordered, changed and deleted annotations, and a worker that dies, cannot
make it go astray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

from illume_plugin.fit_rate import TaskSums, fit_rate
from illume_plugin.identity import content_hash, wording
from illume_plugin.selection.similarity import same_but_for_spelling
from illume_plugin.sequential import Comparison, Limits, Outcome, compare, interval
from illume_plugin.types import Candidate, Json, Metric, Origin, Preference, Verdict

#: Wording -> the candidate that says it.
Written = dict[str, Candidate]


class TrialEnd(StrEnum):
    """How a trial ended."""

    BETTER = Outcome.BETTER.value
    WORSE = Outcome.WORSE.value
    UNDECIDED = Outcome.UNDECIDED.value
    STOPPED = "stopped"  # by a person, or because what it compared was not there any more


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as the store knows it.

    Attributes:
        active, challenger: the versions that it compares.
        after_annotation: annotations up to this id were there before it.
        started_by, ended_by: the person, or what did it by itself, such as `run 7`.
        end: None while it is open.
        reason: why it ended, a sentence.
        report: its figures when it ended (`Figures` as a mapping).
    """

    trial_id: int
    project_id: int
    active: str
    challenger: str
    limits: Limits
    after_annotation: int
    started_at: float
    started_by: str
    ended_at: float | None = None
    ended_by: str = ""
    end: TrialEnd | None = None
    reason: str = ""
    report: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ticks:
    """How the candidates of one adapter fared on one task.

    Attributes:
        shown: candidates on the screen that it wrote, those that both adapters wrote among them.
        ticked: of these, the ones that fit as they were drawn.
    """

    shown: int
    ticked: int

    @property
    def share(self) -> float:
        """Ticked share, in [0, 1]."""
        return self.ticked / self.shown


@dataclass(frozen=True, slots=True)
class JudgedTask:
    """One task that counts, with the annotation that judged it first."""

    task_id: int
    annotation_id: int
    active: Ticks
    challenger: Ticks

    @property
    def difference(self) -> float:
        """The challenger's ticked share minus the active adapter's, in [-1, 1]."""
        return self.challenger.share - self.active.share


@dataclass(frozen=True, slots=True)
class Figures:
    """A trial in numbers, up to its verdict.

    Attributes:
        tasks: judged tasks that count.
        active, challenger: tick rate of each adapter on these tasks with its 95 % interval; None without any.
        difference: mean over tasks of the challenger's ticked share minus the active one's.
        low, high: interval of the difference that holds however often one looks,
        level: with this probability. It leaves 0 when the trial is decided.
        expected: tasks still to be judged if the next ones are like these; None where that cannot be said.
    """

    tasks: int
    active: Metric | None
    challenger: Metric | None
    difference: float
    low: float
    high: float
    level: float
    outcome: Outcome
    expected: int | None


def mixed_plan(plan: str, challenger: str) -> str:
    """Identity under which the candidate sets of a trial are kept: the sampling plan and who else draws."""
    return content_hash(["trial", plan, challenger])


def mix(
    active: Sequence[Candidate], challenger: Sequence[Candidate], versions: tuple[str, str], slots: int
) -> list[Candidate]:
    """The candidates that one task shows during a trial, each with the versions that wrote it.

    Both adapters give their best k candidates, k being as large as the rows allow once texts that both gave
    (but for their spelling) are shown once. So a text that both gave counts for both, and each is represented
    by what it would have shown first, in equal numbers. Where one has nothing to give, the other's stand
    alone, and the task will not count.

    Args:
        active, challenger: candidates of one task, best first.
        versions: of the two adapters, in the same order.
        slots: rows to fill.
    """
    ours = _by_wording(active)
    theirs = _by_wording(challenger, ours)
    most = min(len(ours), len(theirs))
    fitting = (k for k in range(most, 0, -1) if len({*list(ours)[:k], *list(theirs)[:k]}) <= slots)
    k = next(fitting, 0)
    if not k:
        alone, version = (ours, versions[0]) if ours else (theirs, versions[1])
        return [replace(each, versions=(version,)) for each in list(alone.values())[:slots]]
    best, others = dict(list(ours.items())[:k]), dict(list(theirs.items())[:k])
    both = [_shared(best[key], others[key], versions) for key in best if key in others]
    first = [replace(each, versions=versions[:1]) for key, each in best.items() if key not in others]
    second = [replace(each, versions=versions[1:]) for key, each in others.items() if key not in best]
    return [*both, *first, *second]


def _shared(one: Candidate, other: Candidate, versions: tuple[str, str]) -> Candidate:
    """What both wrote, in the spelling of either: which one must not depend on who is the challenger."""
    return replace(min(one, other, key=attrgetter("text")), versions=versions)


def _by_wording(candidates: Iterable[Candidate], known: Mapping[str, Candidate] | None = None) -> Written:
    """Wording -> its first candidate, in their order; what has no wording is left out.

    Args:
        known: what the other adapter wrote; a text that differs from one of these in spelling only has its
            wording.
    """
    known = known or {}
    found: Written = {}
    for each in candidates:
        key = wording(each.text)
        if key and key not in known:
            alike = (one for one in known if same_but_for_spelling(known[one].text, each.text))
            key = next(alike, key)
        if key:
            found.setdefault(key, each)
    return found


def judged_tasks(preferences: Iterable[Preference], *, active: str, challenger: str) -> list[JudgedTask]:
    """The tasks that count, in the order in which they were judged first.

    A task counts once, by its first annotation that judged candidates of both adapters. Label Studio numbers
    annotations as they are made, so their ids are that order, whatever order they arrive in. What people
    wrote themselves and what came up in later rounds counts for nobody; an edited text did not fit as it was
    drawn.

    Args:
        preferences: of annotations that were made after the trial began, in any order.
    """
    found: dict[int, JudgedTask] = {}
    for annotation_id, group in groupby(
        sorted(preferences, key=attrgetter("annotation_id")), key=attrgetter("annotation_id")
    ):
        rows = list(group)
        ticks = [_ticks(rows, version) for version in (active, challenger)]
        if all(each.shown for each in ticks):
            found.setdefault(rows[0].task_id, JudgedTask(rows[0].task_id, annotation_id, *ticks))
    return list(found.values())


def _ticks(rows: Iterable[Preference], version: str) -> Ticks:
    drawn = [
        each
        for each in rows
        if each.origin is not Origin.OWN and each.turn == 1 and version in (each.version, each.shared_with)
    ]
    ticked = sum(each.verdict is Verdict.FITS and each.origin is Origin.CANDIDATE for each in drawn)
    return Ticks(len(drawn), ticked)


def verdict(judged: Sequence[JudgedTask], limits: Limits) -> Comparison:
    """What is known of the challenger after these tasks; see `sequential.compare`."""
    return compare((task.difference for task in judged), limits)


def figures(judged: Sequence[JudgedTask], limits: Limits) -> Figures:
    """The trial in numbers; tasks behind its verdict are left out (0.1 s for 1,000 tasks)."""
    known = verdict(judged, limits)
    counted = judged[: known.tasks]
    low, high = interval([task.difference for task in counted], limits.alpha)
    return Figures(
        tasks=known.tasks,
        active=_rate([task.active for task in counted]),
        challenger=_rate([task.challenger for task in counted]),
        difference=known.mean,
        low=low,
        high=high,
        level=1 - 2 * limits.alpha,
        outcome=known.outcome,
        expected=known.expected,
    )


def read_figures(report: Mapping[str, Json]) -> Figures:
    """Figures from what is kept of them (`Trial.report`)."""
    rates = {
        name: None if report[name] is None else Metric(**report[name]) for name in ("active", "challenger")
    }
    return Figures(**{**report, **rates, "outcome": Outcome(report["outcome"])})


def _rate(ticks: Sequence[Ticks]) -> Metric | None:
    return fit_rate(TaskSums.of((each.shown, each.ticked) for each in ticks)) if ticks else None


def in_words(found: Figures) -> str:
    """The figures in a sentence without its end, as the reason of a promotion gives them."""
    if found.active is None or found.challenger is None:
        return "no task was judged"
    return (
        f"people ticked {found.challenger.value:.1%} of its candidates and {found.active.value:.1%} of the "
        f"active version's on {found.tasks} tasks (difference of a task {found.difference:+.3f}, "
        f"{found.level:.0%} interval {found.low:+.3f} to {found.high:+.3f})"
    )
