"""illume connect."""

from __future__ import annotations

from pathlib import Path

import click

from backend.cli import main
from backend.cli.opening import open_service


@main.command()
@click.option(
    "--project", "project_id", type=click.IntRange(min=1), required=True, metavar="N", help="Project number."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option(
    "--label-config",
    metavar="NAME|FILE",
    help="Replace the labelling configuration: 'select', 'full', or an XML file of yours.",
)
def connect(project_id: int, *, dry_run: bool, label_config: str | None) -> None:
    """Connect a Label Studio project: backend, webhook with its secret, settings, tasks.

    Run it again at any time; it changes only what is not right yet.

    \b
    Examples:
      illume connect --project 12 --dry-run
      illume connect --project 12 --label-config select
      illume connect --project 12 --label-config full --dry-run
    """
    from backend.connect import Connector, check_reachable
    from illume_plugin.labelstudio import LabelStudio

    service = open_service()
    token = service.settings.token()
    label_studio = service.label_studio or LabelStudio(service.settings.label_studio_url, token)
    connector = Connector(service, label_studio, project_id)
    xml = _label_config(label_config) if label_config else None
    for change in connector.changes(label_config=xml):
        click.echo(("would " if dry_run else "") + change.text)
        if not dry_run:
            change.apply()
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")
        return
    check_reachable(label_studio, project_id, service.settings.backend_url)
    click.echo(f"Project {project_id} is connected. Candidates come while `illume worker` runs.")


def _label_config(name: str) -> str:
    import label_config as shipped
    from illume_plugin.errors import BadRequestError

    if name in shipped.NAMES:
        return shipped.read(name)
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f"{name!r} is neither 'select' nor 'full' nor an XML file that can be read ({error}).",
            todo="Give --label-config select, --label-config full, or the path of a file.",
        ) from error
