"""DRESS's control on the picture world: what simulated people say, what is drawn, what is written of it."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

pytest.importorskip("torch")

import dress_control  # noqa: E402
import quality_page  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from dress_control import ARMS, Found, Size, figures, gaps, measure  # noqa: E402
from dress_work import BLAMED, PRAISED, WISHES, Posed, held_out, labelled, preferences  # noqa: E402

from backend.simulate.world import DrawnPictures  # noqa: E402
from illume_plugin.embedded import Reason, rationales  # noqa: E402
from illume_plugin.feedback import build_feedback, condition_text  # noqa: E402
from illume_plugin.types import Metric, Verdict  # noqa: E402

GENERIC, MALFORMED = "Because it is obvious.", "because because red"


@pytest.fixture
def posed(tmp_path: Path) -> Posed:
    return labelled(0, 1, DrawnPictures(tmp_path))[0]


@pytest.fixture
def fitting(posed: Posed) -> str:
    task = posed.world
    return rationales(task.scene, task.question, task.answer, random.Random(0))


def test_people_give_stars_say_what_is_wrong_and_ask_for_a_change(posed: Posed, fitting: str) -> None:
    said = list(preferences(posed, [fitting, GENERIC, MALFORMED]))
    assert [(one.text, one.verdict, one.helpful, one.critique) for one in said if one.turn == 1] == [
        (fitting, Verdict.FITS, 4, "yes"),
        (GENERIC, Verdict.UNFIT, 1, "no"),
        (MALFORMED, Verdict.UNFIT, 1, "no"),
    ]
    assert [(one.before, one.refinement, one.text) for one in said if one.turn == 2] == [
        (GENERIC, WISHES[Reason.GENERIC], fitting),
        (GENERIC, WISHES[Reason.GENERIC], MALFORMED),
        (MALFORMED, WISHES[Reason.MALFORMED], fitting),
        (MALFORMED, WISHES[Reason.MALFORMED], GENERIC),
    ]


def test_what_they_say_becomes_conditions(posed: Posed, fitting: str) -> None:
    said = preferences(posed, [fitting, GENERIC])
    made = build_feedback([posed.request.task], said)
    assert {(one.rationale, condition_text(one.condition), one.before) for one in made} == {
        (fitting, condition_text(PRAISED), ""),
        (GENERIC, condition_text(BLAMED), ""),
        (fitting, condition_text(PRAISED), GENERIC),
    }


@pytest.mark.parametrize(("text", "reason"), [(None, Reason.MALFORMED), (GENERIC, Reason.GENERIC)])
def test_what_did_not_end_is_no_sentence(posed: Posed, text: str | None, reason: Reason) -> None:
    assert posed.reason(text) is reason
    assert reason in WISHES


def test_gaps_are_differences_within_tasks_by_hand() -> None:
    first = {"praised": [1.0, 0.5], "blamed": [0.0, 0.5], "plain": [0.5, 0.5]}
    first |= {"good": [0.5, 0.0], "bad": [0.5, 0.5]}
    second = {"after the wish": [0.5], "drawn again": [0.75], "after another wish": [0.25]}
    found = {name: metric.value for name, metric in gaps(first, second).items()}
    assert found == {
        "Q3_dress_control": 0.5,
        "Q3_dress_stars": -0.25,
        "Q3_dress_asked": 0.25,
        "Q3_dress_refined": -0.25,
        "Q3_dress_wish": 0.25,
    }


def test_nobody_judges_the_tasks_that_are_drawn_for(tmp_path: Path) -> None:
    pictures = DrawnPictures(tmp_path)
    seen, unseen = labelled(3, 5, pictures), held_out(3, 5, pictures)
    assert not {str(each.world.to_json()) for each in seen} & {str(each.world.to_json()) for each in unseen}
    assert not {each.request.image for each in seen} & {each.request.image for each in unseen}


def test_a_small_one_is_measured() -> None:
    found = measure(0, Size(tasks=3, held_out=3, samples=2, epochs=1))
    assert found.feedback > 3
    assert found.steps > 0
    assert ARMS.keys() < found.fit_rates.keys()
    assert all(sum(counted.values()) == 6 for counted in found.reasons.values())
    assert found.reasons.keys() == ARMS.keys()


def found_with(control: float) -> Found:
    metric = Metric(control, control - 0.1, control + 0.1, 20)
    arms = [*ARMS, "drawn again", "after the wish", "after another wish"]
    values = dict.fromkeys(dress_control.WHAT, metric)
    return Found(dict.fromkeys(arms, metric), values, {}, feedback=30, steps=9, seconds=60.0)


def test_the_page_has_a_chapter_on_it(tmp_path: Path) -> None:
    by_seed = {0: found_with(0.3), 1: found_with(-0.5), 2: found_with(-0.4)}
    written: dict[str, Any] = figures(by_seed)
    written["dress"] = {
        "size": asdict(Size()),
        "outcomes": {seed: asdict(found) for seed, found in by_seed.items()},
    }
    path = tmp_path / "dress.json"
    path.write_text(json.dumps(written, allow_nan=False))
    done = CliRunner().invoke(quality_page.main, [str(path), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "results.md").read_text()
    assert "## What is said of a rationale before it is told (DRESS)" in page
    assert "Not reached: fit rate under" in page
    assert "(Q3_dress_control)" in page
    assert "-0.200 [" in page
