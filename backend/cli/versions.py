"""illume versions, promote, rollback, retire, gc, lineage."""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project

if TYPE_CHECKING:
    from backend.service import Service
    from backend.versions import Origin, Standing

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would change.")


@main.command()
@project_option
@json_option
def versions(project_id: int | None, *, as_json: bool) -> None:
    """List adapter versions: state, parent, data, figures, and what became of the data.

    \b
    Examples:
      illume versions --project 12
      illume versions --project 12 --json
    """
    from backend.versions import standings
    from illume_plugin.store import projects
    from illume_plugin.types import BASE_VERSION

    service = open_service()
    number = which_project(service, project_id)
    service.apply_events()
    found = standings(service, number)
    with service.store.read() as conn:
        active = projects.get(conn, number).active_version
    if as_json:
        _write_json({"project": number, "active": active, "versions": [_standing(one) for one in found]})
        return
    click.echo(f"{BASE_VERSION}{'  *serves*' if active == BASE_VERSION else ''}  base model without adapter")
    for one in found:
        _show(one)


def _standing(one: Standing) -> dict[str, Any]:
    return {**asdict(one), "gate": one.gate, "version": one.version}


def _show(one: Standing) -> None:
    meta = one.meta
    state = {"serves": "  *serves*", "ready": ""}.get(one.state.value, f"  {one.state.value}")
    click.echo(
        f"{meta.version}{state}  {_moment(meta.created_at)}  from {meta.parent}  gate: {one.gate or '?'}  "
        f"data {meta.training_set[:12]}"
    )
    for name, metric in dict(meta.metrics.get("challenger", {})).items():
        interval = f"[{metric['low']:.3f}, {metric['high']:.3f}]"
        click.echo(f"       {name} {metric['value']:.3f} {interval} n={metric['n']}")
    for switch in one.switches:
        by = f" by {switch.who}" if switch.who else ""
        click.echo(f"       served from {_moment(switch.switched_at)}{by}: {switch.reason}")
    if one.retirement:
        click.echo(f"       retired by {one.retirement.who or '?'}: {one.retirement.reason}")
    if one.departed:
        click.echo(
            f"       learnt from {_gone(one)}; a successor without them: illume train --without-deleted"
        )


def _gone(one: Standing) -> str:
    kinds = [change.value for change in one.departed.values()]
    counts = [f"{kinds.count(kind)} annotations that were {kind}" for kind in sorted(set(kinds))]
    return " and ".join(counts)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _write_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


@main.command()
@click.argument("version")
@project_option
@click.option("--reason", default="", metavar="TEXT", help="Why; asked for where the gate said hold.")
@dry_run_option
def promote(version: str, project_id: int | None, *, reason: str, dry_run: bool) -> None:
    """Let VERSION serve from now on; against the gate only with a reason, which is kept.

    \b
    Examples:
      illume promote v0003 --project 12
      illume promote v0004 --project 12 --reason "short answers are what the customer wants"
    """
    from backend.versions import promote as let_serve
    from backend.versions import refuse_without_reason

    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        refuse_without_reason(service, number, version, reason)
        click.echo(f"{version} would serve project {number} (--dry-run, nothing was changed).")
        return
    before = let_serve(service, number, version, who=getpass.getuser(), reason=reason)
    click.echo(f"{version} serves project {number} now (before: {before}).")


@main.command()
@project_option
@click.option("--reason", default="rolled back", metavar="TEXT", help="Why; kept with the switch.")
@dry_run_option
def rollback(project_id: int | None, *, reason: str, dry_run: bool) -> None:
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
    active, previous = service.rollback(number, reason=reason, who=getpass.getuser())
    click.echo(f"{previous} serves project {number} again (before: {active}).")


@main.command()
@click.argument("version")
@project_option
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with it.")
@click.option("--undo", is_flag=True, help="Let a retired version serve again.")
def retire(version: str, project_id: int | None, *, reason: str, undo: bool) -> None:
    """Take VERSION out of service: it cannot be promoted, rollback passes it over, gc removes it.

    \b
    Examples:
      illume retire v0002 --project 12 --reason "trained on the wrong folder"
      illume retire v0002 --project 12 --undo
    """
    from backend.versions import reinstate
    from backend.versions import retire as take_out

    service = open_service()
    number = which_project(service, project_id)
    if undo:
        reinstate(service, number, version)
        click.echo(f"{version} of project {number} may serve again.")
        return
    take_out(service, number, version, who=getpass.getuser(), reason=reason or "no reason given")
    click.echo(f"{version} of project {number} is retired.")


