"""illume trial show, start, stop."""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project

if TYPE_CHECKING:
    from backend.trials import Standing
    from illume_plugin.types import Metric

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would change.")


@main.group()
def trial() -> None:
    """Let people decide between two versions, without their knowing whose candidates they tick.

    While a trial is open, tasks that nobody has judged show candidates of the version that serves and of
    its challenger, equally many. It ends by itself as soon as the ticks decide it (docs/evidence.md).

    \b
    Examples:
      illume trial start v0004 --project 12
      illume trial show --project 12
    """


@trial.command()
@project_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def show(project_id: int | None, *, as_json: bool) -> None:
    """Show the trial that goes on, or the last one: tick rates, their difference, what is still expected.

    \b
    Examples:
      illume trial show --project 12
      illume trial show --project 12 --json
    """
    from backend.trials import standing

    service = open_service()
    number = which_project(service, project_id)
    service.apply_events()
    found = standing(service, number)
    if as_json:
        told = asdict(found) if found else None
        click.echo(json.dumps({"project": number, "trial": told}, indent=1, ensure_ascii=False))
    elif found is None:
        click.echo(f"Project {number} has had no trial.")
    else:
        _tell(found)


def _tell(found: Standing) -> None:
    trial, figures = found.trial, found.figures
    click.echo(
        f"trial {trial.trial_id}: {trial.challenger} beside {trial.active}, begun "
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(trial.started_at))} by {trial.started_by}"
    )
    for version, rate in ((trial.active, figures.active), (trial.challenger, figures.challenger)):
        click.echo(f"  {version}  tick rate {_rate(rate)}")
    click.echo(
        f"  difference of a task {figures.difference:+.3f} [{figures.low:+.3f}, {figures.high:+.3f}] "
        f"({figures.level:.0%} interval at all times) on {figures.tasks} tasks"
    )
    if trial.end is not None:
        click.echo(f"  ended by {trial.ended_by}: {trial.end.value}: {trial.reason}")
    elif figures.expected is None:
        click.echo(f"  it ends after {trial.limits.most_tasks} tasks at the latest; too early to say more")
    else:
        click.echo(f"  about {figures.expected} tasks more, if they are like these")


def _rate(rate: Metric | None) -> str:
    return "-" if rate is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}] n={rate.n}"


@trial.command()
@click.argument("version")
@project_option
@dry_run_option
def start(version: str, project_id: int | None, *, dry_run: bool) -> None:
    """Put VERSION on trial beside the one that serves.

    \b
    Examples:
      illume trial start v0004 --project 12 --dry-run
      illume trial start v0004 --project 12
    """
    from backend.presample import waiting
    from backend.trials import begin, refuse

    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        project = refuse(service, number, version)
        tasks = len(waiting(service, replace(project, challenger=version)))
        click.echo(
            f"{version} would be on trial beside {project.active_version}; {tasks} tasks that nobody has "
            "judged would get candidates of both (--dry-run, nothing was changed)."
        )
        return
    begun = begin(service, number, version, who=getpass.getuser())
    click.echo(f"Trial {begun.trial_id}: {version} is on trial beside {begun.active} in project {number}.")


@trial.command()
@project_option
@click.option("--reason", default="no reason given", metavar="TEXT", help="Why; kept with the trial.")
@dry_run_option
def stop(project_id: int | None, *, reason: str, dry_run: bool) -> None:
    """End the trial without a verdict; the version that serves goes on alone.

    \b
    Example:
      illume trial stop --project 12 --reason "the guidelines have changed"
    """
    from backend.trials import must_be_open
    from backend.trials import stop as end

    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        found = must_be_open(service, number)
        click.echo(f"The trial of {found.challenger} beside {found.active} would end (--dry-run).")
        return
    ended = end(service, number, who=getpass.getuser(), reason=reason)
    click.echo(f"The trial of {ended.challenger} is over; {ended.active} goes on alone.")
