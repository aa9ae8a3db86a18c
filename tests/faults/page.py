"""Writes docs/reliability.md from what the long run wrote down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from illume_plugin.fault_points import POINTS

Round = Mapping[str, Any]

_HEAD = """\
# Kill anything, anywhere

Written by `make faults` from `results/faults.json`; not edited by hand.

A real Label Studio, the real `illume serve` and `illume worker` as processes of their own, people who submit,
edit and delete through Label Studio's API. Meanwhile processes die by SIGKILL, at named points
(`illume_plugin/fault_points.py`) and at random moments, and the world breaks. A supervisor starts what died
again; nobody does anything else. After each round what is stored is compared with Label Studio's own export,
every adapter version is hashed again, and `/setup` and a live `/predict` are asked. All the while `/setup` is
asked twice a second, and the files of the version that it names are hashed.
"""

_HOW = """\
## How it heals

* **An event that is lost, doubled, late or out of order**: events are folded, so order and repetition do not
  count; what never came is found by asking Label Studio what changed (every 45 s by default).
* **A process that dies between writing and keeping**: a transaction or a rename has happened or has not;
  there is nothing in between.
* **A worker that dies**: its leases run out (60 and 120 s), and the next one goes on: with a run from its
  newest checkpoint, its finished result or its published version, whichever is furthest.
* **A training process that dies**: it is started again as long as it gets further in between. Killed twice at
  the same checkpoint the run fails, keeps its folder and says how to go on (`illume train --resume N`).
* **Unfinished files of the dead** go when they are older than an hour: with the next run or the next picture.
* **A disk that is full, a database that is locked**: what cannot be kept is not confirmed, and is done again.

What may be there twice: a worker that dies after Label Studio has taken predictions and before it has noted
so pushes them again, and likewise where Label Studio's answer is lost. Label Studio shows the newest; an
annotation counts once.

In the harness waits are shorter than in the product, so that hours fit into minutes: leases last 4 s instead
of 60 and 120, Label Studio is asked every 5 s instead of 45, a writer gives up on a locked database after 2 s
instead of 30 (`tests/faults/process.py`). In most rounds stand-ins take the place of the model and its
training; the others use the embedded model and the real training process.
"""


def write_page(results: Path, page: Path) -> None:
    """Write it, all or nothing."""
    draft = page.with_suffix(".draft")
    draft.write_text(text_of(json.loads(results.read_text(encoding="utf-8"))), encoding="utf-8")
    draft.replace(page)


def text_of(told: Mapping[str, Any]) -> str:
    """The page."""
    rounds: Sequence[Round] = told["rounds"]
    parts = [
        _HEAD,
        _summary(told, rounds),
        _points(rounds),
        _random(rounds),
        _broken(rounds),
        _HOW,
        _problems(rounds),
    ]
    return "\n".join(part for part in parts if part)


def _summary(told: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    found = [one["found"] for one in rounds]
    kills, named = sum(one["kills"] for one in rounds), sum(sum(one["points"].values()) for one in rounds)
    lines = {
        "kills": f"**{kills}**, of which {named} at named points",
        "rounds": f"{len(rounds)} (seed {told['seed']}), "
        f"{sum(not one['light'] for one in rounds)} of them with the embedded model and the real training",
        "annotations compared": f"{sum(one['annotations'] for one in found)}",
        "annotations lost": f"**{sum(one['lost'] for one in found)}**",
        "annotations doubled": f"**{sum(one['doubled'] for one in found)}**",
        "broken adapters served": f"**{_count(found, 'broken')}**",
        "rounds with anything wrong": f"**{sum(bool(one['problems']) for one in found)}**",
        "predictions in Label Studio twice": f"{sum(one['predictions_twice'] for one in found)} of "
        f"{sum(one['predictions'] for one in found)}",
        "healed within": f"{max((one['healed_in_s'] for one in found), default=0):.0f} s at most, "
        f"{_median(one['healed_in_s'] for one in found):.0f} s in the middle",
        "machine": told["machine"],
        "date": told["date"],
        "command": f"`make faults ARGS='--seed {told['seed']}'`",
    }
    return _table(("what", "figure"), lines.items())


def _points(rounds: Sequence[Round]) -> str:
    kills: Counter[str] = Counter()
    worse: Counter[str] = Counter()
    for one in rounds:
        kills.update(one["points"])
        worse.update(point for point in one["points"] if one["found"]["problems"])
    rows = [
        (f"`{name}`", told, kills[name], _outcome(kills[name], worse[name])) for name, told in POINTS.items()
    ]
    return "## Named points\n\n" + _table(("point", "the process dies when", "kills", "afterwards"), rows)


def _outcome(kills: int, worse: int) -> str:
    if not kills:
        return "not reached"
    return f"{worse} rounds with something wrong" if worse else "healed"


def _random(rounds: Sequence[Round]) -> str:
    kills: Counter[str] = Counter()
    for one in rounds:
        kills.update(one["random"])
    return "## Random moments\n\n" + _table(("killed", "times"), sorted(kills.items()))


def _broken(rounds: Sequence[Round]) -> str:
    times: Counter[str] = Counter(one["broke"] for one in rounds)
    not_allowed = {what for one in rounds for what in one["not_allowed"]}
    worst: dict[str, float] = {}
    for one in rounds:
        worst[one["broke"]] = max(worst.get(one["broke"], 0.0), one["found"]["healed_in_s"])
    rows = [
        (what, count, "not allowed on this machine" if what in not_allowed else f"{worst[what]:.0f} s")
        for what, count in sorted(times.items())
    ]
    return "## What else broke\n\nFor some seconds, in which a process was killed as well.\n\n" + _table(
        ("what", "rounds", "healed within"), rows
    )


def _problems(rounds: Sequence[Round]) -> str:
    told = [f"* round {one['number']}: {each}" for one in rounds for each in one["found"]["problems"]]
    return "## What did not heal\n\n" + "\n".join(told) + "\n" if told else ""


def _count(found: Sequence[Mapping[str, Any]], word: str) -> int:
    return sum(problem.startswith(word) for one in found for problem in one["problems"])


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in lines)
