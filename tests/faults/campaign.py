"""The long run: rounds by number, each decided by (seed, number) alone, written down as they end."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from live.conftest import LiveLabelStudio

from faults.checking import grow_old, unfinished
from faults.page import write_page
from faults.rounds import OF_A_COMMAND, OF_THE_BACKEND, OF_THE_CHILD, OF_THE_WORKER, WORLD, Record, Round
from faults.world import World

#: Rounds in one project and data folder; then everything begins anew.
CHAPTER = 6
#: Points armed and random kills (beside those that make room for a process with a fault) in a round.
POINTS, RANDOM_KILLS = 4, 6
#: What lies there for longer than an hour is taken for left behind; seconds.
OLD_S = 7200.0


@dataclass(frozen=True)
class Plan:
    """What one round does."""

    number: int
    light: bool
    points: tuple[str, ...]
    broke: str

    @property
    def chapter(self) -> int:
        return self.number // CHAPTER


def plans(seed: int, light: int, true: int) -> list[Plan]:
    """`light` rounds with stand-ins for the model, then `true` ones with the embedded model.

    Every point comes up before any comes up again.
    """
    rng = random.Random(seed)
    others = _dealt(rng, [*OF_THE_BACKEND, *OF_A_COMMAND, *OF_THE_WORKER])
    of_the_child, world = _dealt(rng, OF_THE_CHILD), _dealt(rng, WORLD)
    made = [
        Plan(number, True, tuple(next(others) for _ in range(POINTS)), next(world)) for number in range(light)
    ]
    begin = -(-light // CHAPTER) * CHAPTER  # a chapter of its own
    return made + [
        Plan(begin + n, False, (next(of_the_child), next(of_the_child)), next(world)) for n in range(true)
    ]


def _dealt(rng: random.Random, cards: Sequence[str]) -> Iterator[str]:
    while True:
        deck = list(cards)
        rng.shuffle(deck)
        yield from deck


class Campaign:
    """Plays the rounds that are not yet written down.

    Args:
        results: JSON file, written anew after each round.
        page: the page for people, likewise.
    """

    def __init__(
        self, studio: LiveLabelStudio, results: Path, page: Path, *, seed: int, say: Any = print
    ) -> None:
        self.studio = studio
        self.results = results
        self.page = page
        self.seed = seed
        self.say = say
        self.rounds: dict[int, Mapping[str, Any]] = {}
        self.seconds = 0.0
        if results.is_file():
            self._go_on(json.loads(results.read_text(encoding="utf-8")))

    def _go_on(self, told: Mapping[str, Any]) -> None:
        if told["seed"] == self.seed:
            self.rounds = {one["number"]: one for one in told["rounds"]}

    def play(self, wanted: Sequence[Plan]) -> bool:
        """All of them; returns whether all went well."""
        left = [plan for plan in wanted if plan.number not in self.rounds]
        began, done = time.monotonic(), 0
        for chapter in sorted({plan.chapter for plan in left}):
            some = [plan for plan in left if plan.chapter == chapter]
            with _world(self.studio, self.seed * 1000 + chapter, light=some[0].light) as world:
                for plan in some:
                    record = self._round(world, plan)
                    if plan is some[-1]:
                        clean_up(world, record)
                    done += 1
                    self._note(record, (time.monotonic() - began) / done * (len(left) - done), len(wanted))
        return not any(one["found"]["problems"] for one in self.rounds.values())

    def _round(self, world: World, plan: Plan) -> Record:
        rng = random.Random(f"{self.seed}/{plan.number}")
        return Round(world, plan.number, plan.points, plan.broke, rng).play(random_kills=RANDOM_KILLS)

    def _note(self, record: Record, left_s: float, of: int) -> None:
        self.rounds[record.number] = record.to_json()
        self._write()
        problems = "; ".join(record.found.problems) or "well"
        kills = sum(one["kills"] for one in self.rounds.values())
        found = record.found
        self.say(
            f"round {len(self.rounds)}/{of}: {record.kills} kills ({kills} in all), {record.broke}, "
            f"healed in {found.healed_in_s:.0f} s, {found.annotations} annotations: {problems}; "
            f"about {left_s / 60:.0f} min left",
            flush=True,
        )

    def _write(self) -> None:
        told = {
            "seed": self.seed,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": _machine(),
            "rounds": [self.rounds[number] for number in sorted(self.rounds)],
        }
        self.results.parent.mkdir(parents=True, exist_ok=True)
        draft = self.results.with_suffix(".draft")
        draft.write_text(json.dumps(told, indent=1), encoding="utf-8")
        draft.replace(self.results)
        write_page(self.results, self.page)


def clean_up(world: World, record: Record) -> None:
    """What dead processes left goes by itself: make it look old, train once, fetch a picture, and see."""
    grow_old(world, OLD_S)
    world.worker.kill()
    world.until(world.answers, 60)

    def clean() -> bool:
        world.people._do(world.people.import_tasks)
        world.people._do(world.people.submit)
        world.train()
        return world.until(lambda: not list(unfinished(world)), 30)

    if not any(clean() for _ in range(4)):
        left = sorted(path.name for path in unfinished(world))
        record.found.problems.append(f"never removed: {left}")


class _world:  # noqa: N801 - used as a `with` function
    """A World in a folder of its own, which goes at its end unless something went wrong in it."""

    def __init__(self, studio: LiveLabelStudio, seed: int, *, light: bool) -> None:
        self._made = (studio, seed, light)

    def __enter__(self) -> World:
        studio, seed, light = self._made
        self._folder = Path(tempfile.mkdtemp(prefix="illume-faults-"))
        self.world = World(studio, self._folder, seed=seed, light=light)
        return self.world

    def __exit__(self, kind: object, *_: object) -> None:
        self.world.end()
        if kind is None:
            shutil.rmtree(self._folder)


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"
