"""illume sync."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option

if TYPE_CHECKING:
    from backend.reconcile import Round
    from backend.service import Service


@main.command()
@project_option
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--full", is_flag=True, help="Read every task again, not only those that changed.")
def sync(project_id: int | None, *, dry_run: bool, full: bool) -> None:
    """Ask Label Studio what changed and take it in, now.

    The worker does this every 45 seconds; webhooks mostly told before. --full also finds what Label Studio
    changes without noting when (Add Or Modify Data Field, Cache Labels). Exit code 1 when the numbers of
    tasks and annotations still differ afterwards.

    \b
    Examples:
      illume sync
      illume sync --project 12 --dry-run
      illume sync --project 12 --full
    """
    from backend.reconcile import Reconciler
    from illume_plugin.labelstudio import LabelStudio

    service = open_service()
    token = service.settings.token()
    label_studio = service.label_studio or LabelStudio(service.settings.label_studio_url, token)
    differ = False
    for number in _projects(service, project_id):
        done = Reconciler(service, label_studio, number, dry_run=dry_run).round(full=full)
        _tell(number, done, dry_run=dry_run)
        differ = differ or done.in_step is False
    service.close()
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")
    elif differ:
        sys.exit(1)


def _projects(service: Service, project_id: int | None) -> list[int]:
    """The project named, or all of them."""
    from illume_plugin.errors import NotFoundError
    from illume_plugin.store import projects

    with service.store.read() as conn:
        if project_id is not None:
            return [projects.get(conn, project_id).project_id]
        known = [one.project_id for one in projects.every(conn)]
    if not known:
        raise NotFoundError("No project is connected.", todo="Run: illume connect --project N")
    return known


def _tell(project_id: int, done: Round, *, dry_run: bool) -> None:
    what = f"would take in {done.found}" if dry_run and done.found.count else str(done.found)
    click.echo(f"project {project_id}: {what} ({done.requests} requests, {done.seconds:.1f} s)")
    if done.in_step is None:
        click.echo("  People are at work; what changed meanwhile comes with the next round.")
    elif not done.in_step and dry_run:
        click.echo("  The totals differ by more than this; without --dry-run it would look where.")
    elif not done.in_step:
        click.echo(
            "  The totals still differ from Label Studio's, though every task was read; its log may tell why."
        )
