"""illume train, runs, cancel."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project
from illume_plugin.examples import ObjectiveName

if TYPE_CHECKING:
    from backend.service import Service
    from illume_plugin.training.config import TrainConfig
    from illume_plugin.types import Run

#: A queued run that nobody takes for so long most likely has no worker, seconds.
NO_WORKER_S = 15.0


class Assignment(click.ParamType[tuple[str, float]]):
    """`objective=weight`."""

    name = "name=weight"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Split and read it."""
        name, _, number = str(value).partition("=")
        try:
            return ObjectiveName(name.strip()).value, float(number)
        except ValueError:
            known = ", ".join(ObjectiveName)
            self.fail(f"{value!r} is not NAME=WEIGHT, such as dpo=1; names are {known}.", param, ctx)


@main.command()
@project_option
@click.option("--here", is_flag=True, help="Carry the run out in this process instead of in the worker.")
@click.option("--dry-run", is_flag=True, help="Only say what the run would learn from.")
@click.option(
    "--without-deleted",
    is_flag=True,
    help="Go on from the nearest version without deleted or changed annotations.",
)
@click.option(
    "--resume",
    "resumed",
    type=click.IntRange(min=1),
    metavar="RUN",
    help="Go on with this failed or cancelled run, from its last checkpoint where it has one.",
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    type=Assignment(),
    metavar="NAME=WEIGHT",
    help="Weight of an objective in this run: illume, dress, dpo, kto, contrast; may be given several times.",
)
def train(
    project_id: int | None,
    *,
    here: bool,
    dry_run: bool,
    without_deleted: bool,
    resumed: int | None,
    objectives: Sequence[tuple[str, float]],
) -> None:
    """Start a training run and follow it to its end.

    \b
    Examples:
      illume train --project 12 --dry-run
      illume train --project 12
      illume train --project 12 --without-deleted
      illume train --project 12 --here --objective dpo=1 --objective kto=0.5
      illume train --resume 7
    """
    from illume_plugin.store import runs as stored

    service = open_service()
    if resumed is not None:
        _refuse_more_than_resume(
            project_id, dry_run=dry_run, without_deleted=without_deleted or bool(objectives)
        )
        with service.store.write() as conn:
            run = stored.resume(conn, resumed)
        click.echo(f"Run {run.run_id} is queued again.")
        _tell_end(_carried_out(service, run) if here else _follow(service, run))
        return
    number = which_project(service, project_id)
    config = service.settings.train_config(dict(objectives))
    if objectives and not (here or dry_run):
        raise click.UsageError(
            "--objective is for --here and --dry-run; a worker takes [train.objectives] of illume.toml."
        )
    if dry_run:
        _tell_what(service, number, config, without_deleted=without_deleted)
        return
    run, new = service.request_training(
        number, trigger=f"{getpass.getuser()} (illume train)", without_deleted=without_deleted
    )
    _refuse_other_kind(run, without_deleted=without_deleted)
    click.echo(f"Run {run.run_id} {'is queued' if new else 'is live already; following it'}.")
    _tell_end(_carried_out(service, run, config) if here else _follow(service, run))


def _carried_out(service: Service, run: Run, config: TrainConfig | None = None) -> Run:
    from backend.retrain import Retrain

    return Retrain(service, owner=f"cli {run.run_id} {time.time()}", config=config).claim_and_run() or run


def _refuse_more_than_resume(project_id: int | None, *, dry_run: bool, without_deleted: bool) -> None:
    if project_id is not None or dry_run or without_deleted:
        raise click.UsageError(
            "--resume takes the run as it was begun; of the other options only --here fits."
        )


def _refuse_other_kind(run: Run, *, without_deleted: bool) -> None:
    """A live run answers for a new request, but not for one that wants what it does not do."""
    from illume_plugin.errors import ConflictError

    if without_deleted and not run.without_deleted:
        raise ConflictError(
            f"Run {run.run_id} is live already, and it goes on from {run.parent} whatever was deleted.",
            todo=f"Wait for its end, or end it with: illume cancel {run.run_id}",
        )


