"""What goes into a run's folder and comes out of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from illume_plugin.errors import RunError
from illume_plugin.examples import (
    Condition,
    ContrastExample,
    FeedbackExample,
    LabelledRationale,
    PairSource,
    PreferencePair,
)
from illume_plugin.training import RunResult, RunSpec, TrainConfig, read_result, read_spec, write_spec
from illume_plugin.training.spec import ERROR_FILE, RESULT_FILE, SPEC_FILE, write_json
from illume_plugin.types import EvaluationReport, JudgedTask, Metric, TrainingRow, TrainingSet

SET = TrainingSet(
    project_id=4,
    rows=(
        TrainingRow(1, "/a.png", "was ist das?", "größer", "weil …", 0.5),
        TrainingRow(2, "/b.png", "q", "a"),
    ),
    held_out=(JudgedTask(3, "/c.png", "q", "a", ("yes", "so"), ("no",)),),
    content_hash="h",
)
SPEC = RunSpec("base", None, "v0000", SET, {f"/{x}.png": f"local/{x}" for x in "abc"}, TrainConfig(rank=4), 7)
REPORT = EvaluationReport(
    "v0000", "h", {"fit_logprob": Metric(-1.0, -2.0, 0.0, 3)}, {"fit_logprob": (1.0, 0.5)}
)
RESULT = RunResult(REPORT, REPORT, 1.5, 2, 3, "hash", {"torch": "2"})


def test_spec_round_trip(tmp_path: Path) -> None:
    write_spec(tmp_path / "runs" / "1", SPEC)
    assert read_spec(tmp_path / "runs" / "1") == SPEC


def test_result_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / RESULT_FILE, asdict(RESULT))
    assert read_result(tmp_path) == RESULT
    assert [path.name for path in tmp_path.iterdir()] == [RESULT_FILE]


@pytest.mark.parametrize("lost", ["/a.png", "/c.png"])
def test_a_picture_without_a_file_is_named_before_anything_starts(tmp_path: Path, lost: str) -> None:
    images = {name: path for name, path in SPEC.images.items() if name != lost}
    with pytest.raises(RunError, match=lost):
        write_spec(tmp_path / "run", RunSpec("base", None, "v0000", SET, images))
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="without a result"):
        read_result(tmp_path)


def test_a_failed_run_gives_its_own_reason(tmp_path: Path) -> None:
    write_json(tmp_path / ERROR_FILE, {"what": "The loss became nan.", "why": "w", "todo": "t"})
    with pytest.raises(RunError) as caught:
        read_result(tmp_path)
    assert (caught.value.what, caught.value.why, caught.value.todo) == ("The loss became nan.", "w", "t")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"base_model": "x"}', '{"training_set": 1, "config": {}}'])
def test_a_damaged_spec_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / SPEC_FILE).write_text(text)
    with pytest.raises(RunError, match=SPEC_FILE):
        read_spec(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"active": 1, "challenger": 2}'])
def test_a_damaged_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULT_FILE).write_text(text)
    with pytest.raises(RunError, match=RESULT_FILE):
        read_result(tmp_path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / RESULT_FILE, {"x": float("nan")})
    assert not (tmp_path / RESULT_FILE).exists()


def test_records_of_every_objective_come_back(tmp_path: Path) -> None:
    task = (1, "/a.png", "q", "a")
    full = replace(
        SET,
        pairs=(PreferencePair(*task, "x", "y", PairSource.BEST, 0.25),),
        labels=(LabelledRationale(*task, "x", desirable=True, weight=0.5, paired=True),),
        feedback=(
            FeedbackExample(
                *task, "x", fits=False, condition=Condition(1, None, 4, "no"), before="y", refinement="z"
            ),
        ),
        contrast=(ContrastExample(*task, "x", ("y", "z"), ("w",), pseudo=True),),
    )
    write_spec(tmp_path / "run", replace(SPEC, training_set=full))
    assert read_spec(tmp_path / "run").training_set == full


def test_the_picture_of_every_record_is_needed(tmp_path: Path) -> None:
    pair = PreferencePair(9, "/pair.png", "q", "a", "x", "y", PairSource.CSR)
    with pytest.raises(RunError, match=r"/pair\.png"):
        write_spec(tmp_path / "run", replace(SPEC, training_set=replace(SET, pairs=(pair,))))


def test_a_spec_from_before_there_were_other_objectives_is_read(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    values = json.loads((tmp_path / SPEC_FILE).read_text())
    for name in ("pairs", "labels", "feedback", "contrast"):
        del values["training_set"][name]
    del values["config"]["objectives"]
    write_json(tmp_path / SPEC_FILE, values)
    assert read_spec(tmp_path) == SPEC
