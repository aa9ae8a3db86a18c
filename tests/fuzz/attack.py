"""Many requests in a row, judged one by one; a failure comes back as the smallest request that shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from fuzz.cases import Case
from fuzz.judging import judge, send
from fuzz.target import Target


@dataclass
class Tally:
    """What was sent and what came back.

    Attributes:
        findings: what was wrong, each with the smallest request that shows it.
    """

    cases: int = 0
    endpoints: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    callers: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def attack(target: Target, strategy: st.SearchStrategy[Case], *, cases: int, seed: int, tally: Tally) -> None:
    """Send so many requests drawn from `strategy`; `see_that_all_works` looks at what they left behind."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(strategy)
    def one(case: Case) -> None:
        _count(tally, case)
        found = _findings(target, case, tally)
        assert not found, f"{'; '.join(found)} <- {case}"

    with target.watched():
        try:
            one()
        except AssertionError as error:
            tally.findings.append(str(error).splitlines()[0])
        target.told.read()


def see_that_all_works(target: Target, *, seed: int, tally: Tally) -> None:
    """A good event is kept, good tasks get predictions, the worker goes on, nobody holds a lock."""
    tally.findings += [f"after the cases of seed {seed}: {each}" for each in target.problems()]


def _count(tally: Tally, case: Case) -> None:
    tally.cases += 1
    tally.endpoints[case.endpoint] += 1
    tally.callers[case.who.value] += 1


def _findings(target: Target, case: Case, tally: Tally) -> list[str]:
    """What is wrong; an exception that comes out of the app is a finding, too."""
    try:
        answer = send(target, case)
    except Exception as error:  # noqa: BLE001 - whatever it is, a server would have answered 500
        return [f"{type(error).__name__} came out of the app: {error}"]
    tally.statuses[answer.status] += 1
    return judge(target, case, answer)