def _tell_what(service: Service, project_id: int, config: TrainConfig, *, without_deleted: bool) -> None:
    from backend.plan import estimate, sentences
    from backend.snapshot import refuse_unready, snapshot
    from backend.versions import clean_parent
    from illume_plugin.training.estimate import work_of

    service.apply_events()
    if without_deleted:
        click.echo(f"It would go on from {clean_parent(service, project_id)}.")
    training_set = snapshot(service, project_id, objectives=config.objectives)
    work = work_of(training_set, config)
    for sentence in sentences(training_set, work, config):
        click.echo(sentence)
    if work.steps:
        click.echo(estimate(service, work, config))
    refuse_unready(service, project_id, training_set, config.objectives)
    click.echo("Nothing was started (--dry-run).")


def _follow(service: Service, run: Run) -> Run:
    from illume_plugin.store import runs
    from illume_plugin.types import RunState

    shown, asked = "", time.monotonic()
    while run.state in (RunState.QUEUED, RunState.RUNNING):
        line = _progress_line(run)
        if line != shown:
            click.echo(line)
            shown = line
        if run.state is RunState.QUEUED and time.monotonic() - asked > NO_WORKER_S:
            click.echo("No worker has taken it yet. Start one with `illume worker`.", err=True)
            asked = time.monotonic()
        time.sleep(0.5)
        with service.store.read() as conn:
            run = runs.get(conn, run.run_id)
    return run


def _progress_line(run: Run) -> str:
    from backend.run_log import in_words

    return ", ".join(
        part for part in (f"run {run.run_id}: {run.state.value}", in_words(run.progress)) if part
    )


def _tell_end(run: Run) -> None:
    from illume_plugin.types import RunState

    if run.state is RunState.PROMOTED:
        click.echo(f"Run {run.run_id}: {run.version} serves now.")
    elif run.state is RunState.TRIAL:
        click.echo(f"Run {run.run_id}: {run.version} is on trial beside the version that serves.")
    elif run.state is RunState.HELD:
        click.echo(f"Run {run.run_id}: {run.version} was trained but not promoted; {run.parent} goes on.")
    for sentence in [*run.report.get("reasons", []), *run.report.get("notes", [])]:
        click.echo(f"  {sentence}")
    if run.state in (RunState.FAILED, RunState.CANCELLED):
        click.echo(f"Run {run.run_id} {run.state.value}: {run.error}", err=True)
        sys.exit(1)


@main.command()
@project_option
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many to show."
)
def runs(project_id: int | None, limit: int) -> None:
    """List training runs, newest first, with what became of them and why.

    \b
    Example:
      illume runs --project 12
    """
    from illume_plugin.store import runs as stored

    service = open_service()
    with service.store.read() as conn:
        found = stored.recent(conn, project_id, limit=limit)
    if not found:
        click.echo("No run yet. Start one with `illume train`.")
    for run in found:
        _show_run(run)


def _show_run(run: Run) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created_at))
    became = f"{run.parent} -> {run.version}" if run.version else f"from {run.parent}"
    head = f"{run.run_id:5d}  {when}  project {run.project_id}  {run.state.value:9s}  {became}"
    click.echo(f"{head}  by {run.trigger}")
    if run.state.value == "running":
        click.echo(f"       {_progress_line(run)}")
    for reason in [run.error, *run.report.get("reasons", [])]:
        if reason:
            click.echo(f"       {reason}")


@main.command()
@click.argument("run_id", type=click.IntRange(min=1))
def cancel(run_id: int) -> None:
    """Cancel a queued or running training run.

    \b
    Example:
      illume cancel 7
    """
    from illume_plugin.store import runs as stored

    service = open_service()
    with service.store.write() as conn:
        run = stored.request_cancel(conn, run_id, now=service.clock())
    click.echo(
        f"Run {run_id}: {'cancelled' if run.state.value == 'cancelled' else 'will stop within seconds'}."
    )
