"""illume backup, restore, copy-store."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backend.cli import main

if TYPE_CHECKING:
    from backend.backup.archive import Manifest

file_argument = click.argument("file", type=click.Path(path_type=Path))
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@main.command()
@file_argument
@click.option("--replace", is_flag=True, help="Take the place of FILE where it is there already.")
@dry_run_option
def backup(file: Path, *, replace: bool, dry_run: bool) -> None:
    """Write the SQLite database and the adapters into FILE, while everything goes on.

    FILE holds what people said in Label Studio: keep it where only those may read it who may read that. It
    holds no token and no secret; pictures, which Label Studio has, are left out.

    \b
    Examples:
      illume backup /backups/illume-monday.tar
      illume backup /backups/illume.tar --replace
    """
    from backend.backup.writing import back_up, check_target, sizes
    from backend.settings import load_settings

    settings = load_settings()
    total = sum(sizes(settings))
    if dry_run:
        check_target(settings, file, replace=replace)
        click.echo(f"{file} would hold about {_megabytes(total)} (--dry-run, nothing was written).")
        return
    # the database is read twice: copied as it is at one moment, then written into the file
    with click.progressbar(length=total + sizes(settings)[0], label="backing up") as bar:
        manifest = back_up(settings, file, bar.update, replace=replace)
    click.echo(f"{file} holds {_contents(manifest)}.")
    if manifest.versions_elsewhere:
        click.echo(f"Adapter versions are not in it: they are kept in {manifest.versions_elsewhere}.")


@main.command()
@file_argument
@click.option("--replace", is_flag=True, help="Move the state that is there aside.")
@dry_run_option
def restore(file: Path, *, replace: bool, dry_run: bool) -> None:
    """Bring back what `illume backup` wrote into FILE, after reading and checking all of it.

    Stop serve and worker first. Afterwards reconciliation brings in what people did since. In another data
    folder the secret is a new one: run `illume connect` for each project, or set ILLUME_SECRET.

    \b
    Examples:
      illume restore /backups/illume-monday.tar --dry-run
      illume restore /backups/illume-monday.tar --replace
    """
    from backend.backup import restoring
    from backend.settings import load_settings

    settings = load_settings()
    restoring.refuse_other_database(settings)
    restoring.refuse_state(settings.data_dir, replace=replace)
    length = file.stat().st_size if file.is_file() else 0
    if dry_run:
        with click.progressbar(length=length, label="reading") as bar:
            manifest = restoring.check(file, bar.update)
        click.echo(f"{file} is whole: {_contents(manifest)} (--dry-run, nothing was changed).")
        return
    with click.progressbar(length=length, label="restoring") as bar:
        found = restoring.restore(settings, file, bar.update, replace=replace)
    click.echo(f"{settings.data_dir} holds {_contents(found.manifest)} now.")
    if found.former:
        click.echo(f"What was there before is in {found.former}; remove it when you need it no more.")


@main.command("copy-store")
@click.option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help="Empty database to copy into: postgresql+psycopg://user@host/database.",
)
@dry_run_option
def copy_store(url: str, *, dry_run: bool) -> None:
    """Copy the database into another, empty one, in one transaction: from SQLite to PostgreSQL, or back.

    Stop serve and worker first. A password is better left out of the URL: PostgreSQL's own PGPASSWORD and
    ~/.pgpass work.

    \b
    Examples:
      illume copy-store --to postgresql+psycopg://illume@db.example.org/illume --dry-run
      illume copy-store --to postgresql+psycopg://illume@db.example.org/illume
    """
    from backend.data_folder import alone_with
    from backend.settings import load_settings
    from illume_plugin.store import Store
    from illume_plugin.store.copying import copy, counts, refuse_filled

    settings = load_settings()
    with (
        alone_with(settings.data_dir),
        closing(Store(settings.store_url)) as source,
        closing(Store(url)) as target,
    ):
        source.migrate()
        refuse_filled(target)
        total = sum(counts(source).values())
        shown = target.url.render_as_string()
        if dry_run:
            click.echo(f"{total} rows would go to {shown}, which is empty (--dry-run, nothing was copied).")
            return
        target.migrate()
        with click.progressbar(length=total, label="copying") as bar:
            copied = copy(source, target, bar.update)
        click.echo(f"{sum(copied.values())} rows of {len(copied)} tables are in {shown}.")
        click.echo("Set ILLUME_DATABASE_URL to it for every process, then start them.")


def _contents(manifest: Manifest) -> str:
    versions = f"{len(manifest.versions)} adapter versions"
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.created_at))
    return f"the database and {versions} of {moment}, {_megabytes(manifest.bytes)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
