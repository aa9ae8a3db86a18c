"""What the quality benchmark runs: simulated loops that differ in one thing, and peers tuned on written text.

A piece of work is one arm with one seed; it has a folder of its own, so that pieces run side by side, and
what is finished is not done again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.simulate import Measurement, Options, Simulation
from backend.simulate.record import Iteration
from backend.simulate.supervised import supervised
from illume_plugin.embedded import World
from illume_plugin.types import Json, Metric

#: ILLUME's loop with one annotator who is never wrong.
LOOP = "loop"
#: Loops with one annotator who is wrong now and then.
NOISE = {"noise-10": 0.10, "noise-20": 0.20}
#: Three annotators, each wrong in one tick of five: how their votes count.
TEAM = {"majority": False, "agreement": True}
#: A world in which no candidate of the base model can fit.
CONTROL = "no-signal"
#: The base model tuned on rationales that somebody wrote, one for each task: all of them, as many as the loop
#: has tasks, a tenth.
SUPERVISED = ("supervised-all", "supervised-matched", "supervised-tenth")
#: What is run unless arms are named.
CLAIMED = (LOOP, *SUPERVISED, *NOISE, *TEAM, CONTROL)
#: ILLUME's loss alone, as the defaults are where people only tick, and beside it one objective more, or all
#: of them.
ONLY_ILLUME = "only-illume"
#: As many tasks more as people judge in all, which nobody judges: with and without CSR's pairs of them,
#: beside DPO on people's pairs.
CSR = {"with-csr": True, "without-csr": False}
_ALONE = {"dress": 0.0, "dpo": 0.0}
OBJECTIVES: Mapping[str, Mapping[str, Json]] = {
    ONLY_ILLUME: _ALONE,
    "with-dpo": {**_ALONE, "dpo": 0.1},
    "with-kto": {**_ALONE, "kto": 0.1},
    **{arm: {**_ALONE, "dpo": 0.1, "self_reward": pairs} for arm, pairs in CSR.items()},
    "with-dress": {**_ALONE, "dress": 1.0},
    "with-contrast": {**_ALONE, "contrast": 0.1},
    "with-all": {"dress": 1.0, "dpo": 0.1, "kto": 0.1, "contrast": 0.1},
}
ARMS = (*CLAIMED, *OBJECTIVES)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        options: of the loop.
        written: rationales in `supervised-all`.
        epochs: of the peers; chosen for them as the defaults were for the loop (docs/lab-notes.md).
    """

    options: Options
    written: int
    epochs: Mapping[str, int]


#: Takes hours on two cores: 5 rounds of 120 tasks, as the goals are stated.
FULL = Size(Options(), 1200, {"supervised-all": 10, "supervised-matched": 10, "supervised-tenth": 20})
#: Under half an hour on two cores.
SMALL = Size(Options(tasks=60, iterations=3, held_out_tasks=90), 600, FULL.epochs)
#: Shows that everything runs; its figures are noise.
QUICK = Size(
    Options(tasks=10, iterations=1, samples=2, held_out_tasks=9, held_out_samples=2, train={"max_steps": 3}),
    10,
    dict.fromkeys(SUPERVISED, 1),
)
SIZES = {"full": FULL, "small": SMALL, "quick": QUICK}


@dataclass(frozen=True)
class Outcome:
    """What one arm with one seed came to.

    Attributes:
        curve: measurements by iteration, the base model's first; a peer has its own alone.
        ended: why a loop ended early, in its own words.
    """

    arm: str
    seed: int
    curve: list[Measurement]
    ended: str
    seconds: float
    steps: int

    @property
    def base(self) -> Measurement:
        """Before anything was learnt."""
        return self.curve[0]

    @property
    def last(self) -> Measurement:
        """At the end."""
        return self.curve[-1]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values: each with its interval over held-out tasks."""
        names = ("fit_rate", "fit_rate_plan", "answer_accuracy", "distinct")
        return {
            "arm": self.arm,
            "seed": self.seed,
            "ended": self.ended,
            "seconds": round(self.seconds),
            "steps": self.steps,
            "versions": [one.version for one in self.curve],
            **{name: [_metric(getattr(one, name)) for one in self.curve] for name in names},
            "kinds": {kind: _metric(found["fit_rate"]) for kind, found in self.last.kinds.items()},
        }


def options_of(arm: str, size: Size, seed: int) -> Options:
    """The simulation of an arm; the peers take theirs from the loop's."""
    loop = replace(size.options, seed=seed)
    if arm in NOISE:
        return replace(loop, noise=NOISE[arm])
    if arm in TEAM:
        return replace(loop, annotators=3, noise=0.20, weigh_agreement=TEAM[arm])
    if arm == CONTROL:
        return replace(loop, world=World.PATTERNS)
    if arm in OBJECTIVES:
        unjudged = loop.tasks * loop.iterations if arm in CSR else 0
        train = {**loop.train, "objectives": dict(OBJECTIVES[arm])}
        return replace(loop, unjudged=unjudged, train=train)
    if arm in SUPERVISED:
        return replace(loop, train={**loop.train, "epochs": size.epochs[arm]})
    return loop


def run(arm: str, size: Size, seed: int, folder: Path) -> Outcome:
    """Do one piece of work.

    Raises:
        IllumeError: it cannot be done.
    """
    logging.basicConfig(level=logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "progress.log").open("a", buffering=1) as log:
        simulation = Simulation(options_of(arm, size, seed), folder, say=lambda line: print(line, file=log))
        if arm in SUPERVISED:
            return _peer(arm, size, seed, simulation)
        return _loop(arm, seed, simulation.run())


def _loop(arm: str, seed: int, done: list[Iteration]) -> Outcome:
    return Outcome(
        arm,
        seed,
        [one.measured for one in done],
        done[-1].ended,
        sum(sum(one.seconds.values()) for one in done),
        sum(int(one.run.get("steps", 0)) for one in done if one.run),
    )


def _peer(arm: str, size: Size, seed: int, simulation: Simulation) -> Outcome:
    loop = size.options
    written = {
        "supervised-all": size.written,
        "supervised-matched": loop.tasks * loop.iterations,
        "supervised-tenth": size.written // 10,
    }
    tuned = supervised(simulation, written[arm])
    return Outcome(arm, seed, [tuned.measured], "", tuned.seconds, tuned.steps)


def _metric(metric: Metric) -> list[float]:
    return [round(value, 4) for value in (metric.value, metric.low, metric.high)]
