"""illume doctor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from backend.cli import main
from backend.cli.opening import project_option
from backend.cli.printing import plain

if TYPE_CHECKING:
    from backend.doctor import Check, Outcome

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}
#: Where what a finding is about is told, below its first line.
_INDENT = " " * 9


@main.command()
@project_option
@click.option("--skip-model", is_flag=True, help="Do not load the base model: a large one takes minutes.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def doctor(project_id: int | None, *, skip_model: bool, as_json: bool) -> None:
    """Say what is wrong between Label Studio and this backend, and what mends it.

    It changes nothing. What it can find is listed in docs/help.md. Exit code 1 when something is broken, 0
    when there are warnings at most.

    \b
    Examples:
      illume doctor
      illume doctor --project 12 --skip-model
      illume doctor --json | jq '.checks[] | select(.finding)'
    """
    from backend.doctor import Outcome

    checks = _examined(project_id, model=not skip_model)
    if as_json:
        made = list(checks)
        whole = all(check.outcome is not Outcome.FAILED for check in made)
        click.echo(json.dumps({"ok": whole, "checks": [check.to_json() for check in made]}, indent=1))
    else:
        whole = _told(checks)
    if not whole:
        sys.exit(1)


def _examined(project_id: int | None, *, model: bool) -> Iterator[Check]:
    from backend.doctor import Check, examine, opened

    with opened() as service:
        if isinstance(service, Check):
            yield service
        else:
            yield from examine(service, model=model, project_id=project_id, say=_say)


def _told(checks: Iterable[Check]) -> bool:
    """Write each check as it comes; returns whether none failed."""
    from backend.doctor import Outcome

    failed = warned = 0
    for check in checks:
        _say("")
        click.echo(f"{_mark(check.outcome)}  {check.name}: {plain(check.detail)}")
        if check.finding:
            click.echo(f"{_INDENT}{check.finding.label}: {check.why}")
            click.echo(f"{_INDENT}-> {plain(check.todo)}")
        failed += check.outcome is Outcome.FAILED
        warned += check.outcome is Outcome.WARNING
    if failed:
        click.echo(f"{failed} of the checks failed.", err=True)
    else:
        click.echo("Everything needed works." + (f" ({warned} warnings)" if warned else ""))
    return not failed


def _mark(outcome: Outcome) -> str:
    text = "FAILED" if outcome == "failed" else outcome.value
    return click.style(f"{text:7}", fg=_COLOURS[outcome.value])


def _say(what: str) -> None:
    """On a terminal, what is looked at at this moment; it takes the place of what was said before."""
    if sys.stderr.isatty():
        text = f"looking at {what} ..." if what else ""
        click.echo(f"\r\033[K{text}", nl=False, err=True)
