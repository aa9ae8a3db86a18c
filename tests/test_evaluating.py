"""Evaluating versions of a project: kept, found again, compared on the command line; the real small model."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from test_retrain import labelled  # noqa: F401 - a fixture

import backend.cli.evaluate
from backend.cli import main
from backend.evaluating import Evaluator
from backend.service import Service
from illume_plugin.errors import BadRequestError, NotFoundError

pytest.importorskip("torch")

from illume_plugin.evaluation import Extent

pytestmark = pytest.mark.torch

Steps = list[tuple[str, int, int]]


@pytest.fixture
def steps() -> Steps:
    return []


@pytest.fixture
def evaluator(labelled: Service, steps: Steps) -> Evaluator:  # noqa: F811
    extent = Extent(tasks=3, sampled=2)
    return Evaluator(labelled, 2, extent=extent, progress=lambda *step: steps.append(step))


def test_a_version_is_evaluated_once_and_then_found(
    evaluator: Evaluator,
    steps: Steps,
    labelled: Service,  # noqa: F811
) -> None:
    one = evaluator.evaluation("v0000")
    assert steps == [("v0000", k, 3) for k in (1, 2, 3)]
    assert {"preference_accuracy", "answer_accuracy", "diversity", "rouge_l", "fit_rate"} <= set(one.metrics)
    # thirty tasks with two of three candidates ticked
    assert one.metrics["fit_rate"].value == pytest.approx(2 / 3)
    assert one.metrics["fit_rate"].n == 90
    assert (len(one.tasks), one.held_out) == (3, len(evaluator.held_out))
    assert evaluator.evaluation("v0000") == one
    assert len(steps) == 3, "the kept one"
    assert labelled.registry.document_names(2) == [f"v0000-{one.tasks_hash[:12]}.json"], (
        "where other machines see it"
    )


def test_a_version_that_is_not_there(evaluator: Evaluator) -> None:
    with pytest.raises(NotFoundError):
        evaluator.evaluate("v0007")


def test_without_held_out_tasks_it_says_so(service: Service, connected: int) -> None:
    with pytest.raises(BadRequestError, match="no held-out tasks"):
        Evaluator(service, 2, extent=Extent(), progress=lambda *_: None)


def test_on_the_command_line(
    labelled: Service,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend.cli.evaluate, "open_service", lambda: labelled)
    few = ["--tasks", "3", "--sampled", "2"]
    told = CliRunner().invoke(main, ["evaluate", *few])
    assert told.exit_code == 0, told.output
    assert "v0000 on 3 of" in told.output
    assert "v0000: 3/3 tasks" in told.output
    compared = CliRunner().invoke(main, ["compare", "v0000", "v0000", *few])
    assert compared.exit_code == 0, compared.output
    assert "change +0.000 [+0.000, +0.000]" in compared.output
    assert compared.output.count("\ntask ") == 2
    whole = CliRunner().invoke(main, ["evaluate", *few, "--json"])
    assert json.loads(whole.stdout)["config"]["extent"] == {"tasks": 3, "sampled": 2, "seed": 0}