@main.command()
@project_option
@click.option(
    "--keep", default=5, show_default=True, type=click.IntRange(min=1), help="How many of the newest stay."
)
@dry_run_option
def gc(project_id: int | None, *, keep: int, dry_run: bool) -> None:
    """Remove the weights of versions that nobody needs: retired ones, and all but the newest.

    The version that serves, the one a rollback goes back to and the parent of a run in progress always stay.
    What is removed keeps its meta.json, so the lineage of later versions stays whole.

    \b
    Examples:
      illume gc --project 12 --keep 5 --dry-run
      illume gc --project 12 --keep 5
    """
    from backend.versions import collect, collectable

    service = open_service()
    number = which_project(service, project_id)
    if dry_run:
        listed = ", ".join(collectable(service, number, keep=keep)) or "nothing"
        click.echo(f"Would remove the weights of: {listed} (--dry-run).")
        return
    listed = ", ".join(collect(service, number, keep=keep, who=getpass.getuser())) or "nothing"
    click.echo(f"Removed the weights of: {listed}.")


@main.command()
@click.argument("version", required=False)
@project_option
@click.option("--annotation", type=click.IntRange(min=1), metavar="N", help="What learnt from annotation N?")
@json_option
def lineage(version: str | None, project_id: int | None, annotation: int | None, *, as_json: bool) -> None:
    """Say what VERSION learnt from and from whom, or which versions learnt from an annotation.

    An adapter goes on from its parent, so what its ancestors learnt from counts too.

    \b
    Examples:
      illume lineage v0007 --project 12
      illume lineage --annotation 123 --project 12
    """
    from illume_plugin.errors import BadRequestError

    if (version is None) == (annotation is None):
        raise BadRequestError(
            "Give either a version or --annotation.",
            todo="illume lineage v0007, illume lineage --annotation 123",
        )
    service = open_service()
    number = which_project(service, project_id)
    service.apply_events()
    if annotation is not None:
        _tell_of_annotation(service, number, annotation, as_json=as_json)
    elif version is not None:
        _tell_of_version(service, number, version, as_json=as_json)


def _tell_of_version(service: Service, number: int, version: str, *, as_json: bool) -> None:
    from backend.versions import line_of, standings

    line = line_of(service, number, version)
    (standing,) = (one for one in standings(service, number) if one.version == version)
    if as_json:
        listed = [{**asdict(one), "version": one.meta.version} for one in line]
        _write_json({"project": number, "version": version, "line": listed, "departed": standing.departed})
        return
    for one in line:
        _show_origin(one)
    click.echo("v0000  base model")
    for annotation_id, change in standing.departed.items():
        click.echo(f"annotation {annotation_id} was {change.value} since it was learnt from")


def _show_origin(one: Origin) -> None:
    from illume_plugin.lineage import people

    learnt = [source for source in one.sources if not source.held_out]
    click.echo(f"{one.meta.version}  run {one.run_id or '?'}  training set {one.meta.training_set[:12]}")
    if not one.sources:
        click.echo("       its annotations are not known: it was made before they were kept")
        return
    tasks = len({source.task_id for source in learnt})
    click.echo(
        f"       learnt from {len(learnt)} annotations of {tasks} tasks; "
        f"measured with {len(one.sources) - len(learnt)} more"
    )
    for person, count in people(one.sources).items():
        click.echo(f"       {_person(person)}: {count}")


def _person(annotator: int | None) -> str:
    return "a person whose number is not known" if annotator is None else f"person {annotator}"


def _tell_of_annotation(service: Service, number: int, annotation: int, *, as_json: bool) -> None:
    from backend.versions import standings, versions_with

    direct = versions_with(service, number, annotation)
    parents = {one.version: one.meta.parent for one in standings(service, number)}
    told = {version: _part(version, direct, parents) for version in parents}
    told = {version: part for version, part in told.items() if part}
    if as_json:
        _write_json({"project": number, "annotation": annotation, "versions": told})
        return
    if not told:
        click.echo(f"No version of project {number} learnt from annotation {annotation}.")
    for version, part in told.items():
        click.echo(f"{version}  {part}")


def _part(version: str, direct: dict[str, Any], parents: dict[str, str]) -> str:
    """What part an annotation has in a version, in words; empty for none."""
    from illume_plugin.lineage import ancestry

    line = ancestry(version, parents)
    through = next((one for one in line if one in direct and not direct[one].held_out), None)
    if through == version:
        return "learnt from it"
    if through:
        return f"goes back to {through}, which learnt from it"
    return "was measured with it" if version in direct else ""
