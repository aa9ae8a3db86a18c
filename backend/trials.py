"""Trials of a project: begun by a run or a person, decided by what people tick, ended in one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import Connection

from backend.service import Service
from illume_plugin import trials as pure
from illume_plugin.errors import BadRequestError, ModelError, NotFoundError
from illume_plugin.gate_policy import BlindPolicy
from illume_plugin.label_config import parse_label_config
from illume_plugin.sequential import Outcome
from illume_plugin.store import projects, trials, versions
from illume_plugin.trials import Figures, Trial, TrialEnd
from illume_plugin.types import BASE_VERSION, GateDecision, GateVerdict, Project, Run, RunState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """A trial, open or over, in numbers."""

    trial: Trial
    figures: Figures


def standing(service: Service, project_id: int, *, challenger: str | None = None) -> Standing | None:
    """The trial that began last, with its figures of now or, where it is over, of its end.

    Args:
        challenger: look only at trials of this version.

    Raises:
        NotFoundError: the project is not connected.
    """
    with service.store.read() as conn:
        projects.get(conn, project_id)
        trial = trials.newest(conn, project_id, challenger=challenger)
        if trial is None:
            return None
        if trial.end is not None:
            return Standing(trial, pure.read_figures(trial.report))
        return Standing(trial, pure.figures(trials.judged(conn, trial), trial.limits))


def begin(service: Service, project_id: int, challenger: str, *, who: str) -> Trial:
    """Put a version on trial beside the one that serves.

    Raises:
        BadRequestError, ConflictError, NotFoundError, ModelError, SettingsError: see `refuse`.
    """
    service.apply_events()
    refuse(service, project_id, challenger)
    limits = service.settings.gate_limits().blind.limits
    with service.store.write() as conn:
        return trials.start(conn, project_id, challenger, limits=limits, who=who, now=service.clock())


def refuse(service: Service, project_id: int, challenger: str) -> Project:
    """Say no to a trial that cannot be; returns the project where it can.

    Raises:
        BadRequestError: the version serves already, or a task shows one row.
        ConflictError: another trial is open, or the version is retired.
        NotFoundError: there is no such project or version.
        ModelError: the version's files are damaged.
        SettingsError: the gate policy is wrong.
    """
    service.settings.gate_limits()
    with service.store.read() as conn:
        project = projects.get(conn, project_id)
        trials.refuse_open(conn, project_id)
    trials.refuse_active(project_id, challenger, project.active_version)
    service.check_version(project_id, challenger)
    refuse_single_row(service, project_id)
    return project


def refuse_single_row(service: Service, project_id: int) -> None:
    """Say no where a task shows a single candidate: two adapters cannot share it.

    Raises:
        BadRequestError: it does.
        NotFoundError: the project is not connected.
    """
    with service.store.read() as conn:
        project = projects.get(conn, project_id)
    question, answer = service.keys
    config = parse_label_config(project.label_config, question_key=question, answer_key=answer)
    if min(service.plan.limit, config.slots) < 2:
        raise BadRequestError(
            "A task shows one candidate.",
            why="A trial compares two adapters on every task, so it takes two rows.",
            todo="Raise ILLUME_CANDIDATES, or switch the blind gate off ([blind] of the gate policy).",
        )


def let_in(
    conn: Connection, run: Run, version: str, decision: GateDecision, policy: BlindPolicy, *, now: float
) -> tuple[RunState, list[str]]:
    """Let a run's version serve, put it on trial, or neither, as gate and policy say.

    Returns:
        The state in which the run ends, and what is to be told beside the gate's reasons.
    """
    who = f"run {run.run_id}"
    if not policy.tries(decision):
        if decision.verdict is not GateVerdict.PROMOTE:
            return RunState.HELD, []
        versions.switch(conn, run.project_id, version, reason="the gate", who=who, now=now)
        return RunState.PROMOTED, []
    going_on = trials.open_trial(conn, run.project_id)
    if going_on is not None:
        told = f"{going_on.challenger} is on trial; {version} waits until that is decided"
        return RunState.HELD, [f"{told}. Then: illume trial start {version}"]
    begun = trials.start(conn, run.project_id, version, limits=policy.limits, who=who, now=now)
    return RunState.TRIAL, [f"{version} is on trial: people decide between it and {begun.active}."]


def must_be_open(service: Service, project_id: int) -> Trial:
    """The trial that goes on.

    Raises:
        NotFoundError: none is open.
    """
    with service.store.read() as conn:
        return _must_be_open(conn, project_id)


def _must_be_open(conn: Connection, project_id: int) -> Trial:
    found = trials.open_trial(conn, project_id)
    if found is None:
        raise NotFoundError(f"No trial is open in project {project_id}.")
    return found


def stop(service: Service, project_id: int, *, who: str, reason: str) -> Trial:
    """End the open trial without a verdict; the active version goes on alone.

    Raises:
        NotFoundError: none is open.
    """
    service.apply_events()
    with service.store.write() as conn:
        trial = _must_be_open(conn, project_id)
        trials.end(conn, trial, TrialEnd.STOPPED, who=who, reason=reason, now=service.clock())
        ended = trials.get(conn, trial.trial_id)
    log.info("project %d: trial %d is stopped: %s", project_id, trial.trial_id, reason)
    return ended


def review(service: Service, project: Project) -> Trial | None:
    """Look at what people ticked, and end the trial if that decides it; returns the trial if it ended.

    Better: the challenger serves from now on. Worse: it is retired. Undecided after as many tasks as the
    policy allows: it stays as it is, and the active version goes on.
    """
    if project.challenger is None:
        return None
    with service.store.read() as conn:
        trial = trials.open_trial(conn, project.project_id)
        outcome = _outcome(conn, trial) if trial else Outcome.OPEN
    if trial is None or outcome is Outcome.OPEN:
        return None
    if outcome is Outcome.BETTER and stop_if_broken(service, project):
        return _ended(service, trial)
    with service.store.write() as conn:
        _conclude(conn, trial, service.clock())
    return _ended(service, trial)


def _outcome(conn: Connection, trial: Trial) -> Outcome:
    return pure.verdict(trials.judged(conn, trial), trial.limits).outcome


def _conclude(conn: Connection, trial: Trial, now: float) -> None:
    """End a trial as what was ticked says at this moment; nothing where that does not decide it any more."""
    found = pure.figures(trials.judged(conn, trial), trial.limits)
    if found.outcome is Outcome.OPEN:
        return
    who, told = f"trial {trial.trial_id}", pure.in_words(found)
    if not trials.end(conn, trial, TrialEnd(found.outcome.value), who=who, reason=f"{told}.", now=now):
        return
    where = (conn, trial.project_id, trial.challenger)
    if found.outcome is Outcome.BETTER:
        versions.switch(*where, reason=told, who=who, now=now)
    elif found.outcome is Outcome.WORSE and trial.challenger != BASE_VERSION:
        versions.retire(*where, reason=told, who=who, now=now)


def _ended(service: Service, trial: Trial) -> Trial | None:
    """The trial as it ended; None where it goes on."""
    with service.store.read() as conn:
        found = trials.get(conn, trial.trial_id)
    if found.end is None:
        return None
    log.info("project %d: trial %d ended: %s: %s", found.project_id, found.trial_id, found.end, found.reason)
    return found


def stop_if_broken(service: Service, project: Project) -> bool:
    """End the trial if its challenger cannot be loaded, so that the active version is sampled on alone."""
    if project.challenger is None:
        return False
    try:
        with service.engine.adapters.using(project.project_id, project.challenger):
            return False
    except (ModelError, NotFoundError) as error:
        reason = f"{project.challenger} cannot be loaded: {error.what}"
    with service.store.write() as conn:
        ended = trials.stop(conn, project.project_id, who="worker", reason=reason, now=service.clock())
    log.error("project %d: %s", project.project_id, reason)
    return ended is not None
