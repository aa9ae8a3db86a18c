"""The simulated loop: sample, tick, train, measure, and again. Killed at any time, it goes on where it was.

An iteration is finished when its file is written. Within one, the store says what is done: candidate sets
and annotations keep their first state when they come again, and a training run is found by its trigger.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import label_config
from backend.service import Service
from backend.simulate.labelling import Labelling, Tally
from backend.simulate.measuring import HeldOut
from backend.simulate.options import Options, freeze, frozen
from backend.simulate.progress import Say, duration
from backend.simulate.record import Iteration, Measurement, iteration_path, read_iteration
from backend.simulate.report import on_trial, write_results
from backend.simulate.training import Training
from backend.simulate.world import DrawnPictures, labelled_tasks, unjudged_tasks
from backend.snapshot import snapshot
from backend.trials import Standing, review, standing
from illume_plugin.annotators import team
from illume_plugin.embedded import WorldTask
from illume_plugin.errors import ConflictError
from illume_plugin.store import projects
from illume_plugin.training.spec import write_json
from illume_plugin.types import BASE_VERSION, Json, Project, RunState


class Labels(Protocol):
    """What an iteration needs of a round of labelling."""

    def label(self, name: str, tasks: Mapping[int, WorldTask]) -> float:
        """Let every annotator submit every task; returns the seconds it took."""

    def tally(self, tasks: Mapping[int, WorldTask]) -> Tally:
        """What was said in the round."""


class Simulation:
    """One simulation in one folder.

    Args:
        out: its folder; made when missing, gone on with when it holds a part of the same simulation.
        say: told progress, a line at a time.
    """

    def __init__(self, options: Options, out: Path, *, say: Say) -> None:
        self.options = options
        self.out = out
        self.say = say
        #: the seed also numbers the project, so that draws of different seeds differ
        self.project_id = options.seed + 1
        self.settings = options.settings(out)
        self.pictures = DrawnPictures(out / "pictures")
        self.held_out = HeldOut(options, self.pictures, self.settings.max_new_tokens, say)
        self.annotators = team(
            options.annotators, options.critic, options.strictness, noise=options.noise, seed=options.seed
        )

    def run(self) -> list[Iteration]:
        """Do what is not done yet; returns every iteration, the base model's figures first.

        Raises:
            ConflictError: the folder belongs to a simulation with other options, or one is going on there.
            RunError: a training run failed; the same call tries it again.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with self.alone():
            wanted = self.frozen()
            freeze(self.out, wanted)
            (self.out / "iterations").mkdir(exist_ok=True)
            with self.service() as service:
                done = []
                for iteration in self._iterations(service):
                    done.append(iteration)
                    write_results(self.out, wanted, done)
        return done

    def frozen(self) -> dict[str, Json]:
        """Everything that must stay the same for the folder's figures to belong together."""
        return frozen(self.options, self.settings)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder: two processes in it would each undo the other's runs.

        Raises:
            ConflictError: another one holds it.
        """
        with (self.out / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConflictError(
                    f"A simulation is going on in {self.out}.", todo="Wait for it, or give another --out."
                ) from error
            yield

    @contextmanager
    def service(self) -> Iterator[Service]:
        """A backend of its own in the folder, with the project connected and pictures drawn, not fetched."""
        service = Service(self.settings)
        service.images.close()
        service.images = service.sampler.images = self.pictures
        try:
            title, config = f"simulation, seed {self.options.seed}", label_config.read("select")
            with service.store.write() as conn:
                projects.put(conn, self.project_id, title=title, label_config=config, now=service.clock())
            yield service
        finally:
            service.close()

    def labelling(self, service: Service) -> Labels:
        """Who brings tasks in and has them annotated."""
        return Labelling(service, self.pictures, self.project_id, self.annotators, self.say)

    def _iterations(self, service: Service) -> Iterator[Iteration]:
        began, fresh = time.monotonic(), 0
        before: Iteration | None = None
        for number in range(self.options.iterations + 1):
            known = read_iteration(self.out, number)
            if known is None:
                known = self._next(service, number, before) if before else self._base(service)
                write_json(iteration_path(self.out, number), asdict(known))
                fresh += 1
                each = (time.monotonic() - began) / fresh
                self.say(_line(known, each * (self.options.iterations - number)))
            yield known
            if known.ended:
                self.say(known.ended)
                return
            before = known

    def _base(self, service: Service) -> Iteration:
        measured, seconds = self._measured(service, BASE_VERSION, "base model: measuring")
        return Iteration(0, BASE_VERSION, measured, seconds={"measuring": seconds})

    def _next(self, service: Service, number: int, before: Iteration) -> Iteration:
        name, options = f"iteration {number}/{self.options.iterations}:", self.options
        labelling = self.labelling(service)
        training = Training(service, self.project_id, options.train_config(), self.say)
        tasks = labelled_tasks(options.seed, tasks=options.tasks, iteration=number, world=options.world)
        seconds: dict[str, float] = {}
        begun = training.run_of(number) is not None
        if not begun:
            seconds["labelling"] = labelling.label(name, tasks)
            self._leave_unjudged(service)
        said, accepted = labelling.tally(tasks), snapshot(service, self.project_id).accepted
        trial = self._people_decide(service, before)
        labelled = replace(
            before,
            number=number,
            tasks=len(tasks),
            sampled=said.sampled,
            shown=said.shown,
            ticked=said.ticked,
            accepted=accepted,
            delivery=said.delivery,
            trial=_told(trial) if trial else {},
            run={},
            seconds=seconds,
        )
        if trial and trial.trial.end is None:
            return labelled  # as outside a simulation, no run is due until people have decided
        if said.ticked and accepted:
            run, seconds["training"] = training.train(f"{name} run:", number)
            told = {"state": run.state.value, "version": run.version, **run.report}
            return self._with_figures(service, replace(labelled, run=told), f"{name} measuring")
        ended = replace(labelled, ended=no_signal(self._project(service).active_version, said))
        return self._with_figures(service, ended, f"{name} measuring")

    def _leave_unjudged(self, service: Service) -> None:
        """Candidates of the version that serves, for the tasks that nobody opens."""
        tasks = unjudged_tasks(self.options.seed, self.options.unjudged, world=self.options.world)
        if tasks:
            Labelling(service, self.pictures, self.project_id, self.annotators, self.say).leave(tasks)

    def _people_decide(self, service: Service, before: Iteration) -> Standing | None:
        """The trial that was open after the iteration before, ended where this round's ticks decide it."""
        if before.run.get("state") == RunState.TRIAL:
            challenger = before.run["version"]
        elif before.trial.get("end") == "":
            challenger = before.trial["challenger"]
        else:
            return None
        review(service, self._project(service))
        return standing(service, self.project_id, challenger=challenger)

    def _with_figures(self, service: Service, done: Iteration, name: str) -> Iteration:
        """The iteration with what serves after it; a version that serves on has the same figures again."""
        serves = self._project(service).active_version
        if serves == done.serves:
            return done
        measured, taken = self._measured(service, serves, name)
        return replace(done, serves=serves, measured=measured, seconds={**done.seconds, "measuring": taken})

    def _project(self, service: Service) -> Project:
        with service.store.read() as conn:
            return projects.get(conn, self.project_id)

    def _measured(self, service: Service, version: str, name: str) -> tuple[Measurement, float]:
        generator = service.engine.generator()
        with service.engine.adapters.using(self.project_id, version) as adapter:
            return self.held_out.measure(generator, adapter, version=version, name=name)


