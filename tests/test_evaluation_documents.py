"""Evaluations as documents: written and read back, compared in pairs, refused where they do not match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from illume_plugin.errors import BadRequestError, ModelError
from illume_plugin.evaluated import EvaluatedTask, metrics_of
from illume_plugin.evaluation_documents import (
    EvaluationDocument,
    EvaluationDocuments,
    differences,
    hash_of,
    side_by_side,
)
from illume_plugin.types import JudgedTask

TASKS = [JudgedTask(k, f"/{k}.png", f"q{k}", "a", ("it is red",), ("it is blue",)) for k in range(1, 9)]


def document(version: str, right: int, *, said: tuple[str, ...] = ("it is red",)) -> EvaluationDocument:
    """Of eight tasks the first `right` are answered right; rationales were sampled for the first two."""
    found = [
        EvaluatedTask(
            task,
            "a",
            said if task.task_id <= 2 else (),
            {"answer_accuracy": float(task.task_id <= right)}
            | ({"diversity": 0.25} if task.task_id <= 2 else {}),
        )
        for task in TASKS
    ]
    metrics, outcomes = metrics_of(found)
    return EvaluationDocument(
        project_id=2,
        version=version,
        tasks_hash=hash_of(TASKS),
        held_out=8,
        config={"extent": {"tasks": 200}},
        libraries={"torch": "2"},
        metrics=metrics,
        tasks=tuple(found),
        created_at=float(right),
        outcomes=outcomes,
    )


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    documents, one = EvaluationDocuments(tmp_path), document("v0001", 4)
    path = documents.put(one)
    assert path.parent == tmp_path / "project-2" / "evaluations"
    assert documents.find(2, "v0001", one.tasks_hash) == one
    documents.put(replace(one, created_at=9.0))
    other = document("v0002", 6)
    documents.put(other)
    assert documents.every(2) == [other, replace(one, created_at=9.0)]
    assert documents.every(3) == []
    assert not list(tmp_path.rglob(".*"))


def test_what_is_not_there(tmp_path: Path) -> None:
    assert EvaluationDocuments(tmp_path).find(2, "v0007", "abc") is None
    with pytest.raises(ModelError):
        EvaluationDocuments(tmp_path).find(2, "../../etc", "abc")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
def test_a_damaged_document_is_an_error(tmp_path: Path, text: str) -> None:
    documents = EvaluationDocuments(tmp_path)
    documents.put(document("v0001", 4)).write_text(text, encoding="utf-8")
    with pytest.raises(BadRequestError, match="cannot be read"):
        documents.every(2)


def test_the_hash_is_of_tasks_and_judgements_in_any_order() -> None:
    assert hash_of(TASKS) == hash_of(TASKS[::-1])
    assert hash_of(TASKS) != hash_of(TASKS[1:])
    assert hash_of(TASKS) != hash_of([replace(TASKS[0], unfits=()), *TASKS[1:]])


def test_differences_are_of_pairs() -> None:
    found = {each.name: each for each in differences(document("v0001", 4), document("v0002", 6))}
    accuracy = found["answer_accuracy"]
    assert (accuracy.before.value, accuracy.after.value) == (0.5, 0.75)
    assert accuracy.change is not None
    assert (accuracy.change.value, accuracy.change.n) == (0.25, 8)
    assert 0 <= accuracy.change.low <= 0.25 <= accuracy.change.high <= 1
    assert found["bleu"].change is None, "a figure of all tasks together has no pairs"
    assert found["diversity"].change is not None
    assert found["diversity"].change.high == 0


@pytest.mark.parametrize("other", [{"tasks_hash": "x"}, {"config": {}}])
def test_what_was_measured_otherwise_is_not_compared(other: dict[str, object]) -> None:
    with pytest.raises(BadRequestError, match="v0001 and v0002 cannot be compared"):
        differences(document("v0001", 4), replace(document("v0002", 4), **other))


def test_texts_side_by_side() -> None:
    rows = list(side_by_side(document("v0001", 4), document("v0002", 4, said=())))
    assert [(a.task.task_id, a.rationales, b.rationales) for a, b in rows] == [
        (1, ("it is red",), ()),
        (2, ("it is red",), ()),
    ]
