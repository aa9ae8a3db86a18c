"""`illume train --dry-run`: what it tells before anything is spent, and what it refuses, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import SELECT
from test_retrain import submitted

from backend.cli import main
from backend.service import Service
from backend.settings import load_settings
from illume_plugin.store import projects, runs

Tick = Callable[[int], Sequence[str]]


@pytest.fixture
def judged(tmp_path: Path, _migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tick], None]:
    """Fills the store of ILLUME_DATA_DIR with 40 tasks of three candidates, ticked as it is told."""
    monkeypatch.setenv("ILLUME_DATA_DIR", str(tmp_path / "data"))

    def fill(ticks: Tick) -> None:
        service = Service(load_settings())
        with service.store.write() as conn:
            projects.put(conn, 2, title="test", label_config=SELECT, now=1.0)
        for task_id in range(1, 41):
            service.receive(submitted(task_id, list(ticks(task_id))))
        service.close()

    return fill


def dry_run(*objectives: str) -> tuple[int, str]:
    asked = [word for each in objectives for word in ("--objective", each)]
    result = CliRunner().invoke(main, ["train", "--dry-run", *asked])
    return result.exit_code, result.output


def some(task_id: int) -> list[str]:
    return [("c1", "c2", "c3")[task_id % 3]]


def test_it_tells_rows_pairs_steps_minutes_and_memory(judged: Callable[[Tick], None]) -> None:
    judged(some)
    code, told = dry_run("dpo=0.1", "kto=0.1")
    assert code == 0, told
    for words in (
        "accepted rationales and",
        "held-out tasks",
        "Objectives: illume ",
        "Preference pairs by what they rest on: fits ",
        "texts an epoch, 5 epochs of about 16 texts a step: about ",
        "GB of memory, by ",
        "Nothing was started (--dry-run).",
    ):
        assert words in told
    service = Service(load_settings())
    with service.store.read() as conn:
        assert runs.recent(conn, 2) == []
    service.close()


@pytest.mark.parametrize(
    ("ticks", "objectives", "words"),
    [
        (lambda _: ["none"], [], "The training set has 0 accepted rationales, a run needs"),
        (lambda _: ["c2"], [], "annotations with a tick have ticked row 2 and no other"),
        (
            lambda _: ["c1", "c2", "c3"],
            ["illume=0", "dress=0", "dpo=1"],
            "No objective that is on has anything to learn from (records: dpo: 0)",
        ),
        (
            lambda _: ["c1", "c2", "c3"],
            ["illume=0", "dress=0", "kto=1"],
            "labelled rationales fit.",
        ),
        (lambda _: ["none"], ["illume=0", "dress=0", "kto=1"], "labelled rationales do not fit."),
    ],
    ids=["nothing ticked", "one row", "no pair", "all fit", "none fits"],
)
def test_what_is_too_thin_or_one_sided_is_refused_with_the_reason(
    judged: Callable[[Tick], None], ticks: Tick, objectives: list[str], words: str
) -> None:
    judged(ticks)
    code, told = dry_run(*objectives)
    assert code == 1
    assert words in told
    assert "Nothing was started" not in told
    assert "Traceback" not in told


def test_fewer_than_a_team_wants_are_refused(
    judged: Callable[[Tick], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILLUME_MINIMUM_ACCEPTED", "300")
    judged(some)
    code, told = dry_run()
    assert code == 1
    assert "accepted rationales, a run needs 300" in told


@pytest.mark.parametrize("objective", ["ppo=1", "dpo", "dpo=-1", "dpo=nan"])
def test_what_is_no_objective_is_refused(judged: Callable[[Tick], None], objective: str) -> None:
    judged(some)
    code, told = dry_run(objective)
    assert code != 0
    assert "dpo" in told