def no_signal(version: str, said: Tally) -> str:
    """Why the loop ends where nothing was ticked that a run could learn from, and what to do then."""
    who = "the base model" if version == BASE_VERSION else f"adapter {version}"
    ticks = (
        f"the {said.ticked} ticks on {said.sampled} tasks were outvoted or fell on tasks kept for evaluation"
        if said.ticked
        else f"nobody ticked anything that {who} wrote for {said.sampled} tasks"
    )
    return (
        f"no fitting candidates: {ticks}. There is nothing to learn from, so no run was started and {who} "
        "serves on. The loop strengthens what a model can say already: draw more candidates (--samples, "
        "--temperatures), take a base model that knows what is asked for (ILLUME_BASE_MODEL), or let people "
        "write rationales of their own"
    )


def _told(found: Standing) -> dict[str, Json]:
    trial, figures = found.trial, found.figures
    return {
        "active": trial.active,
        "challenger": trial.challenger,
        "end": trial.end.value if trial.end else "",
        "reason": trial.reason,
        "tasks": figures.tasks,
        "difference": figures.difference,
        "low": figures.low,
        "high": figures.high,
        "level": figures.level,
    }


def _line(done: Iteration, left: float) -> str:
    what = f"iteration {done.number}: {done.serves} serves" if done.number else "base model"
    ticked = f"{done.ticked} of {done.shown} ticked, " if done.number else ""
    figures = (
        f"fit rate {done.measured.fit_rate.value:.1%}, answers {done.measured.answer_accuracy.value:.1%}"
    )
    trial = f"; {on_trial(done.trial)}" if done.trial else ""
    if done.run.get("state") == RunState.TRIAL:
        trial += f"; {done.run['version']} goes on trial"
    rest = "" if done.ended or left <= 0 else f"; about {duration(left)} left"
    return f"{what}: {ticked}{figures}{trial}{rest}"
