"""One round: people work, processes die at named points and at random moments, and the world breaks."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from faults.checking import Findings, check
from faults.patience import rest
from faults.people import AtWork
from faults.programs import Program
from faults.relay import Mode
from faults.world import Watch, World

#: Points that the real training process alone comes to.
OF_THE_CHILD = (
    "checkpoint.before_rename", "checkpoint.after_rename", "child.adapter_saved", "child.result_written",
)  # fmt: skip
#: Points by the program that comes there.
OF_THE_BACKEND = ("intake.before_commit", "intake.after_commit", "run.queued")
OF_A_COMMAND = ("promote.before_commit", "promote.after_commit", "backup.before_name", "backup.after_name")
OF_THE_WORKER = (
    "fold.before_commit", "fold.after_commit", "picture.before_rename", "picture.after_rename",
    "candidates.before_commit", "candidates.after_commit", "push.before", "push.sent", "push.noted",
    "reconcile.before_commit", "reconcile.after_commit", "run.claimed", "run.snapshot_kept", "run.trained",
    "publish.before_rename", "publish.after_rename", "switch.before_commit", "switch.after_commit",
)  # fmt: skip
#: Points that are passed often: the process may die at a later visit.
OFTEN = ("intake", "fold", "picture", "candidates", "push")
WORLD = (
    "studio refuses", "studio stalls", "studio answers 500", "studio answers garbage", "disk full",
    "database locked", "webhooks dropped", "webhooks doubled", "webhooks late and in another order",
)  # fmt: skip
CANNOT_WRITE = ("disk full", "database locked")
RANDOM = ("backend", "worker", "both", "training child", "worker and its children")
#: Of these, what is started again at once, and may die again and again while it starts.
AGAIN = ("backend", "worker", "both")
#: How long a point is waited for, and how long something stays broken, seconds of running time.
REACHED_WITHIN_S, BROKEN_S, FELT_WITHIN_S = 60.0, 3.0, 8.0


@dataclass
class Record:
    """What was done in a round, and what was found.

    Attributes:
        points: point -> (kills, visits that never came).
        random: what was killed at a random moment -> how often.
        broke: what of the world broke.
        not_allowed: what this machine does not let us break.
        ended: processes that ended by themselves and were started again, with their exit status.
    """

    number: int
    light: bool
    points: dict[str, int] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    random: dict[str, int] = field(default_factory=Counter)
    broke: str = ""
    not_allowed: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    suffered: int = 0
    seconds: float = 0.0
    found: Findings = field(default_factory=Findings)

    @property
    def kills(self) -> int:
        return sum(self.points.values()) + sum(self.random.values())

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "found"}
        return {**plain, "kills": self.kills, "found": self.found.to_json()}


class Round:
    """Carries out one round.

    Args:
        points: those that are armed, one after the other.
        broke: what of the world breaks, of WORLD.
        rng: decides everything else.
    """

    def __init__(
        self, world: World, number: int, points: Sequence[str], broke: str, rng: random.Random
    ) -> None:
        self.world = world
        self.points = points
        self.rng = rng
        self.record = Record(number, world.light, broke=broke)

    def play(self, *, random_kills: int) -> Record:
        """All of it, and the look at what is left.

        Args:
            random_kills: besides those that make room for a process with a fault.
        """
        began = time.monotonic()
        world, record = self.world, self.record
        before = self._suffered()
        with Watch(world), AtWork(world.people, pause_s=0.8):
            with self._webhooks_suffer():
                for point in self.points:
                    self._at_point(point)
                    self._at_random(random_kills // len(self.points))
                self._at_random(random_kills % len(self.points))
            self._world_breaks()
        world.to_backend.deliver()
        record.suffered = self._suffered() - before
        record.found = check(world, interrupted=record.kills + record.suffered + 1)
        self._note_ended()
        record.seconds = round(time.monotonic() - began, 1)
        return record

    def _note_ended(self) -> None:
        """A process may refuse to start while it cannot write; otherwise it ends when it is told to."""
        for program in self.world.programs:
            ended = [f"{program.name}: {code}" for code in program.ended_by_itself]
            program.ended_by_itself.clear()
            self.record.ended += ended
            if ended and self.record.broke not in CANNOT_WRITE:
                self.record.found.problems.append(f"ended by itself: {ended}")

    # -- named points ----------------------------------------------------------------------------------

    def _at_point(self, point: str) -> None:
        visit = self.rng.choice([1, 1, 2, 3]) if point.split(".")[0] in OFTEN else 1
        fault = f"{point}:kill@{visit}"
        mark = self.world.marks / f"{self.record.number}-{point}-{self.rng.getrandbits(32):08x}"
        if point in OF_A_COMMAND:
            self._kill_command(point, fault, mark)
        else:
            self._kill_program(self._program_of(point), point, fault, mark)
        if mark.exists():
            self.record.points[point] += 1
        else:
            self.record.missed.append(fault)

    def _program_of(self, point: str) -> Program:
        return self.world.backend if point in OF_THE_BACKEND else self.world.worker

    def _kill_program(self, program: Program, point: str, fault: str, mark: Path) -> None:
        """Kill it as it is, start it with a fault, and give it reason to come to that point."""
        if program.kill():
            self.record.random[program.name] += 1
        program.start(fault=fault, mark=mark)
        provoke, again = self._provocation(point), 0.0
        if program is self.world.backend:
            self.world.until(self.world.answers, 60)

        def reached() -> bool:
            nonlocal again
            if mark.exists():
                return True
            if time.monotonic() > again:
                provoke()
                again = time.monotonic() + 6.0
            return False

        self.world.until(reached, REACHED_WITHIN_S if self.world.light else 3 * REACHED_WITHIN_S)
        if not mark.exists() and program.kill():  # it must not die of it later
            self.record.random[program.name] += 1
        self.world.until(lambda: program.running, 5)

    def _provocation(self, point: str) -> Callable[[], object]:
        people, kind = self.world.people, point.split(".")[0]
        if kind in ("run", "publish", "switch", "checkpoint", "child"):
            return self._ask_for_training
        if kind in ("picture", "candidates", "push"):
            return partial(people._do, people.import_tasks)
        return lambda: None

    def _ask_for_training(self) -> None:
        """As somebody who presses the button; nothing can be learnt before somebody has ticked something."""
        self.world.people._do(self.world.people.submit)
        self.world.train()

    def _kill_command(self, point: str, fault: str, mark: Path) -> None:
        """An `illume` command that dies, and that somebody gives once more."""
        backup = self.world.folder / f"backup-{self.record.number}.tar"
        words = ["backup", str(backup)] if point.startswith("backup") else self._promotion()
        if words is None:
            return
        self.world.command(*words, fault=fault, mark=mark)
        if point.startswith("backup"):
            words = [*words, "--replace"]
        if code := self.world.command(*words):
            self.record.found.problems.append(f"illume {words[0]} after a kill ended with {code}")
        backup.unlink(missing_ok=True)

    def _promotion(self) -> list[str] | None:
        metas = self.world.registry.versions(self.world.project_id)
        serves = self.world.ask_setup()
        others = [meta.version for meta in metas if meta.version != serves] or ["v0000"]
        return ["promote", self.rng.choice(others[-3:]), "--reason", "to see what happens"]

    # -- random moments --------------------------------------------------------------------------------

    def _at_random(self, times: int) -> None:
        for _ in range(times):
            self.world.until(lambda: False, self.rng.uniform(0.1, 2.5))
            what = self.rng.choice(RANDOM)
            self._kill(what)
            while what in AGAIN and self.rng.random() < 0.7:
                self.world.until(lambda: False, self.rng.uniform(0.1, 1.5))
                self._kill(what)

    def _kill(self, what: str) -> None:
        backend, worker = self.world.programs
        if what == "training child":
            killed = self._while_it_trains(worker.kill_child)
        elif what == "worker and its children":
            killed = self._while_it_trains(partial(worker.kill, tree=True))
        elif what == "both":
            killed = backend.kill() | worker.kill()
        else:
            killed = (backend if what == "backend" else worker).kill()
        if killed:
            self.record.random[what] += 2 if what == "both" else 1

    def _while_it_trains(self, kill: Callable[[], bool]) -> bool:
        """Ask for training, wait for its process, and let it come to a random moment."""
        from faults.programs import descendants

        worker, asked = self.world.worker, 0.0

        def trains() -> bool:
            nonlocal asked
            if time.monotonic() > asked and self.world.answers():
                self._ask_for_training()
                asked = time.monotonic() + 6.0
            return worker.running and next(descendants(worker.pid), None) is not None

        if not self.world.until(trains, 40):
            return False
        rest(self.rng.uniform(0.0, 1.5 if self.world.light else 12.0))
        return kill()

    # -- the world -------------------------------------------------------------------------------------

    @contextmanager
    def _webhooks_suffer(self) -> Iterator[None]:
        modes = {"webhooks dropped": Mode.DROP, "webhooks doubled": Mode.DOUBLE}
        modes |= {"webhooks late and in another order": Mode.LATE}
        mode = modes.get(self.record.broke)
        with self.world.relayed(self.world.to_backend, mode) if mode else nullcontext():
            yield

    def _world_breaks(self) -> None:
        """For some seconds, in which something dies, too."""
        broken = self._breaking()
        if broken is None:
            return
        before = self._suffered()
        with broken:
            self.world.until(lambda: False, self.rng.uniform(0.5, BROKEN_S))
            self._kill(self.rng.choice(("backend", "worker")))
            # long enough for what has been started again to feel it
            self.world.until(lambda: self._suffered() > before, FELT_WITHIN_S)
            self.world.until(lambda: False, BROKEN_S)

    def _breaking(self) -> AbstractContextManager[None] | None:
        world, what = self.world, self.record.broke
        modes = {
            "studio refuses": Mode.REFUSE,
            "studio stalls": Mode.STALL,
            "studio answers 500": Mode.FAIL,
            "studio answers garbage": Mode.GARBAGE,
        }
        if what in modes:
            return world.relayed(world.to_studio, modes[what])
        if what == "database locked":
            return world.database_locked()
        if what == "disk full" and world.has_own_room:
            return world.disk_full()
        if what == "disk full":
            self.record.not_allowed.append(what)
        return None

    def _suffered(self) -> int:
        return sum((self.world.to_studio.suffered + self.world.to_backend.suffered).values())
