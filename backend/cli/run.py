"""illume train, runs, cancel, versions, promote, rollback."""

from __future__ import annotations

import getpass
import sys
import time
from typing import TYPE_CHECKING

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project

if TYPE_CHECKING:
    from backend.service import Service
    from illume_plugin.types import Run

#: A queued run that nobody takes for so long most likely has no worker, seconds.
NO_WORKER_S = 15.0


@main.command()
@project_option
@click.option("--here", is_flag=True, help="Carry the run out in this process instead of in the worker.")
@click.option("--dry-run", is_flag=True, help="Only say what the run would learn from.")
def train(project_id: int | None, *, here: bool, dry_run: bool) -> None:
    """Start a training run and follow it to its end.

    \b
    Examples:
      illume train --project 12 --dry-run
      illume train --project 12
    """
    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        _tell_what(service, number)
        return
    run, new = service.request_training(number, trigger=f"{getpass.getuser()} (illume train)")
    click.echo(f"Run {run.run_id} {'is queued' if new else 'is live already; following it'}.")
    if here:
        from backend.retrain import Retrain

        ended = Retrain(service, owner=f"cli {run.run_id} {time.time()}").claim_and_run()
        run = ended or run
    else:
        run = _follow(service, run)
    _tell_end(run)


def _tell_what(service: Service, project_id: int) -> None:
    from backend.retrain import snapshot
    from illume_plugin.dataset import refuse

    service.apply_events()
    training_set = snapshot(service, project_id)
    judged = sum(bool(task.fits or task.unfits) for task in training_set.held_out)
    click.echo(
        f"{training_set.accepted} accepted rationales and "
        f"{len(training_set.rows) - training_set.accepted} answer-only rows to learn from; "
        f"{len(training_set.held_out)} held-out tasks, {judged} of them judged, to measure with."
    )
    refuse(training_set, minimum_accepted=service.settings.minimum_accepted)
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
    progress = run.progress
    line = f"run {run.run_id}: {run.state.value}"
    if progress.get("stage"):
        line += f", {progress['stage']}"
    if progress.get("steps"):
        line += f" {progress.get('step', 0)}/{progress['steps']}"
    if progress.get("loss") is not None:
        line += f", loss {progress['loss']:.3f}"
    if progress.get("eta_s") is not None:
        line += f", about {progress['eta_s']:.0f} s left"
    return line


def _tell_end(run: Run) -> None:
    from illume_plugin.types import RunState

    if run.state is RunState.PROMOTED:
        click.echo(f"Run {run.run_id}: {run.version} serves now.")
    elif run.state is RunState.HELD:
        click.echo(f"Run {run.run_id}: {run.version} was trained but not promoted; {run.parent} goes on.")
    for reason in run.report.get("reasons", []):
        click.echo(f"  {reason}")
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


@main.command()
@project_option
def versions(project_id: int | None) -> None:
    """List adapter versions: parent, data, figures, and which one serves.

    \b
    Example:
      illume versions --project 12
    """
    from illume_plugin.store import projects
    from illume_plugin.types import BASE_VERSION

    service = open_service()
    number = which_project(service, project_id)
    with service.store.read() as conn:
        active = projects.get(conn, number).active_version
    click.echo(f"{BASE_VERSION}{'  *serves*' if active == BASE_VERSION else ''}  base model without adapter")
    for meta in service.registry.versions(number):
        serving = "  *serves*" if meta.version == active else ""
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(meta.created_at))
        click.echo(
            f"{meta.version}{serving}  {made}  from {meta.parent}  gate: {meta.metrics.get('gate', '?')}  "
            f"data {meta.training_set[:12]}"
        )
        for name, metric in dict(meta.metrics.get("challenger", {})).items():
            interval = f"[{metric['low']:.3f}, {metric['high']:.3f}]"
            click.echo(f"       {name} {metric['value']:.3f} {interval} n={metric['n']}")


@main.command()
@click.argument("version")
@project_option
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def promote(version: str, project_id: int | None, *, dry_run: bool) -> None:
    """Let VERSION serve from now on, whatever the gate said.

    \b
    Example:
      illume promote v0003 --project 12
    """
    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        service.check_version(number, version)
        click.echo(f"{version} would serve project {number} (--dry-run, nothing was changed).")
        return
    before = service.switch(number, version, reason=f"promoted by {getpass.getuser()}")
    click.echo(f"{version} serves project {number} now (before: {before}).")


@main.command()
@project_option
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def rollback(project_id: int | None, *, dry_run: bool) -> None:
    """Go back to the version that served before.

    \b
    Example:
      illume rollback --project 12
    """
    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        active, previous = service.previous_version(number)
        click.echo(f"{previous} would serve project {number} again instead of {active} (--dry-run).")
        return
    active, previous = service.rollback(number, reason=f"rolled back by {getpass.getuser()}")
    click.echo(f"{previous} serves project {number} again (before: {active}).")
