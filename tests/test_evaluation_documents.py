"""Evaluations as documents: written and read back, compared in pairs, refused where they do not match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from adapter_stores import FIELDS, SharedStore, s3_server, shared_store, staged, store

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

__all__ = ["s3_server", "store"]

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


def at(store: SharedStore, machine: str) -> EvaluationDocuments:
    return EvaluationDocuments(store.machine(machine))


def test_what_one_machine_keeps_comes_back_on_another(store: SharedStore) -> None:
    here, there, one = at(store, "here"), at(store, "there"), document("v0001", 4)
    name = here.put(one)
    assert store.files() == {f"project-2/evaluations/{name}"}, "and nothing half written"
    assert there.find(2, "v0001", one.tasks_hash) == one
    there.put(replace(one, created_at=9.0))
    other = document("v0002", 6)
    there.put(other)
    assert here.every(2) == [other, replace(one, created_at=9.0)]
    assert here.every(3) == []


def test_documents_are_no_versions_and_stay_when_these_go(store: SharedStore, tmp_path: Path) -> None:
    registry, documents = store.machine("here"), at(store, "here")
    documents.put(document("v0001", 4))
    assert registry.versions(2) == []
    made = registry.publish(2, staged(tmp_path / "made"), **FIELDS)
    assert made.version == "v0001"
    registry.remove(2, "v0001")
    registry.sweep(older_than_s=0)
    assert [one.version for one in documents.every(2)] == ["v0001"]


def test_what_is_not_there(store: SharedStore) -> None:
    assert at(store, "here").find(2, "v0007", "abc") is None
    for name in ("../../etc", "v0007/../../x"):
        with pytest.raises(ModelError):
            at(store, "here").find(2, name, "abc")
    for name in ("../v0001-abc.json", "v0001-abc.json/x", "v0001-.json", "meta.json"):
        with pytest.raises(ModelError):
            store.machine("here").document(2, name)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "\x00"])
def test_a_damaged_document_is_an_error(tmp_path: Path, text: str) -> None:
    with shared_store("folder", tmp_path) as shared:
        name = at(shared, "here").put(document("v0001", 4))
        shared.write(f"project-2/evaluations/{name}", text.encode())
        with pytest.raises(BadRequestError, match="cannot be read"):
            at(shared, "here").every(2)


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
