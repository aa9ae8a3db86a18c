"""illume evaluate, compare."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from backend.cli import main
from backend.cli.opening import open_service, project_option, which_project
from backend.cli.printing import plain

if TYPE_CHECKING:
    from backend.evaluating import Evaluator
    from illume_plugin.evaluation_documents import EvaluationDocument
    from illume_plugin.types import Metric

tasks_option = click.option(
    "--tasks", default=200, show_default=True, type=click.IntRange(1, 100_000), help="Held-out tasks at most."
)
sampled_option = click.option(
    "--sampled",
    default=50,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Of these, the number that rationales are sampled for.",
)


@main.command()
@click.argument("version", required=False)
@project_option
@tasks_option
@sampled_option
@click.option("--json", "as_json", is_flag=True, help="Write the whole document.")
def evaluate(version: str | None, project_id: int | None, tasks: int, sampled: int, *, as_json: bool) -> None:
    """Measure VERSION (default: the one that serves) on the held-out tasks, and keep the document.

    \b
    Examples:
      illume evaluate --project 12
      illume evaluate v0007 --project 12 --tasks 500 --json > v0007.json
    """
    evaluator, active = _evaluator(project_id, tasks, sampled)
    document = evaluator.evaluate(version or active)
    if as_json:
        click.echo(json.dumps(asdict(document), indent=1, ensure_ascii=False))
        return
    click.echo(f"{document.version} on {len(document.tasks)} of {document.held_out} held-out tasks")
    for name, metric in document.metrics.items():
        click.echo(f"  {name:20s} {_figure(metric)}  n={metric.n}")


@main.command()
@click.argument("before")
@click.argument("after")
@project_option
@tasks_option
@sampled_option
@click.option(
    "--texts", default=10, show_default=True, type=click.IntRange(min=0), help="Tasks to show the texts of."
)
def compare(before: str, after: str, project_id: int | None, tasks: int, sampled: int, texts: int) -> None:
    """Compare two versions on the same held-out tasks: figures in pairs, rationales side by side.

    A version that was not evaluated on these tasks yet is evaluated now.

    \b
    Examples:
      illume compare v0006 v0007 --project 12
      illume compare v0000 v0007 --project 12 --texts 50
    """
    from illume_plugin.evaluation_documents import differences

    evaluator, _ = _evaluator(project_id, tasks, sampled)
    one, other = evaluator.evaluation(before), evaluator.evaluation(after)
    click.echo(f"{before} -> {after} on {len(one.tasks)} of {one.held_out} held-out tasks")
    for each in differences(one, other):
        change = f"  change {_figure(each.change, sign='+')}" if each.change else ""
        click.echo(f"  {each.name:20s} {_figure(each.before)} -> {_figure(each.after)}{change}")
    _show_texts(one, other, texts)


def _evaluator(project_id: int | None, tasks: int, sampled: int) -> tuple[Evaluator, str]:
    """(what evaluates versions of the project, the version that serves it)."""
    from backend.evaluating import Evaluator
    from illume_plugin.evaluation import Extent
    from illume_plugin.store import projects

    service = open_service()
    number = which_project(service, project_id)
    service.apply_events()
    with service.store.read() as conn:
        active = projects.get(conn, number).active_version

    def tell(version: str, done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            click.echo(f"{version}: {done}/{total} tasks", err=True)

    return Evaluator(service, number, extent=Extent(tasks, sampled), progress=tell), active


def _figure(metric: Metric, sign: str = "") -> str:
    return f"{metric.value:{sign}.3f} [{metric.low:{sign}.3f}, {metric.high:{sign}.3f}]"


def _show_texts(one: EvaluationDocument, other: EvaluationDocument, limit: int) -> None:
    from itertools import islice

    from illume_plugin.evaluation_documents import side_by_side

    for a, b in islice(side_by_side(one, other), limit):
        click.echo(plain(f"\ntask {a.task.task_id}: {a.task.question} {a.task.answer}"))
        for document, each in ((one, a), (other, b)):
            for text in each.rationales or ("(nothing usable)",):
                click.echo(plain(f"  {document.version}  {text}"))
